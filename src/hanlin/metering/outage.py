"""What becomes of calls while Redis is away: nobody waits for it, and what the operator chose is done.

`closed`: calls of whoever has limits are refused (503), so that nothing is ever used beyond a limit. `open`: they go on
within this process's share: every limit, and what is left of every budget, is divided by the number of processes. Then
all of them together keep the limits, as far as the number is right; a share of less than one call at a time is one.
What was spent meanwhile is told to Redis as soon as it is back.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from hanlin.errors import LimitsUnavailable
from hanlin.metering.limits import Admitted, Demand, Pace, Refused, Subject, Unknown, Verdict
from hanlin.metering.memory import MemoryStore
from hanlin.metering.periods import Span
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import Reservation, Standing, nothing_forgotten
from hanlin.store.rows import Budget, Limits

Policy = Literal["open", "closed"]

_REMEMBERED = 10_000
"""Of so many budgets it is known what Redis said last. Of others the ledger is asked, which may be seconds late."""

_ALONE_S = 60.0
"""A share that was needed although Redis is not away, because one answer was late, is kept so long: a new one would be
a whole minute's calls again."""

_Counter = tuple[str, str]
"""The subject and the period of a budget."""


class SharedStore:
    """A `LimitStore` on a Redis that may go away; `processes` is the number of those that share it."""

    def __init__(
        self, redis: RedisStore, policy: Policy, processes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        assert processes > 0
        self.pace = redis.pace
        self._redis = redis
        self._policy = policy
        self._processes = processes
        self._clock = clock
        self._seen: OrderedDict[_Counter, int] = OrderedDict()
        self._spent: dict[_Counter, tuple[Subject, Span, int]] = {}
        self._share: _Share | None = None
        self._alone = 0
        redis.on_back = self._over
        self.on_forgotten: Callable[[Subject, Span], None] = nothing_forgotten
        redis.on_forgotten = lambda subject, span: self.on_forgotten(subject, span)

    async def take(self, reservation: Reservation, demand: Demand) -> Verdict:
        try:
            verdict = await self._redis.take(reservation, demand)
        except LimitsUnavailable:
            if self._policy == "closed":
                self._alone += 1
                raise
            verdict = self._current_share().take(reservation, demand)
            self._alone += not isinstance(verdict, Unknown)
            return verdict
        if not isinstance(verdict, Unknown):
            self._remember(reservation, verdict)
        return verdict

    def settle(self, reservation: Reservation, used: Demand) -> None:
        part = reservation.elsewhere
        if not isinstance(part, _Part):
            self._redis.settle_part(reservation, reservation.held, used)
        elif reservation.id:  # Redis has the call, and here is only what it asked for meanwhile
            part.settle(Demand(0))
            self._redis.settle_part(reservation, _less(reservation.held, part.held), used)
        else:
            part.settle(used)
            self._spend(reservation, used.nanos)

    def begin(self, subject: Subject, span: Span, nanos: int) -> None:
        if self._share is not None:
            self._share.spent.setdefault((subject.ref, span.label), nanos)
        self._redis.begin(subject, span, nanos)

    def charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None:
        self._redis.charge(id, subject, span, nanos)

    def standing(self) -> Standing:
        here = 0 if self._share is None else self._share.subjects
        standing = self._redis.standing()
        return msgspec.structs.replace(
            standing, subjects=here, owed=standing.owed + len(self._spent), alone=self._alone
        )

    async def close(self) -> None:
        await self._redis.close()

    def _current_share(self) -> "_Share":
        share, now = self._share, self._clock()
        if share is None or (not self._redis.is_away and now - share.used_at > _ALONE_S):
            share = self._share = _Share(self.pace, self._processes, self._seen)
        share.used_at = now
        return share

    def _remember(self, reservation: Reservation, verdict: Admitted | Refused) -> None:
        """Note what Redis says of budgets: what they have left, once Redis is away, is worked out from there."""
        for subject, span, state in zip(reservation.subjects, reservation.spans, verdict.states, strict=True):
            if span.label:
                counter = (subject.ref, span.label)
                self._seen[counter] = state.spent + state.reserved
                self._seen.move_to_end(counter)
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _spend(self, reservation: Reservation, nanos: int) -> None:
        """Tell Redis what was spent without it, at once or, added up, when it is back."""
        for subject, span in zip(reservation.subjects, reservation.spans, strict=True):
            if span.label and nanos:
                counter = (subject.ref, span.label)
                _, _, before = self._spent.get(counter, (subject, span, 0))
                self._spent[counter] = (subject, span, before + nanos)
        if not self._redis.is_away:
            self._tell_spent()

    def _tell_spent(self) -> None:
        spent, self._spent = self._spent, {}
        for subject, span, nanos in spent.values():
            self._redis.owe_charge(self._redis.new_id(), subject, span, nanos)

    def _over(self) -> None:
        self._share = None
        self._tell_spent()


class _Share:
    """What one process may use during one outage. `spent` is what budgets' periods had spent before it."""

    def __init__(self, pace: Pace, processes: int, spent: Mapping[_Counter, int]) -> None:
        self.spent = dict(spent)
        self.used_at = 0.0
        self._processes = processes
        self._store = MemoryStore(pace)

    @property
    def subjects(self) -> int:
        return self._store.standing().subjects

    def take(self, reservation: Reservation, demand: Demand) -> Verdict:
        part = reservation.elsewhere
        if not isinstance(part, _Part):
            counters = [
                (one.ref, span.label) for one, span in zip(reservation.subjects, reservation.spans, strict=True)
            ]
            unknown = [place for place, one in enumerate(counters) if one[1] and one not in self.spent]
            if unknown:
                return Unknown(tuple(unknown))
            part = self._part(reservation)
        verdict = part.take(demand)
        if isinstance(verdict, Admitted):
            reservation.elsewhere = part
        elif isinstance(verdict, Refused):
            return msgspec.structs.replace(verdict, share=self._processes)
        return verdict

    def _part(self, reservation: Reservation) -> "_Part":
        subjects = []
        for subject, span in zip(reservation.subjects, reservation.spans, strict=True):
            spent = self.spent.get((subject.ref, span.label), 0)
            subjects.append(
                Subject(subject.kind, subject.id, divided(subject.limits, self._processes, spent), subject.name)
            )
            if span.label:
                self._store.begin(subject, span, spent)
        return _Part(self._store, Reservation(subjects, reservation.spans))


class _Part:
    """What a call holds of a share."""

    def __init__(self, store: MemoryStore, reservation: Reservation) -> None:
        self._store = store
        self._reservation = reservation

    @property
    def held(self) -> Demand:
        return self._reservation.held

    def take(self, demand: Demand) -> Verdict:
        verdict = self._store.take(self._reservation, demand)
        if isinstance(verdict, Admitted):
            self._reservation.holds(verdict, demand)
        return verdict

    def settle(self, used: Demand) -> None:
        self._store.settle(self._reservation, used)


def divided(limits: Limits, processes: int, spent: int) -> Limits:
    """Return one process's share of limits of which so much money was spent before."""
    budget = limits.budget
    if budget is not None:
        left = max(budget.nanos - spent, 0) // processes
        budget = Budget(spent + left, budget.currency, budget.period)
    rpm, tpm, places = (
        None if limit is None else -(-limit // processes) for limit in (limits.rpm, limits.tpm, limits.concurrency)
    )
    return Limits(rpm, tpm, places, budget)


def _less(held: Demand, part: Demand) -> Demand:
    return Demand(held.calls - part.calls, held.tokens - part.tokens, held.nanos - part.nanos)
