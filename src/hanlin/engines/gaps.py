"""Code with a gap, as engines are shown it: in the tags that the weights learned, or in the contract's own."""

import re
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from hanlin.engines.completions import Pass
from hanlin.engines.manner import Manner, sampled
from hanlin.types import CompletionRequest, Event, Events

_PREFIX, _SUFFIX, _MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
_TELLING = 10  # characters of a line that does not come twice by chance
_TAG = "<|fim_"
"""What every tag of a gap begins with: no answer shows one, whoever wrote it."""


def gap_pass(request: CompletionRequest, manner: Manner, stop: Sequence[str]) -> Pass:
    """Return the pass that fills a gap, or goes on where a plain prompt ends.

    A prefix alone is a gap with nothing behind it: without the tag of the middle, models write what comes behind.
    """
    tags = manner.weights.gaps
    prompt = request.prompt
    ends: tuple[str, ...] = ()
    if request.fills_gap and tags is not None:
        prompt = f"{tags.prefix}{request.prompt}{tags.suffix}{request.suffix or ''}{tags.middle}"
        ends = (*tags.ends, *_end_of_gap(request))
    return Pass(
        prompt=prompt,
        stop=(*stop, *ends),
        limit=request.sampling.max_tokens,
        sampled=sampled(request.sampling, manner.profile),
    )


def _end_of_gap(request: CompletionRequest) -> tuple[str, ...]:
    """Return what a text that has gone beyond its gap says next: the first line behind it, if it is a telling one."""
    lines = (request.suffix or "").split("\n")
    if lines[0].strip() and not request.prompt.endswith("\n"):
        lines = lines[1:]  # the rest of the gap's own line
    line = next((one.rstrip() for one in lines if one.strip()), "")
    return (f"\n{line}",) if len(line.strip()) >= _TELLING else ()


def encode_gap(request: CompletionRequest, manner: Manner, stop: Sequence[str]) -> bytes:
    """Return the body for a server's own completions."""
    prompt = request.prompt
    if request.fills_gap:
        prompt = f"{_PREFIX}{prompt}{_SUFFIX}"
        prompt += f"{request.suffix}{_MIDDLE}" if request.suffix is not None else ""
    body: dict[str, Any] = {
        "model": manner.there(request.model),
        "prompt": prompt,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampled(request.sampling, manner.profile),
    }
    if request.sampling.max_tokens is not None:
        body["max_tokens"] = request.sampling.max_tokens
    if stop:
        body["stop"] = stop
    return msgspec.json.encode(body)


async def within_gap(events: Events, request: CompletionRequest) -> Events:
    """Yield what fills a gap as it comes, up to a line that stands further out than both the gap and what follows it.

    Such a line has left the block that the gap is in: small weights go on with the rest of a file of their own.
    """
    least = _least_indentation(request)
    held = ""
    async with aclosing(events) as bursts:
        async for burst in bursts:
            shown: list[Event] = []
            for event in burst:
                held += event.text
                left = next((line for line in _LINE.finditer(held) if len(line[1]) < least), None)
                open_line = _OPEN_LINE.search(held) if least and event.finish_reason is None else None
                at = left.start() if left else open_line.start() if open_line else len(held)
                text, held = held[:at], held[at:]
                if text:
                    shown.append(Event(text=text))
                if left:
                    yield [*shown, Event(finish_reason="stop")]
                    return
                if not event.is_text:
                    shown.append(msgspec.structs.replace(event, text=""))
            yield shown


_LINE = re.compile(r"\n+([ \t]*)(?=\S)")
_OPEN_LINE = re.compile(r"\n\s*\Z")


def _least_indentation(request: CompletionRequest) -> int:
    """Return how far a line of the gap is indented at least: as its first one, or as what follows if that is less."""
    own = request.prompt.rsplit("\n", 1)[-1]
    following = next((line for line in (request.suffix or "").split("\n")[1:] if line.strip()), "")
    return min(_indentation(own), _indentation(following))


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


async def without_tags(events: Events) -> Events:
    """Yield what fills a gap as it comes, up to where a tag of a gap would follow: there it is over."""
    held = ""
    async with aclosing(events) as bursts:
        async for burst in bursts:
            shown: list[Event] = []
            for event in burst:
                held += event.text
                text, held, ended = _shown(held, ended=event.finish_reason is not None)
                if text:
                    shown.append(Event(text=text))
                if ended:
                    yield [*shown, Event(finish_reason="stop")]
                    return
                if not event.is_text:
                    shown.append(msgspec.structs.replace(event, text=""))
            yield shown


def _shown(text: str, *, ended: bool) -> tuple[str, str, bool]:
    """Return what of a text can be shown, what may become a tag, and whether one has come."""
    at = text.find(_TAG)
    if at >= 0:
        return text[:at], "", True
    kept = 0 if ended else max((size for size in range(1, len(_TAG)) if text.endswith(_TAG[:size])), default=0)
    return text[: len(text) - kept], text[len(text) - kept :], False
