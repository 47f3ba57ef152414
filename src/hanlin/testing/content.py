"""Say what a rule has to say to a request: its thinking, its text and its calls, before any limit or stop text."""

import itertools
from typing import Any

import msgspec

from hanlin.testing import mind, raw, schema, templates, tokens
from hanlin.testing.ask import ANY_TOOL, Ask
from hanlin.testing.rules import Rule, ToolCall, value_at

Tokens = tuple[str, ...]


class Content(msgspec.Struct, frozen=True):
    """What is said. `pieces` are the groups of tokens that the text leaves in."""

    thinking: str
    pieces: tuple[Tokens, ...]
    calls: tuple[ToolCall, ...]

    @property
    def text(self) -> str:
        return "".join(itertools.chain.from_iterable(self.pieces))


def of(rule: Rule, ask: Ask, index: int) -> Content:
    """Return what the rule says in the choice of this number. Raises SchemaError when it needs a schema in vain."""
    calls = _calls(rule, ask)
    if not ask.parallel and not rule.parallel_anyway:
        calls = calls[:1]
    return Content(_thinking(rule, ask), tuple(_pieces(rule, ask, index, answers=not calls)), calls)


def generation(rule: Rule, ask: Ask, index: int) -> tuple[Tokens, ...]:
    """Return the whole generation as the model itself writes it, in groups of tokens, markup included."""
    if rule.raw is not None:
        return tokens.group(rule.raw, rule.chunk_tokens)
    content = of(rule, ask, index)
    thought = ask.said.lstrip().startswith(raw.THOUGHT) or not rule.thinks_when_asked
    thinking = raw.thought(content.thinking) if content.thinking and thought else ""
    calls = [templates.call(call.name, arguments(call, ask)) for call in content.calls]
    between = "\n" if content.pieces and calls else ""
    return (
        *tokens.group(thinking, rule.chunk_tokens),
        *content.pieces,
        *tokens.group(between + "\n".join(calls), rule.chunk_tokens),
    )


def arguments(call: ToolCall, ask: Ask) -> str:
    """Return the arguments of a call as text, made for the tool's schema where the call has none."""
    if isinstance(call.arguments, str):
        return call.arguments
    if call.arguments is not None:
        return msgspec.json.encode(call.arguments).decode()
    for tool in ask.tools:
        if value_at(tool, "function.name") == call.name:
            return json_for(value_at(tool, "function.parameters") or {"type": "object"})
    return "{}"


def json_for(wanted: Any) -> str:
    """Return JSON that a schema accepts. Raises SchemaError where there is none."""
    return msgspec.json.encode(schema.example(wanted)).decode()


def dropped(pieces: tuple[Tokens, ...], size: int) -> tuple[Tokens, ...]:
    """Return what is left of the pieces without their first `size` characters."""
    left: list[Tokens] = []
    for piece in pieces:
        text = "".join(piece)
        if size < len(text):
            left.append(piece if size <= 0 else tuple(tokens.split(text[size:])))
        size -= len(text)
    return tuple(left)


def _calls(rule: Rule, ask: Ask) -> tuple[ToolCall, ...]:
    """Return the calls: the rule's, else of the tool that must be called, else what the rule's manner comes to.

    A `json_schema` rule calls the tool that the request names, or else its first one.
    """
    if rule.tool_calls or rule.raw is not None:
        return rule.tool_calls
    if rule.smart:
        return mind.calls(ask)
    if ask.forced not in ("", ANY_TOOL):
        return (ToolCall(ask.forced),)
    must = ask.native and ask.forced == ANY_TOOL
    if ask.tools and (must or (rule.json_schema and ask.schema is None)):
        return (ToolCall(str(value_at(ask.tools[0], "function.name"))),)
    return ()


def _thinking(rule: Rule, ask: Ask) -> str:
    if ask.native:
        return rule.thinking
    if ask.said.strip() or (rule.thinks_when_asked and not ask.thinks):
        return ""
    return "".join(tokens.split(rule.thinking)[: ask.thinking_budget])


def _pieces(rule: Rule, ask: Ask, index: int, *, answers: bool) -> tuple[Tokens, ...]:
    """Return the text behind what was said already. A reply that calls tools needs no text."""
    if rule.raw is not None:
        pieces = tokens.group(rule.raw, rule.chunk_tokens)
    elif ask.forced and not rule.tool_calls and not answers:
        return ()
    elif rule.chunks:
        pieces = tuple(tuple(tokens.split(text)) for text in rule.chunks if text)
    else:
        pieces = tokens.group(_text(rule, ask, index, answers=answers), rule.chunk_tokens)
    if ask.native or not ask.said:
        return pieces
    whole = "".join(itertools.chain.from_iterable(pieces))
    found = raw.rest(whole, ask.said)
    return pieces if found is None or not whole.endswith(found) else dropped(pieces, len(whole) - len(found))


def _text(rule: Rule, ask: Ask, index: int, *, answers: bool) -> str:
    if rule.texts:
        return rule.texts[index % len(rule.texts)]
    if rule.text is not None:
        return rule.text
    if rule.echo:
        return ask.question
    if not answers:
        return ""
    if rule.smart:
        return mind.text(ask)
    if rule.json_schema and not (ask.native and ask.schema is None):  # some passes of a generation have none
        if ask.schema is None:
            raise schema.SchemaError("the rule says json_schema, but the request has neither a schema nor tools")
        return json_for(ask.schema)
    return f"我是{ask.model}，你说的是：{ask.question[:20]}"
