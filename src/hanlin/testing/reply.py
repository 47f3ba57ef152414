"""Compose a reply: from a request and the rule that takes it to the chunks that are generated, choice by choice.

Pure. Streamed and unstreamed answers are both made of these chunks, so they cannot differ. Frames, pace and faults are
the business of others.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from hanlin.testing import content as contents
from hanlin.testing import tokens
from hanlin.testing.ask import Ask
from hanlin.testing.content import Content
from hanlin.testing.rules import Rule


class Chunk(msgspec.Struct, frozen=True):
    """What a model generates in one go: the tokens of some thinking, some answer, a call's name or its arguments.

    Of a native completion: the last chunk of an answer that ends by itself is its `end`, `said` is the text that leaves
    with the chunk, and `made` the number of tokens by then.
    """

    kind: Literal["thinking", "text", "call", "arguments", "end"]
    tokens: tuple[str, ...]
    choice: int = 0
    call: int = 0
    said: str = ""
    made: int = 0

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class Choice(msgspec.Struct, frozen=True):
    """One whole answer. Its chunks come in the order thinking, text, calls.

    Of a native completion: its chunks hold the stop text too, and `truncated` says that the context was full.
    """

    chunks: tuple[Chunk, ...]
    finish_reason: str | None
    stop_type: Literal["none", "eos", "word", "limit"] = "none"
    stopping_word: str = ""
    truncated: bool = False

    @property
    def thinks(self) -> bool:
        return bool(self.chunks) and self.chunks[0].kind == "thinking"

    @property
    def calls(self) -> bool:
        return bool(self.chunks) and self.chunks[-1].kind in ("call", "arguments")

    def text(self, kind: str) -> str:
        """Return all generated text of a kind."""
        return "".join(chunk.text for chunk in self.chunks if chunk.kind == kind)


class Counts(msgspec.Struct, frozen=True):
    """Tokens of a reply; `completion` includes `reasoning`, `prompt` includes `cached`."""

    prompt: int
    completion: int
    reasoning: int
    cached: int


class Reply(msgspec.Struct, frozen=True):
    """All that is generated for a request."""

    choices: tuple[Choice, ...]
    counts: Counts

    def in_order(self) -> Iterator[Chunk]:
        """Return the chunks as they leave: the choices take turns."""
        if len(self.choices) == 1:
            return iter(self.choices[0].chunks)
        turns = itertools.zip_longest(*(choice.chunks for choice in self.choices))
        return (chunk for turn in turns for chunk in turn if chunk is not None)

    def until(self, chunk_count: int) -> "Reply":
        """Return the reply as far as its first chunks go: unfinished choices, and the tokens made so far."""
        made = list(itertools.islice(self.in_order(), chunk_count))
        choices = tuple(
            Choice(tuple(chunk for chunk in made if chunk.choice == index), None) for index in range(len(self.choices))
        )
        return Reply(choices, counts(choices, self.counts.prompt, self.counts.cached))


def compose(rule: Rule, ask: Ask, cached: int = 0) -> Reply:
    """Return what the rule generates for the request. Raises SchemaError when it needs a schema and there is none.

    `cached` are the prompt tokens that were read before, where the rule does not say.
    """
    choices = tuple(_choice(rule, ask, index) for index in range(ask.n))
    return Reply(choices, counts(choices, ask.prompt_tokens, rule.cached_tokens or cached))


def counts(choices: Iterable[Choice], prompt: int, cached: int) -> Counts:
    """Count the tokens of choices, and of the prompt only those that it has."""
    sizes = [(chunk.kind, len(chunk.tokens)) for choice in choices for chunk in choice.chunks]
    return Counts(
        prompt=prompt,
        completion=sum(size for _, size in sizes),
        reasoning=sum(size for kind, size in sizes if kind == "thinking"),
        cached=min(cached, prompt),
    )


def _choice(rule: Rule, ask: Ask, index: int) -> Choice:
    content = contents.of(rule, ask, index)
    kept, stopped = _until_stop(list(content.pieces), ask.stop)
    chunks: Iterable[Chunk] = [
        *(Chunk("thinking", group, index) for group in tokens.group(content.thinking, rule.chunk_tokens)),
        *(Chunk("text", group, index) for group in kept),
    ]
    if not stopped:
        chunks = itertools.chain(chunks, _call_chunks(content, rule, ask, index))
    within, reached = _within(chunks, ask.max_tokens)
    natural = "length" if reached else "stop" if stopped or not content.calls else "tool_calls"
    return Choice(tuple(within), rule.finish_reason or natural)


def _until_stop(pieces: list[tuple[str, ...]], stop: tuple[str, ...]) -> tuple[list[tuple[str, ...]], bool]:
    """Cut the pieces before the first stop text in them, and say whether there was one."""
    if not stop:
        return pieces, False
    text = "".join(itertools.chain.from_iterable(pieces))
    end = min((at for at in map(text.find, stop) if at >= 0), default=-1)
    if end < 0:
        return pieces, False
    kept: list[tuple[str, ...]] = []
    for piece in pieces:
        whole = "".join(piece)
        kept.append(tuple(tokens.split(whole[:end])) if len(whole) > end else piece)
        end -= len(whole)
        if end <= 0:
            break
    return [piece for piece in kept if piece], True


def _within(chunks: Iterable[Chunk], limit: int | None) -> tuple[list[Chunk], bool]:
    """Cut the chunks at so many tokens, and say whether the limit was reached before they ended."""
    if limit is None:
        return list(chunks), False
    kept: list[Chunk] = []
    for chunk in chunks:
        if len(chunk.tokens) > limit:
            # A call's name is one word to whoever reads it: it comes whole or not at all.
            if limit > 0 and chunk.kind != "call":
                kept.append(msgspec.structs.replace(chunk, tokens=chunk.tokens[:limit]))
            return kept, True
        kept.append(chunk)
        limit -= len(chunk.tokens)
    return kept, False


def _call_chunks(content: Content, rule: Rule, ask: Ask, index: int) -> Iterator[Chunk]:
    for number, call in enumerate(content.calls):
        yield Chunk("call", tuple(tokens.split(call.name)), index, number)
        for group in tokens.group(contents.arguments(call, ask), rule.chunk_tokens):
            yield Chunk("arguments", group, index, number)
