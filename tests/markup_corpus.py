"""Generations as the families of models write them, and what they mean. Forms as in `hanlin.engines.markup.forms`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from hanlin.engines.markup import Called, CallOpened, Cut, MarkupParser, Piece, Reasoning, Text, Unreadable

TOOLS = ("get_weather", "search_web", "write_file", "list_files")


@dataclass(frozen=True)
class Message:
    """What a generation says, put together. Calls are (name, arguments), ("cut", name, text) or ("unreadable", raw)."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Golden:
    """A generation, and what it says."""

    name: str
    written: str
    message: Message
    thinking: Literal["none", "possible", "open"] = "possible"
    tools: tuple[str, ...] = field(default=TOOLS)
    calls: bool = True

    def parser(self) -> MarkupParser:
        return MarkupParser(tools=self.tools, calls=self.calls, thinking=self.thinking)


def parsed(parser: MarkupParser, pieces: Iterable[str]) -> list[Piece]:
    """Return everything that the parser makes of a generation that comes in these pieces."""
    return [piece for text in pieces for piece in parser.feed(text)] + parser.close()


def put_together(pieces: Iterable[Piece]) -> Message:
    text, reasoning, calls = "", "", list[Any]()
    for piece in pieces:
        match piece:
            case Text():
                text += piece.text
            case Reasoning():
                assert not text
                assert not calls
                reasoning += piece.text
            case Called():
                calls.append((piece.name, json.loads(piece.arguments)))
            case Cut():
                calls.append(("cut", piece.name, piece.arguments))
            case Unreadable():
                calls.append(("unreadable", piece.raw))
            case CallOpened():
                pass
    return Message(text, reasoning, tuple(calls))


def weather(city: str = "杭州", **more: Any) -> tuple[str, dict[str, Any]]:
    return "get_weather", {"city": city, **more}


def hermes(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


HERMES = '{"name": "get_weather", "arguments": {"city": "杭州"}}'
CODER = "<function=get_weather>\n<parameter=city>\n杭州\n</parameter>\n</function>"
PYTHON = 'def greet(name: str) -> str:\n    table = {\n        "name": name,\n    }\n    return f"<b>{table}</b>"\n'
R1 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
V31 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
KIMI = "<|tool_call_begin|>functions.{}:{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
DSML = (
    '<｜DSML｜{outer}>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">杭州</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    '<｜DSML｜invoke name="list_files">\n</｜DSML｜invoke>\n</｜DSML｜{outer}>'
)
MINIMAX = (
    '<minimax:tool_call>\n<invoke name="search_web">\n<parameter name="query_list">["技术", "events"]</parameter>\n'
    '<parameter name="tag">a < b</parameter>\n</invoke>\n<invoke name="list_files">\n</invoke>\n</minimax:tool_call>'
)
GLM = (
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>杭州</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
)

_THINKING = [
    Golden("qwen3 thinks", "<think>\n先想想。\n\n再想。\n</think>\n\n你好！", Message("你好！", "先想想。\n\n再想。")),
    Golden("qwen3 does not think", "<think>\n\n</think>\n\nHello", Message("Hello")),
    Golden("the template opened it", "Hm.\n</think>\n\nYes", Message("Yes", "Hm."), "open"),
    Golden("opened twice", "\n<think>\nHm.\n</think>\nYes", Message("Yes", "Hm."), "open"),
    Golden(
        "deepseek r1 thinks and calls", f"Hm.\n</think>\n{hermes(HERMES)}", Message("", "Hm.", (weather(),)), "open"
    ),
    Golden("cut while thinking", "<think>\nHm. And", Message("", "Hm. And")),
    Golden("cut in the closing mark", "<think>\nHm.</thi", Message("", "Hm.</thi")),
    Golden("cut before the opening mark was whole", " <thi", Message(" <thi")),
    Golden("marks of calls in the thinking", "a <tool_call> b\n</think>c", Message("c", "a <tool_call> b"), "open"),
    Golden("a comparison in the thinking", "a < b </ c\n </think>d", Message("d", "a < b </ c"), "open"),
    Golden("a mark later in the answer", "See <think>x</think>", Message("See <think>x</think>")),
    Golden("not looked for", "<think>x</think>y", Message("<think>x</think>y"), "none"),
    Golden("kimi-vl", "◁think▷想\n◁/think▷答", Message("答", "想")),
    Golden("only white space in between", "Hm</think>\n \n", Message("", "Hm"), "open"),
    Golden("thinking without calls", "<think>a</think>\n{}", Message("{}", "a"), calls=False),
]

_JSON = [
    Golden("qwen2.5", hermes(HERMES), Message(calls=(weather(),))),
    Golden("with a word before", f"我来查一下。\n\n{hermes(HERMES)}", Message("我来查一下。", calls=(weather(),))),
    Golden(
        "several calls",
        hermes(HERMES, '{"name": "list_files", "arguments": {}}', '{"name": "list_files"}'),
        Message(calls=(weather(), ("list_files", {}), ("list_files", {}))),
    ),
    Golden("on one line", f"<tool_call>{HERMES}</tool_call>", Message(calls=(weather(),))),
    Golden("a word after", f"A {hermes(HERMES)}\n\nB\n", Message("AB\n", calls=(weather(),))),
    Golden("white space after", f"{hermes(HERMES)}\n\n", Message(calls=(weather(),))),
    Golden("no closing tag", f"<tool_call>\n{HERMES}", Message(calls=(weather(),))),
    Golden("half a closing tag", f"<tool_call>\n{HERMES}\n</tool_c", Message(calls=(weather(),))),
    Golden("opened twice", f"<tool_call>\n<tool_call>\n{HERMES}\n</tool_call>", Message(calls=(weather(),))),
    Golden("a brace too many", f"<tool_call>\n{HERMES}}}\n</tool_call>", Message(calls=(weather(),))),
    Golden(
        "parameters for arguments",
        hermes('{"name": "get_weather", "parameters": {"city": "杭州"}}'),
        Message(calls=(weather(),)),
    ),
    Golden(
        "arguments first",
        hermes('{"arguments": {"city": "杭州", "name": "x"}, "name": "get_weather"}'),
        Message(calls=(weather(name="x"),)),
    ),
    Golden(
        "arguments as a string",
        hermes(r'{"name": "get_weather", "arguments": "{\"city\": \"a\\\"b\"}"}'),
        Message(calls=(weather('a"b'),)),
    ),
    Golden(
        "as in the API",
        hermes('{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}'),
        Message(calls=(("get_weather", {}),)),
    ),
    Golden("an array", hermes(f"[{HERMES}, {HERMES}]"), Message(calls=(weather(), weather()))),
    Golden("a fence in the tag", hermes(f"```json\n{HERMES}\n```"), Message(calls=(weather(),))),
    Golden("null arguments", hermes('{"name": "list_files", "arguments": null}'), Message(calls=(("list_files", {}),))),
    Golden("an unknown tool", hermes('{"name": "x", "arguments": {}}'), Message(calls=(("x", {}),))),
    Golden(
        "marks in a string",
        hermes(r'{"name": "write_file", "arguments": {"text": "a</tool_call>\n<tool_call>{\"b\": \"}\\\\\"}"}}'),
        Message(calls=(("write_file", {"text": 'a</tool_call>\n<tool_call>{"b": "}\\\\"}'}),)),
    ),
    Golden("<tools>", f"<tools>\n{HERMES}\n</tools>", Message(calls=(weather(),))),
    Golden("<tools> with an array", f"<tools>[{HERMES},{HERMES}]</tools>.", Message(".", calls=(weather(), weather()))),
    Golden("<function_call>", f"好。<function_call>{HERMES}</function_call>", Message("好。", calls=(weather(),))),
    Golden("<toolcall> and no end", f"<toolcall>\n{HERMES}", Message(calls=(weather(),))),
    Golden("a wrong closing tag", f"<tools>\n{HERMES}\n</tool_call>", Message(calls=(weather(),))),
    Golden("python", hermes("{'name': 'get_weather', 'arguments': {'city': '杭州',}}"), Message(calls=(weather(),))),
    Golden("a brace too few", hermes(HERMES[:-2]), Message(calls=(weather(),))),
    Golden("a brace too few and more", f"{hermes(HERMES[:-2], HERMES)}\nx", Message("x", calls=(weather(), weather()))),
    Golden(
        "line ends in a string",
        hermes('{"name": "write_file", "arguments": {"text": "a\n\n  b\n"}}'),
        Message(calls=(("write_file", {"text": "a\n\n  b\n"}),)),
    ),
]

_FENCED = [
    Golden("qwen2.5-coder", f"```json\n{HERMES}\n```", Message(calls=(weather(),))),
    Golden(
        "a word before the fence",
        f"好的：\n```json\n{HERMES}\n```\n稍等。",
        Message("好的：稍等。", calls=(weather(),)),
    ),
    Golden("```tool_call", f"```tool_call\n{HERMES}\n```", Message(calls=(weather(),))),
    Golden("a fence without a language", f"```\n{HERMES}\n```\n", Message(calls=(weather(),))),
    Golden("```xml", f"```xml\n{hermes(HERMES, HERMES)}\n```", Message(calls=(weather(), weather()))),
    Golden("two in a fence", f"```json\n{HERMES}\n{HERMES}\n```", Message(calls=(weather(), weather()))),
    Golden(
        "an array in a fence", f"```json\n[\n  {HERMES},\n  {HERMES}\n]\n```", Message(calls=(weather(), weather()))
    ),
    Golden("two fences", f"```json\n{HERMES}\n```\n\n```json\n{HERMES}\n```", Message(calls=(weather(), weather()))),
    Golden("the bare object", HERMES, Message(calls=(weather(),))),
    Golden("two bare objects", f"{HERMES}\n{HERMES}", Message(calls=(weather(), weather()))),
    Golden("a bare object on a line", f"好的。\n{HERMES}\n完", Message("好的。完", calls=(weather(),))),
    Golden("a fence without an end", f"```json\n{HERMES}", Message(calls=(weather(),))),
    Golden("a brace missing before the fence", f"```json\n{HERMES[:-1]}\n```\nx", Message("x", calls=(weather(),))),
    *(
        Golden(name, text, Message(text))
        for name, text in {
            "a code block": f"Look:\n\n```python\n{PYTHON}```\n\nDone.\n",
            "JSON that is no call": '```json\n{"city": "杭州", "days": [1, 2, {"name": "x"}]}\n```\n',
            "JSON with another name": '```json\n{"name": "Bob", "arguments": {"a": 1}}\n```',
            "JSON without arguments": '{"name": "get_weather", "city": "杭州"}',
            "JSON with a list of arguments": '{"name": "get_weather", "arguments": ["city"]}',
            "JSON with a name and no more": '```\n{"name": "get_weather"}\n```',
            "a list of objects": '[\n  {"name": "Bob"},\n  {"name": "get_weather"}\n]',
            "a list": "[1, 2]\n[3](http://x)\n",
            "braces": "{ return x; }\n{}\n{",
            "a call in a code block": f"```python\ncalls = [\n{HERMES}\n]\n```\n",
            "a call within a line": f"Say {HERMES} then.",
            "an XML file": "```xml\n<project>\n  <tools>\n    <tool/>\n  </tools>\n</project>\n```",
            "fences in text": "Use ``` or `x` or ``.\n``\n````\ncode\n````\n",
            "comparisons": "a<b <c <t <tool <tools x <function=> <function=a b> <|x|> </tool>",
            "an unfinished mark": "x\n\n<tool_c",
            "an unfinished fence": "x\n\n```js",
            "an empty fence": "```json\n```\n\n",
            "white space at the ends": "\n  a  \n\n",
            "nothing but white space": " \n",
            "nothing": "",
        }.items()
    ),
    Golden("no tools are known", HERMES, Message(HERMES), tools=()),
    Golden("calls are not looked for", hermes(HERMES), Message(hermes(HERMES)), calls=False),
]

_TAGGED = [
    Golden("qwen3-coder", f"<tool_call>\n{CODER}\n</tool_call>", Message(calls=(weather(),))),
    Golden("qwen3-coder without its tag", f"Ok\n\n{CODER}\n</tool_call>\n", Message("Ok", calls=(weather(),))),
    Golden(
        "qwen3-coder, two",
        f"<tool_call>\n{CODER}\n</tool_call>\n<tool_call>\n{CODER}\n</tool_call>",
        Message(calls=(weather(), weather())),
    ),
    Golden("qwen3-coder, two in a tag", f"<tool_call>{CODER}\n{CODER}</tool_call>", Message(calls=(weather(),) * 2)),
    Golden(
        "qwen3-coder writes code",
        "<tool_call>\n<function=write_file>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\n"
        f"{PYTHON}\n# </function> <parameter=x>\n\n</parameter>\n</function>\n</tool_call>",
        Message(calls=(("write_file", {"path": "a.py", "text": f"{PYTHON}\n# </function> <parameter=x>\n"}),)),
    ),
    Golden(
        "qwen3-coder forgets an end",
        "<function=f>\n<parameter=a>\n1\n<parameter=b>\n2\n</function>\n</tool_call>",
        Message(calls=(("f", {"a": "1", "b": "2"}),)),
    ),
    Golden("a function with JSON", '<function=f>{"a": 1}</function>', Message(calls=(("f", {"a": 1}),))),
    Golden("a function without parameters", "<function=f>\n</function>", Message(calls=(("f", {}),))),
    Golden("glm-4.5", GLM, Message(calls=(weather(days="3"),))),
    Golden("glm-4.7", GLM.replace("\n", ""), Message(calls=(weather(days="3"),))),
    Golden("glm, two", f"好\n{GLM}\n{GLM}", Message("好", calls=(weather(days="3"),) * 2)),
    Golden("glm without parameters", "<tool_call>list_files\n</tool_call>", Message(calls=(("list_files", {}),))),
    Golden(
        "minimax-m2",
        f"<think>\nHm\n</think>\n\n{MINIMAX}\n",
        Message("", "Hm", (("search_web", {"query_list": '["技术", "events"]', "tag": "a < b"}), ("list_files", {}))),
    ),
    *(
        Golden(f"deepseek {outer}", DSML.format(outer=outer), Message(calls=(weather(days=3), ("list_files", {}))))
        for outer in ("function_calls", "tool_calls")
    ),
    Golden(
        "deepseek v4.1",
        DSML.format(outer="calls").replace("｜DSML｜", "｜DSML｜ "),
        Message(calls=(weather(days=3), ("list_files", {}))),
    ),
    Golden(
        "deepseek through a gateway",
        DSML.format(outer="function_calls").replace("｜", "|"),
        Message(calls=(weather(days=3), ("list_files", {}))),
    ),
]

_HEADED = [
    Golden(
        "deepseek r1",
        "Hm</think>\n<｜tool▁calls▁begin｜>"
        + "\n".join([R1.replace("{}", "get_weather", 1).replace("{}", '{"city": "杭州"}')] * 2)
        + "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        Message("", "Hm", (weather(), weather())),
        "open",
    ),
    Golden(
        "deepseek v3.1",
        "好\n<｜tool▁calls▁begin｜>"
        + V31.format("get_weather", '{"city": "杭州"}')
        + V31.format("list_files", "")
        + "<｜tool▁calls▁end｜>",
        Message("好", calls=(weather(), ("list_files", {}))),
    ),
    Golden("deepseek without the outer mark", V31.format("f", "{}"), Message(calls=(("f", {}),))),
    Golden(
        "kimi k2",
        "好 <|tool_calls_section_begin|>"
        + KIMI.format("get_weather", 0, '{"city": "杭州"}')
        + KIMI.format("list_files", 1, "{}")
        + "<|tool_calls_section_end|>",
        Message("好", calls=(weather(), ("list_files", {}))),
    ),
    Golden(
        "kimi, lines and the section in the singular",
        "<|tool_call_section_begin|>\n" + KIMI.format("f", 10, '\n{"a": "<|x|>"}\n') + "\n<|tool_call_section_end|>\nx",
        Message("x", calls=(("f", {"a": "<|x|>"}),)),
    ),
    Golden(
        "kimi with a quote missing",
        "<|tool_calls_section_begin|>" + KIMI.format("f", 0, '{"a": "b}') + "<|tool_calls_section_end|>x",
        Message(
            "x",
            calls=(
                (
                    "unreadable",
                    '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": "b}',
                ),
            ),
        ),
    ),
]

_BROKEN = [
    Golden(name, written, Message(calls=(outcome,)), tools=("get_weather",))
    for name, written, outcome in [
        ("cut in the arguments", f"<tool_call>\n{HERMES[:-3]}", ("cut", "get_weather", '{"city": "杭州')),
        ("cut after the name", '<tool_call>\n{"name": "f"', ("cut", "f", "")),
        ("cut before the arguments", '<tool_call>\n{"name": "f", "argum', ("cut", "f", "")),
        ("cut after the arguments", f"<tool_call>\n{HERMES[:-1]}", weather()),
        ("cut in the name", '<tool_call>\n{"name": "get_w', ("unreadable", '<tool_call>\n{"name": "get_w')),
        ("cut after the mark", "<tool_call>\n", ("unreadable", "<tool_call>\n")),
        ("cut in a fence", f"```json\n{HERMES[:-2]}", ("cut", "get_weather", '{"city": "杭州"')),
        ("cut in an escape", '{"name": "get_weather", "arguments": "{\\"a\\', ("cut", "get_weather", '{"a')),
        ("coder cut in a value", CODER[:-26], ("cut", "get_weather", '{"city": "杭')),
        ("coder cut in a closing tag", CODER[:-15], ("cut", "get_weather", '{"city": "杭州')),
        ("coder cut between values", CODER[:-12], ("cut", "get_weather", '{"city": "杭州"')),
        ("coder cut after the name", "<function=f>\n", ("cut", "f", "")),
        ("coder cut in the name", "<tool_call>\n<function=f", ("unreadable", "<tool_call>\n<function=f")),
        ("glm cut in a key", GLM[:78], ("cut", "get_weather", '{"city": "杭州"')),
        ("v3.1 cut", V31.format("f", '{"a": 1')[:-15], ("cut", "f", '{"a": 1')),
        ("r1 cut after the name", R1[:43].replace("{}", "f\n"), ("cut", "f", "")),
        ("kimi cut in the head", KIMI[:30], ("unreadable", KIMI[:30])),
        ("dsml cut in JSON", DSML.format(outer="calls")[:165], ("cut", "get_weather", '{"city": "杭州", "days": 3')),
        (
            "no JSON at all",
            "<tool_call>\nhello there\n</tool_call>",
            ("unreadable", "<tool_call>\nhello there\n</tool_call>"),
        ),
        ("nothing in the tag", "<tool_call>\n</tool_call>", ("unreadable", "<tool_call>\n</tool_call>")),
        ("no name", hermes('{"arguments": {}}'), ("unreadable", '<tool_call>\n{"arguments": {}}')),
        (
            "arguments that are no object",
            hermes('{"name": "f", "arguments": [1]}'),
            ("unreadable", '<tool_call>\n{"name": "f", "arguments": [1]}'),
        ),
        (
            "quotes within quotes",
            hermes('{"name": "f", "arguments": {"a": "say "hi" now"}}'),
            ("unreadable", '<tool_call>\n{"name": "f", "arguments": {"a": "say "hi" now"}}'),
        ),
        (
            "a quote missing",
            hermes('{"name": "f", "arguments": {"a": "b}}'),
            ("unreadable", '<tool_call>\n{"name": "f", "arguments": {"a": "b}}'),
        ),
    ]
]

GOLDEN = [*_THINKING, *_JSON, *_FENCED, *_TAGGED, *_HEADED, *_BROKEN]
