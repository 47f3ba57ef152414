"""Hold what a call may use before it begins, and replace that by what it used when it has ended.

    reservation = await meter.reserve(subjects, tokens, nanos)      # QuotaExceeded before anything is spent
    await meter.extend(reservation, tokens, nanos)                  # for a further call of the same recipe
    meter.settle(reservation, tokens, nanos)                        # in any case, with what was generated

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
_ON_ITS_WAY_S = 2.0  # after which a row is in the ledger, whose process ever it is of
_TRIES = 3  # a counter that was looked up may be lost again before it is used, with Redis; hardly twice


NOTHING = Demand(calls=0)


def nothing_forgotten(_subject: Subject, _span: Span) -> None:
    """Stand for somebody who looks a period up, at a store that loses none."""


class Reservation(msgspec.Struct, eq=False):
    """What a call holds of its subjects' limits, from `Meter.reserve` to `Meter.settle`.

    `subjects` are only those with limits, with the `spans` of their budgets; `held` is all that was demanded for it,
    `admitted` the latest decision. `call` is the id of the call's row, "" when it has none. `currency` is that of
    the money that was held first, "" when there was none. `id` and `elsewhere` belong
    to the store that holds it. Made for every call, hence a Struct.
    """

    subjects: Sequence[Subject] = ()
    spans: Sequence[Span] = ()
    call: str = ""
    currency: str = ""
    held: Demand = NOTHING
    admitted: Admitted | None = None
    settled: bool = False
    id: str = ""
    elsewhere: object = None

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
    """Keeps what subjects use. Nothing but `take` may wait, or fail: LimitsUnavailable when it cannot decide now.

    `take` decides about a further demand of a reservation and holds it if there is room; a refusal changes nothing. A
    store that has all it needs at hand returns the verdict, one that must ask somebody something to wait for.
    `settle` replaces all that is held by what was used. `begin` says how much a budget's period has spent so far at
    least. `charge` adds what was spent without a reservation, once for an `id`, unless nothing is known
    of the period, in which case the ledger will be asked. `on_forgotten` is called when money was not counted for that
    reason.
    """

    on_forgotten: Callable[[Subject, Span], None]

    @property
    def pace(self) -> Pace: ...

    def take(self, reservation: Reservation, demand: Demand) -> Verdict | Awaitable[Verdict]: ...

    def settle(self, reservation: Reservation, used: Demand) -> None: ...

    def begin(self, subject: Subject, span: Span, nanos: int) -> None: ...

    def charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None: ...

    def standing(self) -> Standing: ...

    async def close(self) -> None: ...


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
        self._reminding: dict[tuple[str, str], asyncio.Task[None]] = {}
        store.on_forgotten = self._remind

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
        if not nanos:
            currency = ""
        reservation = Reservation(limited, self._spans_of(limited, currency), call, currency)
        demand = Demand(1, tokens, nanos)
        found = self._store.take(reservation, demand)
        if not isinstance(found, Admitted):
            found = await self._insisted(reservation, demand, found)
        reservation.held, reservation.admitted = demand, found
        return reservation

    async def extend(self, reservation: Reservation, tokens: int, nanos: int = 0, *, currency: str = "CNY") -> None:
        """Hold more for a call that has begun: it counts as no further call and takes no further place.

        Raises as `reserve`; then what was held before still is, and the recipe may wait or end with what it has.
        """
        assert not reservation.settled, "a call that has ended asks for more"
        if not reservation.subjects:
            return
        if nanos and (subject := _in_another(reservation.subjects, currency)) is not None:
            raise _not_counted(subject, currency)
        demand = Demand(0, tokens, nanos)
        reservation.holds(await self._insisted(reservation, demand, self._store.take(reservation, demand)), demand)

    def settle(self, reservation: Reservation, tokens: int, nanos: int = 0, *, currency: str | None = None) -> None:
        """Replace what is held by what was used, of all calls of the reservation together. Again: does nothing.

        `currency` is what the money turned out to be of, None for what was reserved: budgets count only their own.
        """
        if reservation.settled:
            return
        reservation.settled = True
        if reservation.subjects:
            if nanos and currency not in (None, reservation.currency) and _in_another(reservation.subjects, currency):
                nanos = 0
            self._store.settle(reservation, Demand(reservation.held.calls, tokens, nanos))

    def release(self, reservation: Reservation) -> None:
        """Give everything back, because nothing was generated. The call itself counts: it was an attempt."""
        self.settle(reservation, 0, 0)

    def charge(self, id: str, subjects: Sequence[Subject], nanos: int, began_at: float) -> None:
        """Count money of a call that died with its process: its reservation will lapse, its ledger row has the cost.

        `id` is the row's: the same one is counted once. `began_at` is UNIX time.
        """
        for subject in subjects:
            if subject.limits.budget is not None:
                self._store.charge(id, subject, span(subject.limits.budget, began_at), nanos)

    def look_up(self, subjects: Sequence[Subject], began_at: float) -> None:
        """Have the ledger asked what budgets have spent, because a call died that nobody can tell the cost of here."""
        for subject in subjects:
            if subject.limits.budget is not None:
                self._remind(subject, span(subject.limits.budget, began_at))

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
        for task in (*self._looking_up.values(), *self._reminding.values()):
            task.cancel()
        await self._store.close()

    async def _insisted(
        self, reservation: Reservation, demand: Demand, found: Verdict | Awaitable[Verdict]
    ) -> Admitted:
        """Return the decision of a store that is told what it does not know. Raises where it is a refusal."""
        verdict = await decided(found)
        for _ in range(_TRIES):
            if not isinstance(verdict, Unknown):
                break
            for index in verdict.indices:
                await self._look_up(reservation.subjects[index], reservation.spans[index])
            verdict = await decided(self._store.take(reservation, demand))
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

    def _remind(self, subject: Subject, period: Span) -> None:
        """Have the store told of a period that it has lost. What it did not count stands in the ledger, or soon will.

        Twice: others may have told it meanwhile, without what was on its way into the ledger then.
        """
        key = (subject.ref, period.label)
        if key in self._reminding or period.ends_at <= self._wall():
            return

        async def remind() -> None:
            await self._begin(subject, period)
            await asyncio.sleep(_ON_ITS_WAY_S)
            await self._begin(subject, period)

        task = self._reminding[key] = asyncio.create_task(remind())
        task.add_done_callback(lambda _: self._reminding.pop(key, None))

    async def _begin(self, subject: Subject, period: Span) -> bool:
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                nanos = await self._spent(subject, period.since)
        except (HanlinError, TimeoutError) as error:
            log.warning("what %s has spent cannot be read: %s", subject.ref, error or "no answer")
            return False
        self._store.begin(subject, period, nanos)
        return True

    def _spans_of(self, subjects: Sequence[Subject], currency: str) -> list[Span]:
        """Return the periods that budgets are in now. Raises UnsupportedHere where one is in another currency, if any
        is given."""
        spans, now = [], self._wall()
        for subject in subjects:
            budget = subject.limits.budget
            if budget is None:
                spans.append(NO_SPAN)
                continue
            if currency and budget.currency != currency:
                raise _not_counted(subject, currency)
            key = (budget.period, budget.currency)
            known = self._spans.get(key)
            if known is None or known.ends_at <= now:
                known = self._spans[key] = span(budget, now)
            spans.append(known)
        return spans


async def decided(found: Verdict | Awaitable[Verdict]) -> Verdict:
    """Return what a store has decided, as soon as it has."""
    return found if isinstance(found, Admitted | Refused | Unknown) else await found


def _in_another(subjects: Sequence[Subject], currency: str) -> Subject | None:
    """Return one whose budget is in another currency, None where there is none."""
    for subject in subjects:
        if subject.limits.budget is not None and subject.limits.budget.currency != currency:
            return subject
    return None


def _not_counted(subject: Subject, currency: str) -> UnsupportedHere:
    """Return the refusal of what a budget cannot count: a limit that silently counts nothing is worse than none."""
    budget = subject.limits.budget
    assert budget is not None
    return UnsupportedHere(
        say(
            f"The budget of the {subject.kind} {subject.name!r} is in {budget.currency}, and "
            f"what answers here is paid in {currency}. The operator can give either in the other's currency",
            f"{subject.kind} {subject.name!r} 的预算以 {budget.currency} 计，而此处的服务以 "
            f"{currency} 计费。管理员可将二者统一为同一币种",
        )
    )


def _unknown() -> LimitsUnavailable:
    return LimitsUnavailable(say("what a budget has spent cannot be read now", "暂时无法读取预算已用金额"))


__all__ = ["LimitStore", "Meter", "Reservation", "Spent", "Standing", "nothing_spent"]
