"""Hold what a call may use before it begins, and replace that by what it used when it has ended.

    reservation = await meter.reserve(subjects, tokens, nanos)      # QuotaExceeded before anything is spent
    await meter.extend(reservation, tokens, nanos)                  # for a further call of the same recipe
    await meter.settle(reservation, tokens, nanos)                  # in any case, with what was generated

Where it is held is a `LimitStore`: the memory of one process, or Redis for many. Both decide alike (`limits`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Protocol

import msgspec

from hanlin.errors import HanlinError, LimitsUnavailable, UnsupportedHere
from hanlin.metering.limits import Admitted, Demand, Pace, Refused, Subject, Unknown, Verdict
from hanlin.metering.periods import NO_SPAN, Span, span
from hanlin.metering.rates import Rates, rates
from hanlin.metering.refusals import error_of
from hanlin.words import say

log = logging.getLogger(__name__)

Spent = Callable[[Subject, datetime | None], Awaitable[int]]
"""Says what a subject has spent since a time (None: ever), in nanos of its budget's currency: the ledger's sum."""

_LOOK_UP_S = 2.0
_TRIES = 3  # a counter that was looked up may be lost again before it is used, with Redis; hardly twice


class Reservation:
    """What a call holds of its subjects' limits, from `Meter.reserve` to `Meter.settle`.

    `subjects` are only those with limits, with the `spans` of their budgets; `held` is all that was demanded for it,
    `admitted` the latest decision. `call` is the id of the call's row, "" when it has none. `id` and `elsewhere` belong
    to the store that holds it.
    """

    __slots__ = ("admitted", "call", "elsewhere", "held", "id", "settled", "spans", "subjects")

    def __init__(self, subjects: Sequence[Subject] = (), spans: Sequence[Span] = (), call: str = "") -> None:
        self.subjects = subjects
        self.spans = spans
        self.call = call
        self.held = NOTHING
        self.admitted: Admitted | None = None
        self.settled = False
        self.id = ""
        self.elsewhere: object = None

    def holds(self, admitted: Admitted, demand: Demand) -> None:
        """Note a demand that was admitted."""
        held = self.held
        if held is not NOTHING:
            demand = Demand(held.calls + demand.calls, held.tokens + demand.tokens, held.nanos + demand.nanos)
        self.held = demand
        self.admitted = admitted


class Standing(msgspec.Struct, frozen=True):
    """How a store is, for gauges: where limits are kept, whether it is away, since when (UNIX time) and why.

    `subjects` are those kept in this process, `reservations` those that it holds, `owed` what it still has to tell the
    store, `outages` how often the store was away, `alone` how many decisions were made without it.
    """

    kind: str
    away_since: float | None = None
    why: str = ""
    subjects: int = 0
    reservations: int = 0
    owed: int = 0
    outages: int = 0
    alone: int = 0


class LimitStore(Protocol):
    """Keeps what subjects use. Nothing but `take` may fail: LimitsUnavailable when it cannot decide now.

    `take` decides about a further demand of a reservation and holds it if there is room; a refusal changes nothing.
    `settle` replaces all that is held by what was used. `begin` says what a budget's period has spent so far, unless
    that is known already. `charge` adds what was spent without a reservation, once for an `id`, unless nothing is known
    of the period, in which case the ledger will be asked.
    """

    @property
    def pace(self) -> Pace: ...

    async def take(self, reservation: Reservation, demand: Demand) -> Verdict: ...

    async def settle(self, reservation: Reservation, used: Demand) -> None: ...

    async def begin(self, subject: Subject, span: Span, nanos: int) -> None: ...

    async def charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None: ...

    def standing(self) -> Standing: ...

    async def close(self) -> None: ...


NOTHING = Demand(calls=0)

_IS_LIMITED = attrgetter("is_limited")


async def nothing_spent(_subject: Subject, _since: datetime | None) -> int:
    """Stand for a ledger without a row."""
    return 0


class Meter:
    """Reserves and settles. `spent` is asked once for each budget's period that the store knows nothing of."""

    def __init__(self, store: LimitStore, spent: Spent = nothing_spent, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._spent = spent
        self._wall = wall
        self._spans: dict[tuple[str, str], Span] = {}
        self._looking_up: dict[tuple[str, str], asyncio.Task[bool]] = {}

    async def reserve(
        self, subjects: Sequence[Subject], tokens: int, nanos: int = 0, *, currency: str = "CNY", call: str = ""
    ) -> Reservation:
        """Hold one call, so many tokens and so much money of every subject, or of none. `call` is its row's id.

        Raises QuotaExceeded where a limit forbids it, LimitsUnavailable where nobody can say, UnsupportedHere where the
        money is of another currency than a budget. Whoever gets a reservation owes a `settle`.
        """
        limited = list(filter(_IS_LIMITED, subjects))
        if not limited:
            return Reservation()
        reservation = Reservation(limited, [self._span(one) if one.has_budget else NO_SPAN for one in limited], call)
        await self._take(reservation, Demand(1, tokens, nanos), currency)
        return reservation

    async def extend(self, reservation: Reservation, tokens: int, nanos: int = 0, *, currency: str = "CNY") -> None:
        """Hold more for a call that has begun: it counts as no further call and takes no further place.

        Raises as `reserve`; then what was held before still is, and the recipe may wait or end with what it has.
        """
        assert not reservation.settled, "a call that has ended asks for more"
        if reservation.subjects:
            await self._take(reservation, Demand(0, tokens, nanos), currency)

    async def settle(
        self, reservation: Reservation, tokens: int, nanos: int = 0, *, currency: str | None = None
    ) -> None:
        """Replace what is held by what was used, of all calls of the reservation together. Again: does nothing.

        `currency` is what the money turned out to be of, None for what was reserved: budgets count only their own.
        """
        if reservation.settled:
            return
        reservation.settled = True
        if reservation.subjects:
            if nanos and currency is not None and _in_another(reservation.subjects, currency):
                nanos = 0
            await self._store.settle(reservation, Demand(reservation.held.calls, tokens, nanos))

    async def release(self, reservation: Reservation) -> None:
        """Give everything back, because nothing was generated. The call itself counts: it was an attempt."""
        await self.settle(reservation, 0, 0)

    async def charge(self, id: str, subjects: Sequence[Subject], nanos: int, began_at: float) -> None:
        """Count money of a call that died with its process: its reservation will lapse, its ledger row has the cost.

        `id` is the row's: the same one is counted once. `began_at` is UNIX time.
        """
        for subject in subjects:
            if subject.limits.budget is not None:
                await self._store.charge(id, subject, span(subject.limits.budget, began_at), nanos)

    def rates(self, reservation: Reservation) -> Rates:
        """Return what was left to the call's subjects when it was admitted."""
        admitted = reservation.admitted
        if admitted is None:
            return Rates()
        return rates(admitted.subjects, admitted.states, admitted.now, self._store.pace)

    def standing(self) -> Standing:
        return self._store.standing()

    async def close(self) -> None:
        """End what is under way, and tell the store what it is owed, as far as it listens."""
        for task in self._looking_up.values():
            task.cancel()
        await self._store.close()

    async def _take(self, reservation: Reservation, demand: Demand, currency: str) -> None:
        if demand.nanos:
            _check_currency(reservation.subjects, currency)
        verdict = await self._store.take(reservation, demand)
        if not isinstance(verdict, Admitted):
            verdict = await self._insist(reservation, demand, verdict)
        reservation.holds(verdict, demand)

    async def _insist(self, reservation: Reservation, demand: Demand, verdict: Verdict) -> Admitted:
        """Return the decision of a store that is told what it does not know. Raises where it is a refusal."""
        for _ in range(_TRIES):
            if not isinstance(verdict, Unknown):
                break
            for index in verdict.indices:
                await self._look_up(reservation.subjects[index], reservation.spans[index])
            verdict = await self._store.take(reservation, demand)
        if isinstance(verdict, Admitted):
            return verdict
        if isinstance(verdict, Refused):
            raise error_of(verdict, reservation.spans[verdict.index], demand, self._store.pace, self._wall())
        raise _unknown()

    async def _look_up(self, subject: Subject, period: Span) -> None:
        """Tell the store what a period has spent; of many callers that wait for the same, one asks."""
        key = (subject.ref, period.label)
        task = self._looking_up.get(key)
        if task is None:
            task = self._looking_up[key] = asyncio.create_task(self._begin(subject, period))
            task.add_done_callback(lambda _: self._looking_up.pop(key, None))
        if not await asyncio.shield(task):
            raise _unknown()

    async def _begin(self, subject: Subject, period: Span) -> bool:
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                nanos = await self._spent(subject, period.since)
        except (HanlinError, TimeoutError) as error:
            log.warning("what %s has spent cannot be read: %s", subject.ref, error or "no answer")
            return False
        await self._store.begin(subject, period, nanos)
        return True

    def _span(self, subject: Subject) -> Span:
        budget, now = subject.limits.budget, self._wall()
        assert budget is not None
        key = (budget.period, budget.currency)
        known = self._spans.get(key)
        if known is None or known.ends_at <= now:
            known = self._spans[key] = span(budget, now)
        return known


def _check_currency(subjects: Sequence[Subject], currency: str) -> None:
    """Refuse what a budget cannot count: a limit that silently counts nothing is worse than none."""
    for subject in _in_another(subjects, currency):
        budget = subject.limits.budget
        assert budget is not None
        raise UnsupportedHere(
            say(
                f"The budget of the {subject.kind} {subject.name!r} is in {budget.currency}, and "
                f"what answers here is paid in {currency}. The operator can give either in the other's currency",
                f"{subject.kind} {subject.name!r} 的预算以 {budget.currency} 计，而此处的服务以 "
                f"{currency} 计费。管理员可将二者统一为同一币种",
            )
        )


def _in_another(subjects: Sequence[Subject], currency: str) -> list[Subject]:
    """Return those whose budget is in another currency."""
    return [one for one in subjects if one.limits.budget is not None and one.limits.budget.currency != currency]


def _unknown() -> LimitsUnavailable:
    return LimitsUnavailable(say("what a budget has spent cannot be read now", "暂时无法读取预算已用金额"))


__all__ = ["LimitStore", "Meter", "Reservation", "Spent", "Standing", "nothing_spent"]
