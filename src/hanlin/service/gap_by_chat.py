"""Fill a gap in code by a model that never learned to: it is shown both sides, and what it says is fitted in between.

Models that chat write fences, explanations, and again what stands around the gap. Of at most three answers the first
counts with which the whole can be read: Python by its own parser, anything else by its brackets. Without one, it is
the shortest (spec/scenarios.md §7.5).
"""

import ast
import re
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from hanlin.types import ChatRequest, CompletionRequest, Event, Events, Message, Usage

CANDIDATES = 3

_LONGEST_PARSED = 200_000
_LEAST_OVERLAP = 3  # characters: a shared brace or space is no repetition
_FENCE = re.compile(
    r"^[ \t]*(?:```|~~~)[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_INLINE = re.compile(r"\A\s*`([^`\n]+)`\s*\Z")
_PYTHON = re.compile(
    r"^[^\S\n]*+(?:def \w+\(|class \w+.*:|import \w|from \w[\w.]* import |elif |if .*:\s*$|for .* in .*:\s*$)",
    re.MULTILINE,
)
_BRACES = re.compile(r"[{;]\s*$", re.MULTILINE)
_PAIRS = {")": "(", "]": "[", "}": "{"}

_TASK = (
    "You complete code. The user shows you code with a gap. Write only the text that belongs into the gap: no "
    "explanation, no fence, and nothing of what stands before or behind it."
)


async def fill_by_chat(request: CompletionRequest, generate: Callable[[ChatRequest], Events]) -> Events:
    """Yield the text that fills a gap, in one piece, and the usage of all that was written for it."""
    made: list[tuple[str, str | None]] = []
    usage = Usage()
    for number in range(CANDIDATES):
        text, reason = "", None
        async with aclosing(generate(_asked(request, number))) as bursts:
            async for burst in bursts:
                for event in burst:
                    text += event.text
                    reason = event.finish_reason or reason
                    usage = _with(usage, event.usage) if event.usage is not None else usage
                yield []
        made.append((fitted(text, request), reason))
        if reason == "length" or can_be_read(made[-1][0], request):
            chosen = made[-1]
            break
    else:
        chosen = min((one for one in made if one[0].strip()), key=lambda one: len(one[0]), default=made[0])
    text, reason = chosen
    text, stopped = _before_stops(text, request.sampling.stop)
    if text:
        yield [Event(text=text)]
    yield [Event(finish_reason="stop" if stopped else reason)]
    yield [Event(usage=usage)]


def _asked(request: CompletionRequest, number: int) -> ChatRequest:
    behind = request.suffix or ""
    shown = f"<before>\n{request.prompt}\n</before>\n<gap/>\n"
    shown += f"<behind>\n{behind}\n</behind>" if behind.strip() else "Nothing stands behind the gap."
    sampling = request.sampling
    drawn = msgspec.structs.replace(
        sampling,
        stop=(),  # they are the gap's, not those of what is written around it
        temperature=min(sampling.temperature or 0.0, 0.2) if number == 0 else max(sampling.temperature or 0.0, 0.6),
        presence_penalty=0.0,
        repetition_penalty=1.0,
        seed=((sampling.seed or 0) + number) % 2**31,
    )
    return ChatRequest(request.model, (Message("system", _TASK), Message("user", shown)), drawn, stream=True)


def _with(usage: Usage, more: Usage) -> Usage:
    """Count every answer, and the prompt once."""
    return msgspec.structs.replace(
        more, prompt=usage.prompt or more.prompt, completion=usage.completion + more.completion
    )


def _before_stops(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    at = min((found for stop in stops if stop and (found := text.find(stop)) >= 0), default=-1)
    return (text, False) if at < 0 else (text[:at], True)


# --- what a model says, as what belongs into the gap


def fitted(text: str, request: CompletionRequest) -> str:
    """Return the text for the gap within what a model said: without fences, and without what stands around it."""
    text = _without_fence(text).replace("<gap/>", "")
    at = text.find("<|fim_")
    text = text if at < 0 else text[:at]
    before, behind = request.prompt, request.suffix or ""
    return _indented(_without_end(_without_beginning(text, before), behind), before)


def _without_fence(text: str) -> str:
    found = _FENCE.search(text)
    if found is not None:
        return found["code"].removesuffix("\n")
    inline = _INLINE.match(text)
    return inline[1] if inline else text


def _without_beginning(text: str, before: str) -> str:
    """Take away what repeats the end of the prefix: its last lines, or a part of its last line."""
    bare = text.lstrip("\n")
    if (size := _overlap(before, bare)) >= _LEAST_OVERLAP:
        return bare[size:]
    # A line that the prefix has only begun is often written again from its first word on.
    begun = before.rsplit("\n", 1)[-1].strip()
    stripped = bare.lstrip()
    if len(begun) >= _LEAST_OVERLAP and stripped.startswith(begun):
        return stripped[len(begun) :]
    return text


def _without_end(text: str, behind: str) -> str:
    """Take away what repeats the beginning of the suffix; also where the suffix begins with a line end."""
    for start in (behind, behind.lstrip()):
        if (size := _overlap(text, start)) >= _LEAST_OVERLAP and start[:size].strip():
            return text[: len(text) - size]
    return text


def _overlap(text: str, following: str) -> int:
    """Return how much of the end of a text is the beginning of what follows: the most, in one pass over both.

    `shorter[n]` is the next longest beginning that the first n + 1 characters of `following` end with.
    """
    following = following[: len(text)]
    shorter = [0] * len(following)
    size = 0
    for at in range(1, len(following)):
        while size and following[at] != following[size]:
            size = shorter[size - 1]
        size += following[at] == following[size]
        shorter[at] = size
    size = 0
    for mark in text[len(text) - len(following) :]:
        while size and mark != following[size]:
            size = shorter[size - 1]
        size += mark == following[size]
    return size


def _indented(text: str, before: str) -> str:
    """Put the first line where the prefix leaves off: behind an indentation that is there, or on a line of its own."""
    last = before.rsplit("\n", 1)[-1]
    if last.strip():
        return text
    if last:
        first, line_end, rest = text.lstrip("\n").partition("\n")
        lead = first[: len(first) - len(first.lstrip())]
        if lead or not _is_at_margin(first, rest, last):
            return first.lstrip() + line_end + rest
        return first + line_end + _moved(rest, last)
    return text.lstrip("\n")


def _is_at_margin(first: str, rest: str, indentation: str) -> bool:
    """Say whether lines were written as if the first of them had no indentation."""
    depths = [len(line) - len(line.lstrip()) for line in rest.split("\n") if line.strip()]
    opens = first.rstrip().endswith((":", "{", "(", "["))
    return bool(depths) and (min(depths) < len(indentation) or (opens and depths[0] <= len(indentation)))


def _moved(lines: str, by: str) -> str:
    """Indent lines that were written as if they stood at the margin."""
    return "\n".join(f"{by}{line}" if line.strip() else line for line in lines.split("\n"))


# --- whether the whole can be read


def can_be_read(text: str, request: CompletionRequest) -> bool:
    """Say whether the code is whole with this in its gap."""
    if not text.strip():
        return False
    code = f"{request.prompt}{text}{request.suffix or ''}"
    return _parses(code) if is_python(request) and len(code) <= _LONGEST_PARSED else _balances(code)


def is_python(request: CompletionRequest) -> bool:
    around = f"{request.prompt}\n{request.suffix or ''}"
    return bool(_PYTHON.search(around)) and not _BRACES.search(around)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _balances(code: str) -> bool:
    """Say whether brackets close in the order in which they were opened; those within strings count as well."""
    open_now: list[str] = []
    for mark in code:
        if mark in "([{":
            open_now.append(mark)
        elif mark in _PAIRS and (not open_now or open_now.pop() != _PAIRS[mark]):
            return False
    return not open_now


__all__ = ["CANDIDATES", "can_be_read", "fill_by_chat", "fitted", "is_python"]
