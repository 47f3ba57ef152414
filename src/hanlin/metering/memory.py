"""Keep what subjects use in the memory of one process: exact, and a few microseconds a call."""

import time
from collections.abc import Callable

import msgspec

from hanlin.metering.limits import BY_MINUTE, Admitted, Demand, Pace, State, Subject, Unknown, Verdict, admit, settled
from hanlin.metering.periods import Span
from hanlin.metering.reserving import Reservation, Standing, nothing_forgotten

_NEW = State()
_SWEEP_AT = 1024


class MemoryStore:
    """A `LimitStore` of this process alone.

    Nothing in it ever waits, so that no two decisions overlap. Subjects of whom nothing needs to be remembered are
    forgotten whenever their number has doubled. What a budget has spent is kept until its period is over.
    """

    def __init__(
        self,
        pace: Pace = BY_MINUTE,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.pace = pace
        self._clock = clock
        self._wall = wall
        self._states: dict[str, State] = {}
        self._sweep_at = _SWEEP_AT
        self._reservations = 0
        self.on_forgotten: Callable[[Subject, Span], None] = nothing_forgotten

    def take(self, reservation: Reservation, demand: Demand) -> Verdict:
        now, subjects, kept = self._clock(), reservation.subjects, self._states
        states, unknown = [], []
        for index, span in enumerate(reservation.spans):
            state = kept.get(subjects[index].ref, _NEW)
            if span.label and state.period != span.label:
                unknown.append(index)
            states.append(state)
        if unknown and demand.nanos:
            return Unknown(tuple(unknown))
        verdict = admit(subjects, states, demand, now, self.pace)
        if isinstance(verdict, Admitted):
            self._reservations += demand.calls
            for index, state in enumerate(verdict.states):
                kept[subjects[index].ref] = state
            if len(kept) >= self._sweep_at:
                self._sweep(now)
        return verdict

    def settle(self, reservation: Reservation, used: Demand) -> None:
        now, held, spans, kept = self._clock(), reservation.held, reservation.spans, self._states
        self._reservations -= held.calls
        for index, subject in enumerate(reservation.subjects):
            # One that was forgotten was full again: whoever used more than that begins in debt.
            state = kept.get(subject.ref, _NEW)
            kept[subject.ref] = settled(subject.limits, state, held, used, spans[index].label, now)

    def begin(self, subject: Subject, span: Span, nanos: int) -> None:
        state = self._states.get(subject.ref, _NEW)
        if state.period != span.label:
            self._states[subject.ref] = msgspec.structs.replace(
                state, period=span.label, spent=nanos, reserved=0, ends_at=span.ends_at
            )
        elif state.spent < nanos:
            self._states[subject.ref] = msgspec.structs.replace(state, spent=nanos)

    def charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None:  # noqa: ARG002
        """Count money, at every call of this: nobody repeats one, because a store that forgets them is gone itself."""
        state = self._states.get(subject.ref, _NEW)
        if state.period == span.label:
            self._states[subject.ref] = msgspec.structs.replace(state, spent=state.spent + nanos)

    def standing(self) -> Standing:
        return Standing("memory", subjects=len(self._states), reservations=self._reservations)

    async def close(self) -> None:
        """Nothing is under way, and nothing is owed to anybody."""

    def _sweep(self, now: float) -> None:
        wall = self._wall()
        self._states = {ref: state for ref, state in self._states.items() if not state.is_idle(now, wall)}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._states))
