"""A tiny deterministic model: calls the tools that a question is about, does sums, repeats, and fills schemas.

For conformance suites, whose questions are made for real models. It knows no question by heart: what it says follows
from the words of the question, of the tools and of the schema.
"""

import ast
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from hanlin.testing import filling, tokens
from hanlin.testing.ask import ANY_TOOL, Ask
from hanlin.testing.filling import Sentence
from hanlin.testing.rules import ToolCall, value_at

_SUM = re.compile(r"(?<![\w.])[-(]*\d+(?:\.\d+)?(?:[\s()]*(?:\*\*|[-+*/×÷])[\s(]*-?\d+(?:\.\d+)?\)*)+")
_SPOKEN = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/", "加": "+", "减": "-"}
_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_NAMED_OPERATORS = {  # how tools call what a sign means
    "+": ("add", "sum", "plus", "加"),
    "-": ("subtract", "minus", "difference", "减"),
    "*": ("multipl", "times", "product", "乘"),
    "/": ("divi", "quotient", "除"),
}
_SEVERAL = re.compile(r"\band\b|以及|和|与|、|;|；")
_REPEAT = re.compile(
    r"(?:\b(?:repeat|echo|say)\b(?:\s+(?:exactly|after me|back|the following|the words?|this:|only))*|重复|复述|说)"
    r"\s*[:：,]?\s*(?P<text>.+)",
    re.IGNORECASE | re.DOTALL,
)
_COUNT = re.compile(r"count\b.*?(\d+)?\s*(?:\bto\b|-)\s*(\d+)|从\s*(\d+)\s*数到\s*(\d+)", re.IGNORECASE)
_NAME = re.compile(r"(?:my name is|i am called|我叫|我的名字是)\s*([\w-]+)", re.IGNORECASE)
_ASKS_NAME = re.compile(r"what(?:'s| is) my name|我叫什么|我的名字", re.IGNORECASE)
_GREETING = re.compile(r"^\W*(?:hello|hi|hey|你好|您好)\b", re.IGNORECASE)
_KEY = re.compile(r"['\"`]([A-Za-z_]\w*)['\"`]")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "the and for with that this from what which when where your you are use using tool tools please value name "
        "about have has can will into how who why get give tell make return returns function description",
    )
)


def calls(ask: Ask) -> tuple[ToolCall, ...]:
    """Return the calls that the last question asks for, or those that must be made; none once there are results."""
    if not ask.tools or (_results(ask) and not ask.forced):
        return ()
    made = [] if _results(ask) else list(_wanted(ask))
    if ask.forced and (not made or ask.forced not in (ANY_TOOL, made[0].name)):
        named = [tool for tool in ask.tools if value_at(tool, "function.name") == ask.forced]
        tool = named[0] if named else max(ask.tools, key=lambda tool: _likeness(tool, ask.question))
        made = [_call(tool, ask.question)]
    return tuple(made)


def text(ask: Ask) -> str:
    """Return an answer in words, or in JSON where a schema asks for it."""
    if ask.schema is not None:
        return json.dumps(_structured(ask), ensure_ascii=False)
    chinese = bool(re.search(r"[\u4e00-\u9fff]", ask.question))
    if results := _results(ask):
        return ("结果是：" if chinese else "The result is: ") + "\n".join(results)
    if sums := [f"{expression} = {value}" for expression, value in _sums(ask.question)]:
        return ", ".join(sums)
    if _ASKS_NAME.search(ask.question) and (names := _NAME.findall("\n".join(_said_by_user(ask)))):
        return f"你叫{names[-1]}。" if chinese else f"Your name is {names[-1]}."
    if counted := _COUNT.search(ask.question):
        first, last = counted[1] or counted[3] or "1", counted[2] or counted[4]
        return ", ".join(str(number) for number in range(int(first), min(int(last), int(first) + 1000) + 1))
    if repeated := _REPEAT.search(ask.question):
        return _unquoted(repeated["text"])
    if _GREETING.search(ask.question):
        return "你好！有什么可以帮您？" if chinese else "Hello! How can I help you today?"
    return f"你说的是：{ask.question}" if chinese else f"You said: {ask.question}"


# Tools


def _wanted(ask: Ask) -> Iterator[ToolCall]:
    """Return the calls that a question is about: of tools written as calls, for each sum, for each of its parts."""
    written = [(tool, found) for tool in ask.tools for found in _written_calls(tool, ask.question)]
    if written:
        yield from (_call(tool, inside, ask.question) for tool, inside in written)
        return
    summing = [(_tool_for(expression, ask.tools), expression) for expression, _ in _sums(ask.question)]
    if any(tool is not None for tool, _ in summing):
        yield from (_call(tool, expression) for tool, expression in summing if tool is not None)
        return
    parts = [(_best(ask.tools, part), part) for part in _SEVERAL.split(ask.question)]
    meant = next((tool for tool, _ in parts if tool is not None), None)
    if meant is None:
        return
    each = [(tool or meant, part) for tool, part in parts if tool is not None or _stands_alone(part, meant)]
    if len(each) < len(parts):
        each = [(meant, ask.question)]
    yield from (_call(tool, part) for tool, part in each)


def _call(tool: Any, said: str, otherwise: str = "") -> ToolCall:
    """Return a call with arguments from what is said, or from `otherwise` where nothing is."""
    parameters = value_at(tool, "function.parameters") or {"type": "object"}
    values = filling.fill(parameters, Sentence(said if said.strip() else otherwise, _words_of(tool)))
    return ToolCall(str(value_at(tool, "function.name")), values)


def _written_calls(tool: Any, question: str) -> list[str]:
    return re.findall(rf"\b{re.escape(str(value_at(tool, 'function.name')))}\(([^)]*)\)", question)


def _tool_for(expression: str, tools: list[Any]) -> Any:
    sign = next((sign for sign in re.findall(r"(?<=[\d)\s])[-+*/]", expression)), "")
    named = [tool for tool in tools if any(word in _words_of(tool).lower() for word in _NAMED_OPERATORS.get(sign, ()))]
    return named[0] if named else None


def _best(tools: list[Any], said: str) -> Any:
    best = max(tools, key=lambda tool: _likeness(tool, said))
    return best if _likeness(best, said) > 0 else None


def _likeness(tool: Any, said: str) -> int:
    """Count the words that a tool's definition shares with what is said; its name counts most."""
    name = str(value_at(tool, "function.name"))
    named = name.lower() in said.lower() or name.replace("_", " ").lower() in said.lower()
    return 100 * named + len(_terms(_words_of(tool)) & _terms(said))


def _stands_alone(part: str, tool: Any) -> bool:
    """Say whether a part that names no tool has a value for the one that was named beside it."""
    return part.strip().istitle() or (len(part.split()) <= 4 and Sentence(part, _words_of(tool)).has_values)


def _words_of(tool: Any) -> str:
    """Return all words of a tool's definition."""
    parameters = value_at(tool, "function.parameters.properties") or {}
    described = [str(one.get("description", "")) for one in parameters.values() if isinstance(one, Mapping)]
    name = str(value_at(tool, "function.name"))
    return " ".join(
        [name.replace("_", " "), str(value_at(tool, "function.description") or ""), *parameters, *described]
    )


def _terms(said: str) -> set[str]:
    """Return what matters of a text: longer words without their ending, and pairs of Chinese characters."""
    words = {re.sub(r"(?:ing|es|s)$", "", word) for word in re.findall(r"[a-z]{3,}", said.lower().replace("_", " "))}
    runs = re.findall(r"[\u4e00-\u9fff]{2,}", said)
    return (words - _COMMON) | {run[at : at + 2] for run in runs for at in range(len(run) - 1)}


def _results(ask: Ask) -> list[str]:
    """Return what tools answered since the last question."""
    results: list[str] = []
    for message in reversed(ask.messages):
        if message.get("role") == "user":
            break
        if message.get("role") == "tool":
            results.insert(0, tokens.text_of(message.get("content")))
    return results


# Words


def _said_by_user(ask: Ask) -> list[str]:
    return [tokens.text_of(one.get("content")) for one in ask.messages if one.get("role") == "user"]


def _structured(ask: Ask) -> Any:
    """Return a value for the schema; any object is one with the keys, or the schema, that the conversation names."""
    wanted = ask.schema
    if isinstance(wanted, Mapping) and wanted.get("type") == "object" and not wanted.get("properties"):
        wanted = _described(ask)
    if wanted is None:
        return {"answer": text(msgspec.structs.replace(ask, schema=None))}
    return filling.fill(wanted, Sentence(ask.question))


def _described(ask: Ask) -> Any:
    said = [tokens.text_of(one.get("content")) for one in ask.messages]
    for content in reversed(said):
        for found in re.finditer(r"\{", content):
            try:
                value, _ = json.JSONDecoder().raw_decode(content[found.start() :])
            except ValueError:
                continue
            if isinstance(value, dict) and isinstance(value.get("properties"), dict):
                return value
    keys = dict.fromkeys(_KEY.findall(ask.question))
    strings: Any = {key: {"type": "string"} for key in keys}
    return {"type": "object", "properties": strings, "required": list(keys)} if keys else None


def _sums(question: str) -> Iterator[tuple[str, str]]:
    """Return the sums in a question, each with its value."""
    for spoken, sign in _SPOKEN.items():
        question = re.sub(rf"(?<=\d)\s*{spoken}\s*(?=[\d(-])", f" {sign} ", question)
    for found in _SUM.findall(question.replace("×", "*").replace("÷", "/")):
        try:
            value = _value(ast.parse(found.strip(), mode="eval").body)
        except (SyntaxError, ValueError, ArithmeticError):
            continue
        yield found.strip(), f"{value:g}" if isinstance(value, float) else str(value)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    raise ValueError("no sum")


def _unquoted(said: str) -> str:
    quoted = re.match(r"[\"'“「](.+?)[\"'”」]", said.strip(), re.DOTALL)
    return quoted[1] if quoted else said.strip().removesuffix(".").removesuffix("。")
