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
        for name, window in (("requests", self.requests), ("tokens", self.tokens)):
            if window is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(window.limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(window.left)
                headers[f"x-ratelimit-reset-{name}"] = duration(window.reset_s)
        return headers


def rates(subjects: Sequence[Subject], states: Sequence[State], now: float, pace: Pace) -> Rates:
    """Return what is left to these subjects together: of each kind the limit with the least left."""
    requests, tokens = [], []
    for subject, state in zip(subjects, states, strict=True):
        if subject.limits.rpm is not None:
            requests.append(_window(subject.limits.rpm, state.requests_full_at, now, pace))
        if subject.limits.tpm is not None:
            tokens.append(_window(subject.limits.tpm, state.tokens_full_at, now, pace))
    return Rates(min(requests, key=_left, default=None), min(tokens, key=_left, default=None))


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


def _window(limit: int, full_at: float, now: float, pace: Pace) -> Window:
    return Window(limit, bucket_left(limit, full_at, now, pace.window_s), max(full_at - now, 0.0))


def _left(window: Window) -> int:
    return window.left
