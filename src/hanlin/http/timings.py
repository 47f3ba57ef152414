"""The phases of a call for a caller who asks: the response header that says how long each took.

The phases in their order: `key` and `body` (believed and read), `plan` (decided), `queue` (a place is free), `first`
(the first token), `end`. Whoever reaches the end of one notes it in the call's `ends_s`, in seconds since it came.
"""

from collections.abc import Mapping

ASKED_BY = b"x-hanlin-timings"
"""The request header that asks for the timings, with the value 1."""

HEADER = "server-timing"


def header(ends_s: Mapping[str, float]) -> str:
    """Return the value of `server-timing` for the phases so far: `body;dur=0.1, key;dur=1.2`, in milliseconds.

    Each phase lasts from the end of the one before it, so that the durations add up to the whole.
    """
    parts = []
    before_s = 0.0
    for phase, end_s in ends_s.items():
        parts.append(f"{phase};dur={(end_s - before_s) * 1000:.3f}")
        before_s = end_s
    return ", ".join(parts)


def asked(value: bytes) -> bool:
    """Say whether the value of a request's `x-hanlin-timings` asks for the timings."""
    return value.strip() == b"1"


__all__ = ["ASKED_BY", "HEADER", "asked", "header"]
