"""The forms in which models write thinking and calls, as rows. Adding a form is adding a row.

Seen in the chat templates and in the parsers of vLLM, SGLang, llama.cpp and ollama, read 2026-10; each row says where.
"""

import re
from collections.abc import Iterable
from itertools import product

import msgspec


class ThinkingForm(msgspec.Struct, frozen=True):
    opens: str
    closes: str


class Tagged(msgspec.Struct, frozen=True):
    """How a call is read whose parameters stand in tags; the values are texts.

    `head` finds the name. `parameter` finds the key and, where there is a second group, whether the value is a string
    ("true") or JSON ("false"). `lines`: a value stands on lines of its own, which are not part of it.
    """

    head: re.Pattern[str]
    parameter: re.Pattern[str]
    value_ends: re.Pattern[str]
    ends: re.Pattern[str]
    lines: bool = False


class Headed(msgspec.Struct, frozen=True):
    """How a call is read that is a head with the name, a separator, and the arguments as JSON.

    `name` finds the name in the head. A head that is `named_later` says nothing: the name is the line after the
    separator.
    """

    separator: str
    name: re.Pattern[str]
    named_later: str = ""


class CallForm(msgspec.Struct, frozen=True):
    """`wraps` are marks around calls, `heads` those in which a call itself begins, `closes` what may stand after one.

    `reads` None: calls are JSON objects with a name and arguments. `sure`: nobody writes the marks but to call a tool.
    `bare`: the heads count outside a wrapping mark too.
    """

    source: str
    wraps: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    reads: Tagged | Headed | None = None
    sure: bool = True
    bare: bool = False


class Mark(msgspec.Struct, frozen=True):
    """One opening mark: `reads` is None for a mark that only wraps."""

    text: str
    sure: bool
    bare: bool
    reads: Tagged | Headed | None = None


THINKING = (
    ThinkingForm("<think>", "</think>"),  # Qwen3, QwQ, DeepSeek, GLM-4.5+, Kimi-K2-Thinking, MiniMax-M2, MiMo
    ThinkingForm("◁think▷", "◁/think▷"),  # Kimi-VL-Thinking, Kimi-Dev
)

_NAME = r"[\w.\-:/]{1,128}"
_KEY = r"[^<>\n\"']{1,128}"

FUNCTION_TAGS = Tagged(
    head=re.compile(rf"<function= ?[\"']?({_NAME})[\"']? ?>"),
    parameter=re.compile(rf"<parameter= ?[\"']?({_KEY})[\"']? ?>"),
    # A forgotten </parameter> is taken for granted only where the next tag stands on its own line, as the template
    # writes it: a value may well be a file about this very markup.
    value_ends=re.compile(r"</parameter>|(?=\n<parameter=)|(?=\n</function>\s{0,8}</tool_call>)"),
    ends=re.compile(r"</function>|</tool_call>|(?=<function=)|(?=<tool_call>)"),
    lines=True,
)
INVOKE_TAGS = Tagged(
    head=re.compile(rf"<invoke name=[\"']?({_NAME})[\"']? ?>"),
    parameter=re.compile(rf"<parameter name=[\"']?({_KEY})[\"']?[^>]{{0,64}}>"),
    value_ends=re.compile(r"</parameter>|(?=\n<parameter name=)|(?=\n</invoke>\s{0,8}</minimax:tool_call>)"),
    ends=re.compile(r"</invoke>|</minimax:tool_call>|</tool_call>|(?=<invoke name=)"),
    lines=True,
)
ARGUMENT_TAGS = Tagged(
    head=re.compile(rf"({_NAME})\s*(?=<arg_key>|</tool_call>)"),
    parameter=re.compile(rf"<arg_key>({_KEY})</arg_key>\s{{0,8}}<arg_value>"),
    value_ends=re.compile(r"</arg_value>"),
    ends=re.compile(r"</tool_call>|(?=<tool_call>)"),
)
_DSML = r"[｜|]{1,2}DSML[｜|]{1,2} ?"
DSML_TAGS = Tagged(
    head=re.compile(rf"<{_DSML}invoke name=\"({_NAME})\" ?>"),
    parameter=re.compile(rf"<{_DSML}parameter name=\"({_KEY})\"(?: string=\"(true|false)\")? ?>"),
    value_ends=re.compile(rf"</{_DSML}parameter>"),
    ends=re.compile(rf"</{_DSML}(?:invoke|function_calls|tool_calls|calls)>|(?=<{_DSML}invoke )"),
)


def _dsml(*names: str, slash: str = "", end: str = ">") -> tuple[str, ...]:
    """Return the spellings of DSML tags: gateways double the bars or write them narrow, V4.1 puts a space after."""
    bars = ("｜", "｜｜", "|", "||")
    return tuple(f"<{slash}{bar}DSML{bar}{space}{name}{end}" for bar, space, name in product(bars, ("", " "), names))


CALLS = (
    CallForm(
        source="Qwen2.5, Qwen3, Hermes 2 Pro, MiMo: tokenizer_config.json; vLLM's hermes parser",
        wraps=("<tool_call>",),
        closes=("</tool_call>",),
    ),
    CallForm(
        source="Qwen2.5-Coder and other small weights in place of <tool_call>: vllm#32926, vllm#33083",
        wraps=("<tools>", "<tool_calls>", "<toolcall>", "<function_call>", "<functioncall>"),
        closes=("</tools>", "</tool_calls>", "</toolcall>", "</function_call>", "</functioncall>"),
        sure=False,
    ),
    CallForm(
        source="Qwen3-Coder, Qwen3.5+: chat_template.jinja; without <tool_call>: ollama#16686, ollama#17742",
        heads=("<function=",),
        closes=("</function>", "</parameter>"),
        reads=FUNCTION_TAGS,
        bare=True,
    ),
    CallForm(
        source="DeepSeek V3, R1 and V3.1: tokenizer_config.json; vLLM's deepseek_v3 and deepseek_v31 parsers",
        wraps=("<｜tool▁calls▁begin｜>",),
        heads=("<｜tool▁call▁begin｜>",),
        closes=("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<｜end▁of▁sentence｜>"),
        reads=Headed("<｜tool▁sep｜>", re.compile(r"\s*([\w.\-/:]+)\s*\Z"), named_later="function"),
        bare=True,
    ),
    CallForm(
        source="DeepSeek V3.2 (function_calls), V4 (tool_calls), V4.1 (calls): their encoding_dsv*.py",
        wraps=_dsml("function_calls", "tool_calls", "calls"),
        heads=_dsml("invoke name=", end=""),
        closes=_dsml("invoke", "function_calls", "tool_calls", "calls", "parameter", slash="/"),
        reads=DSML_TAGS,
        bare=True,
    ),
    CallForm(
        source="Kimi K2, K2.5: docs/tool_call_guidance.md; vLLM's kimi_k2 parser (section also in the singular)",
        wraps=("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"),
        heads=("<|tool_call_begin|>",),
        closes=("<|tool_call_end|>", "<|tool_calls_section_end|>", "<|tool_call_section_end|>"),
        reads=Headed("<|tool_call_argument_begin|>", re.compile(r"\s*(?:functions\.)?([\w.\-/]+)(?::\d+)?\s*\Z")),
        bare=True,
    ),
    CallForm(
        source="GLM-4.5 to 4.7: chat_template.jinja; a name stands in <tool_call>, without a head of its own",
        closes=("</arg_value>",),
        reads=ARGUMENT_TAGS,
    ),
    CallForm(
        source="MiniMax-M2, M2.5: docs/tool_calling_guide.md",
        wraps=("<minimax:tool_call>",),
        heads=("<invoke name=",),
        closes=("</invoke>", "</minimax:tool_call>"),
        reads=INVOKE_TAGS,
    ),
)

FENCES = ("", "json", "tool_call", "tool_calls", "tool", "xml", "plaintext")
"""Languages of a Markdown fence in which small weights put a call."""

NAME_KEYS = ("name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
CALL_KEYS = (*NAME_KEYS, *ARGUMENT_KEYS, "id", "type")
"""The keys of a call in JSON. `function` may also hold the name and the arguments, as in the API."""


def prefixes(marks: Iterable[str]) -> frozenset[str]:
    """Return every proper beginning of the marks: what may still become one."""
    return frozenset(mark[:end] for mark in marks for end in range(1, len(mark)))


def either(marks: Iterable[str]) -> str:
    """Return the pattern of any of the marks, longer ones first."""
    return "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True))


MARKS = {
    text: Mark(text, form.sure, form.bare or text in form.wraps, form.reads if text in form.heads else None)
    for form in CALLS
    for text in (*form.wraps, *form.heads)
}
CLOSES = tuple(dict.fromkeys(mark for form in CALLS for mark in form.closes))
