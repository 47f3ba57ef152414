"""What is left of a minute, as programs are told: the `x-ratelimit-…` headers, in OpenAI's names and formats.

Pure: worked out from the states that a decision was made by, so that the headers never say anything else.
"""

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

    def lines(self) -> str:
        """Return the headers as lines of an answer's head: they are written for every call."""
        lines = ""
        if (window := self.requests) is not None:
            lines = (
                f"x-ratelimit-limit-requests: {window.limit!s}\r\nx-ratelimit-remaining-requests: {window.left!s}\r\n"
                f"x-ratelimit-reset-requests: {duration(window.reset_s)}\r\n"
            )
        if (window := self.tokens) is not None:
            lines += (
                f"x-ratelimit-limit-tokens: {window.limit!s}\r\nx-ratelimit-remaining-tokens: {window.left!s}\r\n"
                f"x-ratelimit-reset-tokens: {duration(window.reset_s)}\r\n"
            )
        return lines


def rates(subjects: Sequence[Subject], states: Sequence[State], now: float, pace: Pace) -> Rates:
    """Return what is left to these subjects together: of each kind the limit with the least left."""
    requests: Window | None = None
    tokens: Window | None = None
    for index, subject in enumerate(subjects):
        state, rpm, tpm = states[index], subject.limits.rpm, subject.limits.tpm
        if rpm is not None:
            left = bucket_left(rpm, state.requests_full_at, now, pace.window_s)
            if requests is None or left < requests.left:
                requests = Window(rpm, left, max(state.requests_full_at - now, 0.0))
        if tpm is not None:
            left = bucket_left(tpm, state.tokens_full_at, now, pace.window_s)
            if tokens is None or left < tokens.left:
                tokens = Window(tpm, left, max(state.tokens_full_at - now, 0.0))
    return Rates(requests, tokens)


def duration(seconds: float) -> str:
    """Write a time as OpenAI's headers do: `120ms`, `8.64s`, `6m0s`. Rounded up to the next millisecond."""
    ms = -(-int(seconds * 1_000_000 + 0.5) // 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
