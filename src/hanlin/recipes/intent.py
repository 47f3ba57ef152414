"""tongyi-intent-detect: a tag out of a list, or a call of a tool, in the exact words that its clients take apart.

The system message says which (spec/scenarios.md §4). A decision is a short JSON object that the base is held to; what
the caller reads is written from it here, so that it is always within the grammar and never outside what was offered.
"""

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

from hanlin import schemas
from hanlin.catalogue.models import Model
from hanlin.errors import InvalidRequest
from hanlin.recipes.grounding import Heard, is_quoted, is_said, squeezed
from hanlin.recipes.intent_asks import Mode, OfferedTool, Wish, wish_of
from hanlin.recipes.intent_replies import NO_INTENT, IntentCall, bare, earlier, plain_text, with_intent
from hanlin.recipes.languages import language_of
from hanlin.recipes.likeness import likeliest, likeness, terms
from hanlin.recipes.recipe import Base, Desk, Recipe
from hanlin.recipes.saying import prompt_within, said
from hanlin.recipes.shaped import Unfit, greedy, value_of
from hanlin.types import ChatRequest, Events, Message, Schema

MOST_OFFERED = 30
"""Tags or tools that the base is shown at once; of more, the likeliest."""

NO_TOOL = "none_of_these"
_NO_TOOL = "small talk, thanks, or something that none of these is for"

_MOST_TOOLS, _MOST_CALLS, _HINTS = 3, 5, 4
_DECISION_TOKENS, _QUESTION_TOKENS, _REPLY_TOKENS = 256, 64, 128
_LONGEST_QUOTE, _LONGEST_QUESTION = 60, 120


def _check(request: ChatRequest, _model: Model) -> None:
    """Its tools stand in the prompt; the vendor does not say what becomes of others."""
    if request.tools and request.tool_choice.mode != "none":
        raise InvalidRequest("The tool call is not supported.", param="tools")


async def _run(request: ChatRequest, desk: Desk) -> Events:
    base = desk.base
    prompt_tokens = await prompt_within(base, request, desk.model)
    wish = wish_of(request.messages)
    reply = await _reply(wish, request, base)
    if reply is None:
        async for burst in base.stream(request):
            yield burst
        return
    async for burst in said(reply, request, base, prompt_tokens):
        yield burst


async def _reply(wish: Wish, request: ChatRequest, base: Base) -> str | None:
    """Return what is replied; None where the prompt is one like any."""
    if wish.mode is Mode.TAG and wish.tags:
        return await _tag(wish.tags, request, base)
    if wish.mode in (Mode.INTENT_AND_CALL, Mode.CALL):
        calls, tags, content = await _decided(wish, request, base)
        return with_intent(calls, tags, content) if wish.mode is Mode.INTENT_AND_CALL else bare(calls, content)
    return None


def _inner(request: ChatRequest, messages: Sequence[Message], max_tokens: int) -> ChatRequest:
    return request.changed(
        messages=tuple(messages),
        sampling=greedy(max_tokens, request.sampling.seed),
        tools=(),
        shape=None,
        logprobs=False,
        top_logprobs=0,
        asks={},
    )


def _said_by_user(messages: Sequence[Message], most: int | None = None) -> str:
    texts = [message.text for message in messages if message.role == "user"]
    return "\n".join(texts if most is None else texts[-most:])


# --- the choice among what is offered


async def _choice(
    offers: Mapping[str, str], what: str, most: int, request: ChatRequest, base: Base
) -> Sequence[str] | None:
    """Return the names of what the user wants, at most so many; None where the base does not say.

    The list stays in its order, so that an engine need not read it again for the next utterance. What shares words
    with this one is repeated behind it: without, the small weights choose right in 23 of 29 cases, with it in 27.
    """
    asked = _said_by_user(request.messages, 2)
    lines = [f"{name}: {described}" for name, described in offers.items()]
    shown = "\n".join(lines)
    system = (
        f"You sort what users say. Choose the {what} that says what the user wants; compare all of them first.\n"
        f"{shown}\n"
        f'Reply with JSON: {{"chosen": [the {what}]}}.'
    )
    alike = {line: share for line in lines if (share := likeness(asked, line))}
    first = sorted(alike, key=lambda line: -alike[line])[:_HINTS]
    hint = "\n\nLook at these first:\n" + "\n".join(first) if first else ""
    dialogue = [_as_said(message) for message in request.messages if message.role in ("user", "assistant")]
    last = Message("user", (dialogue[-1].text if dialogue else "") + hint)
    schema: Schema = {
        "type": "object",
        "properties": {
            "chosen": {
                "type": "array",
                "items": {"type": "string", "enum": list(offers)},
                "minItems": 1,
                "maxItems": most,
            }
        },
        "required": ["chosen"],
        "additionalProperties": False,
    }
    wanted = _inner(request, [Message("system", system), *dialogue[:-1], last], _DECISION_TOKENS)
    try:
        value = await value_of(base, wanted, schema, "choice")
    except Unfit:
        return None
    return list(dict.fromkeys(value["chosen"]))


def _as_said(message: Message) -> Message:
    """Return a turn of the dialogue as it was meant: a reply without its marks."""
    if message.role != "assistant":
        return message
    reply = earlier(message.text)
    return Message("assistant", reply.content or msgspec.json.encode(reply.calls).decode())


def _likest(offers: Mapping[str, str], asked: str) -> str:
    return max(offers, key=lambda name: likeness(asked, f"{name} {offers[name]}"))


async def _fewer(offers: Mapping[str, str], request: ChatRequest, base: Base) -> dict[str, str]:
    """Return what may be meant, at most as many as are shown at once."""
    names = list(offers)
    texts = [f"{name.replace('_', ' ')}: {offers[name]}" for name in names]
    kept = await likeliest(base, _said_by_user(request.messages, 2), texts, MOST_OFFERED)
    return {names[at]: offers[names[at]] for at in kept}


async def _tag(tags: Mapping[str, str], request: ChatRequest, base: Base) -> str:
    """Return the key that fits best."""
    offers = await _fewer(tags, request, base)
    if len(offers) == 1:
        return next(iter(offers))
    chosen = await _choice(offers, "tag", 1, request, base)
    return chosen[0] if chosen else _likest(offers, _said_by_user(request.messages, 2))


# --- calls


async def _decided(wish: Wish, request: ChatRequest, base: Base) -> tuple[tuple[IntentCall, ...], str, str]:
    """Return the calls that the user wants, or the tags and the text of an answer without any."""
    if not wish.tools:  # nothing that could be read as a list: the base reads the prompt as it is
        result = await base.answer(_inner(request, request.messages, _DECISION_TOKENS))
        return (), NO_INTENT, result.choices[0].text
    tools = {tool.name: tool for tool in wish.tools}
    offers = await _fewer({name: tool.description for name, tool in tools.items()}, request, base)
    chosen = await _choice({**offers, NO_TOOL: _NO_TOOL}, "tool", _MOST_TOOLS, request, base) or ()
    calls: list[IntentCall] = []
    for tool in (tools[name] for name in chosen if name in offers):
        if len(calls) >= _MOST_CALLS:
            break
        for arguments in await _arguments(tool, request, base):
            missing = [name for name in tool.required if name not in arguments]
            if missing or schemas.problem(arguments, tool.parameters) is not None:
                missing = missing or [*tool.required, *arguments][:1]
                return (), tool.name.replace("_", " "), await _question(tool, missing, request, base)
            if (call := IntentCall(tool.name, arguments)) not in calls:
                calls.append(call)
    if calls:
        return tuple(calls[:_MOST_CALLS]), "", ""
    return (), NO_INTENT, await _small_talk(request, base)


async def _small_talk(request: ChatRequest, base: Base) -> str:
    """Return a short answer to what no tool is for."""
    language = language_of(_said_by_user(request.messages, 1))
    system = f"You are a helpful assistant. Answer in {language.name}, in one or two short sentences."
    dialogue = [_as_said(message) for message in request.messages if message.role in ("user", "assistant")]
    result = await base.answer(_inner(request, [Message("system", system), *dialogue], _REPLY_TOKENS))
    return plain_text(result.choices[0].text) or language.sorry


async def _arguments(tool: OfferedTool, request: ChatRequest, base: Base) -> list[dict[str, Any]]:
    """Return the arguments of each call of a tool that the user wants; what was not said is left out of them."""
    if not tool.properties:
        return [{}]
    row = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    system = (
        "Take the arguments for this tool out of what the user says; null stands for what the user has not said.\n"
        f"{msgspec.json.encode(row).decode()}\n"
        'Reply with JSON: {"calls": [arguments]}, one entry unless the user wants it done for several things.'
    )
    gaps = _with_gaps(tool.parameters)
    dialogue = [_as_said(message) for message in request.messages if message.role in ("user", "assistant")]
    wanted = _inner(request, [Message("system", system), *dialogue], _DECISION_TOKENS)
    try:
        value = await value_of(base, wanted, _list_of(gaps), "arguments", _list_of({**gaps, "required": []}))
    except Unfit:
        return [{}]
    heard = Heard(_said_by_user(request.messages))
    rows = [row for at, row in enumerate(value["calls"]) if row not in value["calls"][:at]]
    return [await _grounded(tool, arguments, heard, request, base) for arguments in rows]


def _list_of(arguments: Schema) -> Schema:
    """Return the schema of calls: no fewer than one, no more than are made at once."""
    return {
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                "items": schemas.moved(arguments, "#/properties/calls/items"),
                "minItems": 1,
                "maxItems": _MOST_CALLS,
            }
        },
        "required": ["calls"],
        "additionalProperties": False,
    }


def _with_gaps(parameters: Schema) -> Schema:
    """Return the schema of arguments of which any may be null: what was not said need not be made up."""
    if b'"#/properties' in msgspec.json.encode(parameters):
        return parameters  # references into what would be moved
    gaps = {name: {"anyOf": [part, {"type": "null"}]} for name, part in parameters.get("properties", {}).items()}
    return {**parameters, "properties": gaps, "additionalProperties": False}


async def _grounded(
    tool: OfferedTool, arguments: Mapping[str, Any], heard: Heard, request: ChatRequest, base: Base
) -> dict[str, Any]:
    """Return the arguments that the user has said, and the defaults of required ones that he has not."""
    known = {name: value for name, value in arguments.items() if value is not None and value != ""}
    defaults = {name: part["default"] for name, part in tool.properties.items() if _has_default(part)}
    whole = {squeezed(message.text) for message in request.messages if message.role == "user"}
    doubtful = [
        name
        for name, value in known.items()
        if name in tool.properties
        and value != defaults.get(name, ...)
        and (not is_said(value, heard) or _is_the_order_itself(value, tool, whole))
    ]
    if doubtful:
        quotes = await _quotes(tool, doubtful, request, base)
        own = terms(tool.words)
        for name in doubtful:
            quote = quotes.get(name, "")
            # Words of the tool itself ("weather") say what is wanted, not of where; a whole message says neither.
            if is_quoted(quote, heard) and terms(quote) - own and squeezed(quote) not in whole:
                known[name] = _believed(known[name], quote, tool.properties[name])
            else:
                del known[name]
    for name in tool.required:
        if name not in known and name in defaults:
            known[name] = defaults[name]
    fitted = schemas.fitted(known, tool.parameters)
    return fitted if isinstance(fitted, dict) else known


def _is_the_order_itself(value: Any, tool: OfferedTool, whole: Set[str]) -> bool:
    """Say whether a value is a whole message that speaks of the tool: not what is to be done, but that it is."""
    return squeezed(str(value)) in whole and bool(likeness(str(value), f"{tool.name} {tool.description}"))


def _believed(value: Any, quote: str, part: Any) -> Any:
    """Return a value that the user said in other words, or those words where nothing asks for others.

    A date, a translation and one of a few values are other words for what was said; other texts should be the user's.
    """
    free = (
        isinstance(value, str)
        and isinstance(part, Mapping)
        and not part.keys() & {"enum", "const", "pattern", "format"}
    )
    same_script = language_of(str(value)) == language_of(quote)
    return quote if free and same_script and not _DATE_OR_TIME.search(str(value)) else value


_CLAUSE_END = re.compile(r"[，。；,;(（]|\. |\.$")
_DATE_OR_TIME = re.compile(r"\d{4}-\d{1,2}|\d{1,2}:\d{2}")


def _has_default(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("default") is not None


async def _quotes(tool: OfferedTool, names: Sequence[str], request: ChatRequest, base: Base) -> Mapping[str, str]:
    """Return the user's own words for each parameter, as the base finds them."""
    lines = "\n".join(f"{name}: {_described(tool, name)}" for name in names)
    system = (
        "Quote, word for word, what the user said about each of these. Where the user said nothing about it, the "
        f"quote is empty.\n{lines}"
    )
    spoken = "\n".join(message.text for message in request.messages if message.role == "user")
    schema: Schema = {
        "type": "object",
        "properties": {name: {"type": "string", "maxLength": _LONGEST_QUOTE} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }
    wanted = _inner(request, [Message("system", system), Message("user", spoken)], _DECISION_TOKENS)
    try:
        quotes: Mapping[str, str] = await value_of(base, wanted, schema, "quotes")
    except Unfit:
        return {}
    return quotes


def _described(tool: OfferedTool, name: str) -> str:
    part = tool.properties.get(name)
    description = part.get("description") if isinstance(part, Mapping) else None
    return str(description or name.replace("_", " "))


async def _question(tool: OfferedTool, missing: Sequence[str], request: ChatRequest, base: Base) -> str:
    """Return a question for what is missing, in the user's language: the base's own where it is one."""
    language = language_of(_said_by_user(request.messages, 1))
    described = [_CLAUSE_END.split(_described(tool, name))[0] for name in missing]
    system = (
        f"Ask the user, in {language.name}, in one short sentence, for what is missing to do this: "
        f"{tool.description or tool.name}. Missing: {'; '.join(described)}."
    )
    dialogue = [Message("user", message.text) for message in request.messages if message.role == "user"]
    result = await base.answer(_inner(request, [Message("system", system), *dialogue[-1:]], _QUESTION_TOKENS))
    question = plain_text(result.choices[0].text)
    if _is_question(question) and language_of(question) == language:
        return question
    return language.ask(described)


def _is_question(text: str) -> bool:
    return "\n" not in text and len(text) <= _LONGEST_QUESTION and text.endswith(("?", "？"))


INTENT = Recipe("intent", _run, check=_check)

__all__ = ["INTENT", "MOST_OFFERED"]
