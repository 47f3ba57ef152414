"""What models write becomes thinking, text and calls: one table of generations by family, and the rules about them."""

import json
from typing import Any

import pytest

from hanlin.engines.markup import (
    Called,
    CallOpened,
    Cut,
    MarkupParser,
    Piece,
    Reasoning,
    Text,
    Unreadable,
    coerced,
    repaired,
)
from tests.markup_corpus import DSML, GOLDEN, HERMES, KIMI, PYTHON, R1, TOOLS, V31, Golden, parsed, put_together


def parser(**options: Any) -> MarkupParser:
    return MarkupParser(tools=TOOLS, calls=True, **options)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_generation_means_the_same_whole_and_by_the_character(golden: Golden) -> None:
    """The unstreamed answer and the streamed one must not differ, whatever the engine's tokens are."""
    assert put_together(parsed(golden.parser(), [golden.written])) == golden.message
    assert put_together(parsed(golden.parser(), golden.written)) == golden.message


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_a_call_is_announced_once_before_it_comes(golden: Golden) -> None:
    """The caller numbers calls when they open; a second opening would be a second call."""
    opened: list[str] = []
    for piece in parsed(golden.parser(), golden.written):
        match piece:
            case CallOpened(name, certain):
                assert not (opened and certain)
                opened = [name]
            case Called(name) | Cut(name):
                assert opened == [name]
                opened = []
            case Unreadable() | Text():
                opened = []


def test_text_streams_as_it_comes() -> None:
    """Held back is only what may be the beginning of a mark, or white space in front of one."""
    stream = parser()

    said = [
        stream.feed(text)
        for text in ("你", "好", "，a", " <", "b> ", "and", "\n", "  `", "`x", "```", " {", "}\n", "{x")
    ]

    assert [[piece.text for piece in pieces if isinstance(piece, Text)] for pieces in said] == [
        ["你"], ["好"], ["，a"], [], [" <b>"], [" and"], [], [], ["\n  ``x"], ["```"], [" {"], ["}"], ["\n{x"]
    ]  # fmt: skip


def test_a_code_block_streams() -> None:
    """Somebody watches it being written; only the language decides whether it may be a call."""
    stream = parser()
    tokens = ["```", "python", *(f"\n{line}" for line in PYTHON.splitlines()), "\n```"]

    said = [stream.feed(token) for token in tokens]

    assert said == [[], [Text("```python")], *([Text(token)] for token in tokens[2:])]


@pytest.mark.parametrize(
    ("written", "released"),
    [
        ('```json\n{"ci', '```json\n{"ci'),
        ('```json\n{"name": "Bo', '```json\n{"name": "Bo'),
        ('{"name": "get_weather", "x', '{"name": "get_weather", "x'),
        ('{"name": "get_weather", "arguments": [', '{"name": "get_weather", "arguments": ['),
        ('{"name": {', '{"name": {'),
        ('```json\n[\n  "', '```json\n[\n  "'),
        ("```jsx", "```jsx"),
        ('[{"name": "get_', ""),
        ("<tools>\n  <x", "<tools>\n  <x"),
    ],
)
def test_json_is_text_as_soon_as_it_cannot_be_a_call(written: str, released: str) -> None:
    """Answers in JSON are many, calls without marks are few."""
    stream = parser()

    pieces = [piece for character in written for piece in stream.feed(character)]

    assert put_together(pieces).text == released


def test_without_calls_nothing_is_held_back() -> None:
    """A request without tools pays nothing for them."""
    stream = MarkupParser(thinking="none")

    assert [stream.feed(text) for text in ("a\n", "<tool_call>", " ")] == [
        [Text("a\n")],
        [Text("<tool_call>")],
        [Text(" ")],
    ]
    assert stream.close() == []


def test_reasoning_streams_without_the_white_space_around_it() -> None:
    """Trailing line ends belong to the mark, unless more thinking follows them."""
    stream = parser(thinking="open")

    said = [stream.feed(text) for text in ("\n", "Hm", ".\n", "\n", "So", " </", "b>", "\n</think", ">\n", "\nYes")]

    assert said == [
        [],
        [Reasoning("Hm")],
        [Reasoning(".")],
        [],
        [Reasoning("\n\nSo")],
        [],
        [Reasoning(" </b>")],
        [],
        [],
        [Text("Yes")],
    ]


@pytest.mark.parametrize(
    ("written", "certain"),
    [
        ('```json\n{"name": "get_weather", ', False),
        ('好的。\n\n{"type": "function", "name": "get_weather"', False),
        ('[{"function": {"name": "get_weather", ', False),
        ('<tools>\n{"name": "get_weather", "arguments": {"city', False),
        ('<tool_call>\n{"name": "get_weather", ', True),
        ('<tool_call>\n{"name": "get_weather", "arguments": "{', True),
        ("<｜tool▁calls▁begin｜>" + R1.replace("{}", "get_weather", 1).partition("{}")[0], True),
        (V31.format("get_weather", "").partition("<｜tool▁call▁end")[0], True),
        (KIMI.format("get_weather", 0, '{"city').partition("<|tool_call_end")[0], True),
    ],
)
def test_the_open_call_is_known_as_soon_as_its_name_is(written: str, certain: bool) -> None:
    """An engine that is stopped there can be made to write arguments that fit the tool's schema."""
    for pieces in ([written], list(written)):
        stream = parser()

        said = [piece for text in pieces for piece in stream.feed(text)]

        assert said[-1] == CallOpened("get_weather", certain)
        assert stream.open_call == "get_weather"


@pytest.mark.parametrize(
    "written",
    [
        "",
        '```json\n{"name": "get_wea',
        '```json\n{"name": "unknown", ',
        '```json\n{"name": "get_weather", "city": ',
        '<tool_call>\n{"arguments": {"name": "get_weather", ',
        HERMES[:-1],
        HERMES,
        "<function=get_weather>\n<parameter=body>\n",
        "".join(f"```python\n{HERMES[:30]}"),
    ],
)
def test_no_call_is_open_where_nobody_could_write_its_arguments(written: str) -> None:
    """Not before its name, not after its arguments, not in forms that are no JSON, not in text."""
    stream = parser()
    stream.feed(written)

    assert stream.open_call is None
    with pytest.raises(ValueError, match="no call is open"):
        stream.call_done()


@pytest.mark.parametrize(
    ("written", "closing"),
    [
        ('```json\n{"name": "get_weather", ', "}\n```"),
        ('```json\n{"name": "get_weather", "arguments": ', "}\n```\n"),
        ('```json\n[{"name": "get_weather", ', "}]\n```"),
        ('{"name": "get_weather", ', "}"),
        ('{"name": "get_weather", ', ""),
        ('<tool_call>\n{"name": "get_weather", ', "}\n</tool_call>"),
        ('<tool_call>\n{"function": {"name": "get_weather", ', "}}\n</tool_call>"),
        ('```xml\n<tool_call>\n{"name": "get_weather", ', "}\n</tool_call>\n```"),
        (
            "<｜tool▁calls▁begin｜>" + R1.replace("{}", "f", 1).partition("{}")[0],
            "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
        (KIMI.format("f", 0, "{").partition("{")[0], "<|tool_call_end|><|tool_calls_section_end|>"),
    ],
)
def test_after_a_call_was_taken_over_its_closing_marks_are_swallowed(written: str, closing: str) -> None:
    """The engine goes on behind the arguments that it was made to write, and closes what it opened."""
    for tail in ([closing + "\n\n完"], list(closing + "\n\n完")):
        stream = parser()
        stream.feed(written)
        stream.call_done()

        after = [piece for text in tail for piece in stream.feed(text)] + stream.close()

        assert put_together(after).text == "完"
        assert stream.open_call is None


def test_another_call_may_follow_one_that_was_taken_over() -> None:
    """Parallel calls come in one generation."""
    stream = parser()
    stream.feed('<tool_call>\n{"name": "get_weather", ')
    stream.call_done()

    assert stream.feed('}\n</tool_call>\n<tool_call>\n{"name": "list_files", ') == [CallOpened("list_files")]
    assert stream.open_call == "list_files"


def test_a_whole_call_comes_before_its_closing_mark() -> None:
    """Nothing is gained by waiting for it, and small models forget it."""
    assert parser().feed(f"<tool_call>{HERMES}")[-1] == Called("get_weather", '{"city": "杭州"}')


def test_arguments_are_as_the_model_wrote_them() -> None:
    """Reordering or respacing them would change what a later turn's prompt says the model had said."""
    written = '{ "b":1.0,\n "a": "\\u676d" }'

    pieces = parser().feed('<tool_call>{"name": "f", "arguments": ' + written + "}")

    assert pieces[-1] == Called("f", written)


def test_values_in_tags_are_flagged_as_texts_unless_the_form_gives_their_type() -> None:
    """DeepSeek's tags say what is a string; the others leave it to the schema."""
    tagged = parser().feed("<function=f>\n<parameter=n>\n1\n</parameter>\n</function>")[-1]
    typed = parser().feed(DSML.format(outer="calls"))[-3]

    assert tagged == Called("f", '{"n": "1"}', texts=True)
    assert typed == Called("get_weather", '{"city": "杭州", "days": 3}', texts=False)


def test_pieces_are_texts_of_the_generation_only_once() -> None:
    """`close` gives what was held back, and nothing that was given before."""
    stream = parser()

    pieces: list[Piece] = [*stream.feed("a\n"), *stream.feed("b\n"), *stream.close()]

    assert pieces == [Text("a"), Text("\nb"), Text("\n")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, 2, ], }', {"a": [1, 2]}),
        ('{"a": {"b": [1', {"a": {"b": [1]}}),
        ('{"a": 1, ', {"a": 1}),
        ('{"a": "x\n\ty"}', {"a": "x\n\ty"}),
        ("{'a': 'it\\'s', 'b': None, 'c': True}", {"a": "it's", "b": None, "c": True}),
        ('{\'a\': "it\'s", "b": \'say "hi"\'}', {"a": "it's", "b": 'say "hi"'}),
        ("{'a': true}", {"a": True}),
        ("{'a': 'x\ny\\n'}", {"a": "x\ny\n"}),
        ('{"a": "True, }"}', {"a": "True, }"}),
        ('{"a": "unended', None),
        ('{"a": "say "hi" now"}', None),
        ("{'a': 'it's'}", None),
        ("{'a': '\\d'}", None),
        ('{"a": [1}', None),
        ('{"a": NaN}', None),
        ('{"a": "\\ud800"}', None),
        ("{a: 1}", None),
        ("hello", None),
        ("", None),
        ("[" * 100_000, None),
        ("{'a': " * 5_000, None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_json_is_mended_only_where_one_reading_is_possible(text: str, value: Any) -> None:
    """A call with guessed arguments is worse than one that is refused."""
    assert repaired(text) == value


SCHEMA = {
    "type": "object",
    "properties": {
        "string": {"type": "string"},
        "integer": {"type": "integer"},
        "number": {"type": "number"},
        "boolean": {"type": "boolean"},
        "array": {"type": "array", "items": {"type": "string"}},
        "object": {"type": "object"},
        "nullable": {"type": ["string", "null"]},
        "any_of": {"anyOf": [{"type": "integer"}, {"type": "array"}, {"type": "string"}]},
        "enum": {"enum": ["1", 2, "x", None]},
        "reference": {"$ref": "#/$defs/count"},
        "endless": {"$ref": "#/properties/endless"},
        "anything": {},
    },
    "$defs": {"count": {"type": "integer"}},
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("string", "42", "42"),
        ("string", "true", "true"),
        ("string", "null", "null"),
        ("integer", "42", 42),
        ("integer", " -7\n", -7),
        ("integer", "5.0", 5),
        ("integer", "5.5", "5.5"),
        ("integer", "many", "many"),
        ("number", "2.50", 2.5),
        ("number", "3", 3),
        ("number", "1e400", "1e400"),
        ("number", "nan", "nan"),
        ("boolean", "True", True),
        ("boolean", "false", False),
        ("boolean", "yes", "yes"),
        ("array", '["a", 1]', ["a", 1]),
        ("array", "['a',]", ["a"]),
        ("array", "a, b", "a, b"),
        ("object", '{"a": {"b": null}}', {"a": {"b": None}}),
        ("object", "[1]", "[1]"),
        ("nullable", "null", None),
        ("nullable", "x", "x"),
        ("any_of", "5", 5),
        ("any_of", "[5]", [5]),
        ("any_of", "five", "five"),
        ("enum", "1", "1"),
        ("enum", "2", 2),
        ("enum", "null", None),
        ("enum", "3", "3"),
        ("reference", "3", 3),
        ("endless", "3", 3),
        ("anything", "[3]", [3]),
        ("unknown", '{"a": 1}', {"a": 1}),
        ("unknown", '"quoted"', '"quoted"'),
        ("unknown", "杭州", "杭州"),
    ],
)
def test_a_text_becomes_what_the_schema_of_its_parameter_says(name: str, text: str, value: Any) -> None:
    """A string that looks like a number stays one; what is of no type in question is left for the check to find."""
    (result,) = coerced({name: text}, SCHEMA).values()

    assert (type(result), result) == (type(value), value)


@pytest.mark.parametrize("schema", [None, {}, {"properties": []}, {"properties": {"n": 5}}])
def test_without_a_schema_what_reads_as_json_is_json(schema: Any) -> None:
    """A tool may be declared without parameters, or with nonsense."""
    assert coerced({"n": "1", "s": "x", "kept": 2}, schema) == {"n": 1, "s": "x", "kept": 2}


@pytest.mark.parametrize("depth", [10, 100_000])
def test_deep_nesting_breaks_nothing(depth: int) -> None:
    """A model in a loop must not bring the service down."""
    arguments = '{"a": ' + "[" * depth + "]" * depth + "}"

    pieces = parser().feed('<tool_call>{"name": "f", "arguments": ' + arguments + "}</tool_call>")

    assert isinstance(pieces[-1], Called if depth == 10 else Unreadable)


def test_long_arguments_come_whole() -> None:
    """Files are written through arguments."""
    text = json.dumps({"name": "write_file", "arguments": {"text": "x = 1\n" * 20_000}})
    stream = parser()

    pieces = [piece for at in range(0, len(text), 40) for piece in stream.feed(text[at : at + 40])]

    assert [type(piece) for piece in pieces] == [CallOpened, Called]
