"""Limits that the main process keeps for all workers: exact, one round trip over a socket for a decision.

When the main process does not answer, calls of whoever has limits are refused at once, so that nothing is ever used
beyond a limit; calls without limits never ask.
"""

import itertools
from collections.abc import Callable, Sequence

from hanlin.errors import LimitsUnavailable
from hanlin.metering.limits import BY_MINUTE, Admitted, Demand, Pace, Refused, Subject, Unknown, Verdict
from hanlin.metering.periods import Span
from hanlin.metering.reserving import NOTHING, Reservation, Standing, nothing_forgotten
from hanlin.service.crew.line import Away, Line
from hanlin.service.crew.messages import Allowed, Begin, Charge, Denied, Settle, Take, Untold, Who
from hanlin.words import say

LIMIT_S = 1.0
"""How long a call waits for a decision, which takes a fraction of a millisecond where a processor is free for it."""


class CoordinatedStore:
    """A `LimitStore` in the main process.

    What is said on the line arrives in order. So a decision that came too late for whoever asked is given back by
    saying so behind the question, whether it was made or not.
    """

    def __init__(self, line: Line, pace: Pace = BY_MINUTE, *, limit_s: float = LIMIT_S) -> None:
        self.pace = pace
        self._line = line
        self._limit_s = limit_s
        self._ids = itertools.count(1)
        self._held = 0
        self.on_forgotten: Callable[[Subject, Span], None] = nothing_forgotten

    async def take(self, reservation: Reservation, demand: Demand) -> Verdict:
        if self._line.is_away:
            raise _unavailable()
        if reservation.id:
            question = Take(self._line.number(), int(reservation.id), demand)
            return self._verdict(reservation, await self._asked(question))
        own_id = next(self._ids)
        subjects = tuple([_who(subject) for subject in reservation.subjects])
        question = Take(self._line.number(), own_id, demand, reservation.call, subjects, tuple(reservation.spans))
        try:
            answer = await self._asked(question)
        except BaseException:
            self._line.tell(Settle(own_id, NOTHING))
            raise
        verdict = self._verdict(reservation, answer)
        if isinstance(verdict, Admitted):
            reservation.id = str(own_id)
            self._held += 1
        return verdict

    def settle(self, reservation: Reservation, used: Demand) -> None:
        self._held -= 1
        self._line.tell(Settle(int(reservation.id), used))

    def begin(self, subject: Subject, span: Span, nanos: int) -> None:
        self._line.tell(Begin(_who(subject), span, nanos))

    def charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None:
        self._line.tell(Charge(id, _who(subject), span, nanos))

    def standing(self) -> Standing:
        away = self._line.is_away or self._line.over.is_set()
        return Standing("coordinator", why="the main process does not answer" if away else "", reservations=self._held)

    async def close(self) -> None:
        """Nothing is owed: what was said is on its way."""

    async def _asked(self, question: Take) -> Allowed | Denied | Untold:
        try:
            answer = await self._line.ask(question, self._limit_s)
        except Away as error:
            raise _unavailable() from error
        assert isinstance(answer, Allowed | Denied | Untold)
        return answer

    def _verdict(self, reservation: Reservation, answer: Allowed | Denied | Untold) -> Verdict:
        subjects: Sequence[Subject] = reservation.subjects
        if isinstance(answer, Allowed):
            return Admitted(subjects, answer.states, answer.now)
        if isinstance(answer, Untold):
            return Unknown(answer.indices)
        return Refused(answer.which, answer.index, answer.wait_s, subjects, answer.states, answer.now)


def _who(subject: Subject) -> Who:
    return Who(subject.kind, subject.id, subject.limits)


def _unavailable() -> LimitsUnavailable:
    return LimitsUnavailable(
        say("the main process, which keeps the limits, does not answer", "保存限额的主进程暂无响应")
    )
