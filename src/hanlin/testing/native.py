"""Compose the reply to a native completion (`POST /completion`): the part of a generation that comes next.

Pure. Stop texts are looked for as llama.cpp does: after every token, the first one that is whole, of several the one
that begins first. While what was made last could become a stop text, nothing leaves, and a streamed answer that reaches
its limit then lacks that text: the server never sends it.
"""

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from hanlin.testing import content as contents
from hanlin.testing import raw, tokens
from hanlin.testing import reply as replying
from hanlin.testing.ask import ANY_TOOL, Ask
from hanlin.testing.content import Tokens
from hanlin.testing.reply import Choice, Chunk, Reply
from hanlin.testing.rules import Rule, value_at
from hanlin.testing.schema import SchemaError

_END: Tokens = ("",)


def compose(rule: Rule, ask: Ask, cached: int = 0, context_tokens: int = 0) -> Reply:
    """Return what the rule generates behind the prompt. `context_tokens` (0: no limit) hold prompt and answer."""
    room = context_tokens - ask.prompt_tokens if context_tokens else None
    choices = tuple(_choice(pass_of(rule, ask, index), ask, index, room) for index in range(ask.n))
    return Reply(choices, replying.counts(choices, ask.prompt_tokens, rule.cached_tokens or cached))


def pass_of(rule: Rule, ask: Ask, index: int = 0) -> tuple[Tokens, ...]:
    """Return all that a model would generate behind the prompt, in groups of tokens: one pass of a generation.

    A pass with a schema is the JSON value that comes next, or one made for the schema where something else would; only
    of an `enum` it is looked at whether the value fits, so that a rule may also say what an engine lets slip. Where
    the schema lets a call stand in place of an answer, a rule that calls makes it.
    """
    answer = msgspec.structs.replace(ask, schema=_without_calls(ask.schema))
    pieces = contents.generation(rule, answer, index)
    whole = _joined(pieces)
    found = raw.rest(whole, ask.said, rule.thinking)
    if found is None and (opened := raw.opened_call(ask.said)) is not None:
        pieces = contents.generation(rule, msgspec.structs.replace(answer, forced=opened or ANY_TOOL), index)
        whole = _joined(pieces)
        found = raw.rest(whole, ask.said)
    left = found if found is not None else raw.otherwise(whole, ask.said)
    if ask.schema is not None:
        value = _constrained(raw.visible(left), answer.schema, calls=answer.schema != ask.schema)
        return tokens.group(value, rule.chunk_tokens)
    if whole.endswith(left):
        return contents.dropped(pieces, len(whole) - len(left))
    return tokens.group(left, rule.chunk_tokens)


def _without_calls(schema: Any) -> Any:
    """Return the schema without its branches that are calls: objects of a name and arguments."""
    branches = schema.get("anyOf", []) if isinstance(schema, Mapping) else []
    kept = [branch for branch in branches if set(value_at(branch, "properties") or ()) != {"name", "arguments"}]
    return {**schema, "anyOf": kept} if 0 < len(kept) < len(branches) else schema


def _constrained(left: str, schema: Any, *, calls: bool) -> str:
    called = left.partition(raw.CALL)[2] if calls and raw.CALL in left else left
    value = raw.value(called)
    members = schema.get("enum") if isinstance(schema, Mapping) else None
    if value is not None and (members is None or msgspec.json.decode(value) in members):
        return value
    try:
        return contents.json_for(schema)
    except SchemaError:
        return left  # what cannot be enforced is dropped, as the server does


def _choice(pieces: tuple[Tokens, ...], ask: Ask, index: int, room: int | None) -> Choice:
    limits = [limit for limit in (ask.max_tokens, room) if limit is not None]
    limit = min(limits, default=None)
    chunks: list[Chunk] = []
    text, left, made = "", 0, 0
    stop_type: Literal["none", "eos", "word", "limit"] = "none"
    word: str | None = None
    for piece in [*pieces, _END] if ask.prompt else []:
        kind: Literal["text", "end"] = "end" if piece is _END else "text"
        within = piece if limit is None else piece[: limit - made]
        for count, token in enumerate(within, 1):
            text += token
            if (word := _whole_stop(text, ask.stop)) is not None:
                within = within[:count]
                break
        made += len(within)
        end = _leaves(text, left if kind == "text" else len(text), ask.stop, word)
        chunks.append(Chunk(kind, within, index, said=text[left:end], made=made))
        left = end
        if word is not None or kind == "end" or made == limit:
            stop_type = "word" if word is not None else "eos" if kind == "end" else "limit"
            break
    truncated = stop_type == "limit" and made == room
    return Choice(tuple(chunks), "stop", stop_type, word or "", truncated)


def _whole_stop(text: str, stops: tuple[str, ...]) -> str | None:
    """Return the stop text that is in the text, of several the one that begins first."""
    found = [(at, nth) for nth, stop in enumerate(stops) if (at := text.find(stop)) >= 0]
    return stops[min(found)[1]] if found else None


def _leaves(text: str, left: int, stops: tuple[str, ...], word: str | None) -> int:
    """Return how much of the text may leave: up to the stop text, or no more than has left while one may have begun."""
    if word is not None:
        return text.index(word)
    begun = any(text.endswith(stop[:size]) for stop in stops for size in range(1, len(stop)))
    return left if begun else len(text)


def _joined(pieces: tuple[Tokens, ...]) -> str:
    return "".join(itertools.chain.from_iterable(pieces))
