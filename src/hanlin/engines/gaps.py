"""Code with a gap, as engines are shown it: in the tags that the weights learned, or in the contract's own."""

import re
from collections.abc import Callable, Sequence
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


def within_gap(events: Events, request: CompletionRequest) -> Events:
    """Yield what fills a gap as it comes, up to a line that stands further out than both the gap and what follows it.

    Such a line has left the block that the gap is in: small weights go on with the rest of a file of their own.
    """
    least = _least_indentation(request)
    return _up_to(events, lambda text, ended: _inside(text, least, ended=ended)) if least else events


def without_tags(events: Events) -> Events:
    """Yield what fills a gap as it comes, up to where a tag of a gap would follow: there it is over."""
    return _up_to(events, lambda text, ended: _before_tag(text, ended=ended))


Cut = Callable[[str, bool], tuple[str, str, bool]]
"""Takes what has not been shown yet, and whether it ends there. Returns what of it is shown, what is kept until more
has come, and whether the text is over here."""


async def _up_to(events: Events, cut: Cut) -> Events:
    """Yield events until their text is over; what may belong to its end is kept back."""
    held = ""
    async with aclosing(events) as bursts:
        async for burst in bursts:
            shown: list[Event] = []
            for event in burst:
                text, held, over = cut(held + event.text, event.finish_reason is not None)
                if text:
                    shown.append(Event(text=text))
                if over:
                    yield [*shown, Event(finish_reason="stop")]
                    return
                if not event.is_text:
                    shown.append(msgspec.structs.replace(event, text=""))
            yield shown


_BLANK = re.compile(r"\n\s*")
_LONGEST_BLANK = 1000
"""Characters of an open line that are kept back: weights that write nothing but blanks are not read again and again."""


def _inside(text: str, least: int, *, ended: bool) -> tuple[str, str, bool]:
    """Cut a text in front of a line that is indented less than `least`; a line of blanks is not one yet."""
    for blank in _BLANK.finditer(text):
        if blank.end() == len(text):
            kept = 0 if ended else min(len(text) - blank.start(), _LONGEST_BLANK)
            return text[: len(text) - kept], text[len(text) - kept :], False
        if len(blank[0]) - blank[0].rindex("\n") - 1 < least:
            return text[: blank.start()], "", True
    return text, "", False


def _before_tag(text: str, *, ended: bool) -> tuple[str, str, bool]:
    """Cut a text in front of a tag."""
    at = text.find(_TAG)
    if at >= 0:
        return text[:at], "", True
    kept = 0 if ended else max((size for size in range(1, len(_TAG)) if text.endswith(_TAG[:size])), default=0)
    return text[: len(text) - kept], text[len(text) - kept :], False


def _least_indentation(request: CompletionRequest) -> int:
    """Return how far a line of the gap is indented at least: as its first one, or as what follows if that is less."""
    own = request.prompt.rsplit("\n", 1)[-1]
    following = next((line for line in (request.suffix or "").split("\n")[1:] if line.strip()), "")
    return min(_indentation(own), _indentation(following))


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())
