"""When each phase of a call ended, and the response header that says so to a caller who asks.

The phases in their order: `body` and `key` (read and believed), `plan` (decided), `queue` (a place is free), `first`
(the first token), `end`. Whoever reaches one marks it; a room below is handed `Phases.mark`, never this class.
"""

from time import monotonic

ASKED_BY = b"x-hanlin-timings"
"""The request header that asks for the timings, with the value 1."""

HEADER = "server-timing"


class Phases:
    """The marks of one call. `ends_s` holds seconds since `began`, in the order in which the phases ended."""

    __slots__ = ("began", "ends_s")

    def __init__(self, began: float | None = None) -> None:
        """`began` is what `time.monotonic()` said when the call came; None means now."""
        self.began = monotonic() if began is None else began
        self.ends_s: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """Note that a phase ends now. It ends once: of several choices, or several attempts, the first counts."""
        if phase not in self.ends_s:
            self.ends_s[phase] = monotonic() - self.began

    def header(self) -> str:
        """Return the value of `server-timing` for the phases so far: `body;dur=0.1, key;dur=1.2`, in milliseconds.

        Each phase lasts from the end of the one before it, so that the durations add up to the whole.
        """
        parts = []
        before_s = 0.0
        for phase, end_s in self.ends_s.items():
            parts.append(f"{phase};dur={(end_s - before_s) * 1000:.3f}")
            before_s = end_s
        return ", ".join(parts)


def asked(value: bytes) -> bool:
    """Say whether the value of a request's `x-hanlin-timings` asks for the timings."""
    return value.strip() == b"1"


__all__ = ["ASKED_BY", "HEADER", "Phases", "asked"]
