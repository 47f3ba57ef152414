"""What is left of a minute, as programs are told: the `x-ratelimit-…` headers, in OpenAI's names and formats.

Pure: worked out from the states that a decision was made by, so that the headers never say anything else.
"""

import math
from collections.abc import Sequence

import msgspec

from hanlin.metering.limits import Pace, State, Subject, bucket_left


class Window(msgspec.Struct, frozen=True, gc=False):
    """One kind of limit: how much a minute has, how much of it could be used now, when all of it can again."""

    limit: int
    left: int
    reset_s: float


class Rates(msgspec.Struct, frozen=True, gc=False):
    """The limits of calls and of tokens that are nearest to their end; None where there is none."""

    requests: Window | None = None
    tokens: Window | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers; those of a limit that nobody has are left out."""
        headers: dict[str, str] = {}
        if (window := self.requests) is not None:
            headers["x-ratelimit-limit-requests"] = str(window.limit)
            headers["x-ratelimit-remaining-requests"] = str(window.left)
            headers["x-ratelimit-reset-requests"] = duration(window.reset_s)
        if (window := self.tokens) is not None:
            headers["x-ratelimit-limit-tokens"] = str(window.limit)
            headers["x-ratelimit-remaining-tokens"] = str(window.left)
            headers["x-ratelimit-reset-tokens"] = duration(window.reset_s)
        return headers


def rates(subjects: Sequence[Subject], states: Sequence[State], now: float, pace: Pace) -> Rates:
    """Return what is left to these subjects together: of each kind the limit with the least left."""
    requests: Window | None = None
    tokens: Window | None = None
    for subject, state in zip(subjects, states, strict=True):
        rpm, tpm = subject.limits.rpm, subject.limits.tpm
        if rpm is not None:
            requests = _nearer(requests, rpm, state.requests_full_at, now, pace)
        if tpm is not None:
            tokens = _nearer(tokens, tpm, state.tokens_full_at, now, pace)
    return Rates(requests, tokens)


def duration(seconds: float) -> str:
    """Write a time as OpenAI's headers do: `120ms`, `8.64s`, `6m0s`. Rounded up to the next millisecond."""
    ms = math.ceil(round(seconds * 1000, 3))
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _nearer(known: Window | None, limit: int, full_at: float, now: float, pace: Pace) -> Window:
    """Return a limit's window, or the one that is known if that has no more left."""
    left = bucket_left(limit, full_at, now, pace.window_s)
    return known if known is not None and known.left <= left else Window(limit, left, max(full_at - now, 0.0))
