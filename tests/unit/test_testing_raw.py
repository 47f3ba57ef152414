"""Which part of a generation comes next, behind what a prompt has of it; and which constraints hold it."""

from typing import Any

import pytest

from hanlin.testing import grammar, raw, templates

THOUGHT = "<think>\n想一想\n</think>\n\n"
CALL = '<tool_call>\n{"name": "go", "arguments": {"a":1}}\n</tool_call>'


@pytest.mark.parametrize(
    ("whole", "said", "left"),
    [
        ("你好", "", "你好"),
        (THOUGHT + "你好", "", THOUGHT + "你好"),
        (THOUGHT + "你好", "<think>\n", "想一想\n</think>\n\n你好"),
        (THOUGHT + "你好", "<think>\n想一", "想\n</think>\n\n你好"),
        (THOUGHT + "你好", "<think>\n想一想\n\n</think>\n\n", "你好"),
        (THOUGHT + "你好", "<think>\n想\n</think>\n\n", "你好"),
        (THOUGHT + "你好", "<think>\n\n</think>\n\n", "你好"),
        (THOUGHT + "你好", "<think>\n\n</think>\n\n你", "好"),
        (THOUGHT + "你好", "<think>\n别的", "\n</think>\n\n你好"),
        ("你好", "<think>\n", "自己\n</think>\n\n你好"),
        ("你好", "<think>\n\n</think>\n\n", "你好"),
        (THOUGHT + "床前明月光，疑是地上霜", "床前明月光，", "疑是地上霜"),
        ("好。\n" + CALL, '好。\n<tool_call>\n{"name": "go", "arguments": ', '{"a":1}}\n</tool_call>'),
        ("好。\n" + CALL, '好。\n<tool_call>\n{"name": "go", "arguments":', ' {"a":1}}\n</tool_call>'),
        ("好。\n" + CALL, '<tool_call>\n{"name": "go", "arguments": {"a":1}', "}\n</tool_call>"),
        ("好。\n" + CALL, "别的", None),
    ],
)
def test_a_generation_goes_on_behind_what_was_said(whole: str, said: str, left: str | None) -> None:
    """A thought may be cut or left out, and calls may be opened by who asks: the next pass must still fit."""
    assert raw.rest(whole, said, "自己") == left


def test_a_call_that_nobody_meant_is_ended_and_anything_else_is_answered() -> None:
    """What a model does with a prefix that is not its own."""
    assert raw.otherwise("你好", '<tool_call>\n{"name": "f", "arguments": {}') == "}\n</tool_call>"
    assert raw.otherwise("你好", '<tool_call>\n{"name": "f", "arguments": {}}') == "\n</tool_call>"
    assert raw.otherwise(THOUGHT + "你好", "别的") == "你好"
    assert raw.otherwise("你好", CALL + "别的") == "你好"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' {"a": "}"}}\n</tool_call>', '{"a": "}"}'),
        ('"go", "arguments"', '"go"'),
        ("[1, 2]", "[1, 2]"),
        ("3 个", None),
        ("你好", None),
        ("", None),
    ],
)
def test_a_json_value_is_taken_to_the_byte(text: str, value: str | None) -> None:
    """Constrained decoding ends where the value does."""
    assert raw.value(text) == value


def test_a_call_that_is_open_is_known_by_its_name() -> None:
    """It was opened for the model: the answer has to be a call of this tool."""
    assert raw.opened_call('<think>\n\n</think>\n\n<tool_call>\n{"name": "go", "arguments": ') == "go"
    assert raw.opened_call('<tool_call>\n{"name": "') == ""
    assert raw.opened_call("好。" + CALL) is None


@pytest.mark.parametrize("template", ["default", "qwen3"])
def test_a_prompt_is_read_back_as_the_conversation_that_it_was_made_from(template: Any) -> None:
    """So a rule for a question takes it over chat and over raw prompts."""
    tools = [{"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}] * 2
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "简短"},
        {"role": "user", "content": "去哪里？"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "go", "arguments": "{}"}}]},
        {"role": "tool", "content": "到了"},
        {"role": "tool", "content": "又到了"},
    ]

    read = templates.read(templates.prompt(template, messages, tools))

    assert read.tools == tools
    assert [message["role"] for message in read.messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [read.messages[nth]["content"] for nth in (1, 3, 4)] == ["去哪里？", "到了", "又到了"]
    assert read.written == ""


def test_a_prompt_without_turns_is_what_the_user_says() -> None:
    """Completions are asked for anything."""
    assert templates.read("从前").messages == [{"role": "user", "content": "从前"}]
    assert templates.read("<tools>[1</tools>" + templates.OPENING).tools == []


def test_the_qwen3_template_has_an_empty_thought_where_thinking_is_off() -> None:
    """As Qwen3's own: without the switch the model decides."""
    messages = [{"role": "user", "content": "hi"}]
    opened = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"

    assert templates.prompt("qwen3", messages) == opened
    assert templates.prompt("qwen3", messages, thinks=True) == opened
    assert templates.prompt("qwen3", messages, thinks=False) == opened + "<think>\n\n</think>\n\n"
    begun = [*messages, {"role": "assistant", "content": "H"}]
    assert templates.prompt("qwen3", begun, thinks=False, continued=True) == opened + "H"


def test_the_qwen3_template_writes_tools_calls_and_results_as_qwen_does() -> None:
    """The text that b11549 makes of the template of Qwen2.5, which Qwen3's agrees with there."""
    prompt = templates.prompt(
        "qwen3",
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]},
            {"role": "tool", "content": "42"},
        ],
        [{"type": "function", "function": {"name": "f"}}],
    )

    assert prompt == (
        "<|im_start|>system\nS\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "f"}}\n</tools>\n\n'
        "For each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call><|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("text", "parses"),
    [
        ('root ::= "a"', True),
        ('x ::= "("\nroot ::= (x | [(])', True),
        ("root ::= (((", False),
        ('foo ::= "a"', False),
        ("%llguidance {}\nstart: (((", True),
    ],
)
def test_a_grammar_without_a_root_or_with_open_brackets_is_none(text: str, parses: bool) -> None:
    """Seen at b11549, which refuses these, but not what is for the other grammar engine."""
    assert grammar.parses(text) == parses


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strange"},
        {"$ref": "#/nowhere"},
        {"not": {"type": "string"}},
        {"type": "array", "uniqueItems": False},
        {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}},
        {"anyOf": [{"type": "string", "pattern": "(?=x)y"}]},
        {"type": "string", "pattern": r"\bx\b"},
        {"enum": []},
        {"type": "integer", "minimum": 5, "maximum": 1},
        False,
        "text",
    ],
)
def test_a_schema_is_dropped_whole_for_what_cannot_be_enforced(schema: Any) -> None:
    """Seen at b11549: 200, and an answer that nothing constrains."""
    assert not grammar.enforces(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": ["string", "null"], "format": "date", "title": "T", "x-unknown": 1},
        {"$ref": "#/$defs/x", "$defs": {"x": {"const": {"not": 1}}}},
        {"type": "object", "properties": {"not": {"type": "string"}, "format": {"enum": ["uri"]}}},
        {"type": "string", "pattern": r"^\d{2}$", "minLength": 2},
    ],
)
def test_other_schemas_are_enforced(schema: Any) -> None:
    """Names of properties and values are no keywords."""
    assert grammar.enforces(schema)
