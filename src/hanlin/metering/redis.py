"""Keep what subjects use in Redis, for many processes: one script, one round trip for a decision, one for a settlement.

A reservation that counts for a place or a budget is leased. While its process lives, it is renewed; when the process is
killed, what it held comes back after the lease. A process that was cut off for longer than that goes on with its calls,
which count for no place any more, and are paid when they end.

Settlements are said behind the call, in order with everything else that this process says. One that Redis may not have
heard stays owed until it is away no longer, and is then said again in a way that counts once.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hanlin.errors import LimitsUnavailable
from hanlin.metering.limits import BY_MINUTE, Admitted, Demand, Pace, State, Subject, Unknown, Verdict, refused
from hanlin.metering.periods import Span
from hanlin.metering.redis_line import Away, Question, RedisLine, connect, in_time
from hanlin.metering.reserving import Reservation, Standing, nothing_forgotten
from hanlin.words import say

SCRIPT = Path(__file__).with_name("limits.lua").read_text(encoding="utf-8")

LIMIT_S = 0.2
"""How long a call waits for a decision. Redis takes a tenth of a millisecond; one that takes so long is of no use."""

LEASE_S = 60.0

_RENEWED_AT_ONCE = 100

_LOOK_S = 5.0
"""How often Redis hears of this process at least: gauges are to tell that it is away before a call finds out."""


class RedisStore:
    """A `LimitStore` on a Redis. Raises LimitsUnavailable from `take`, within `limit_s`, when that does not answer.

    `prefix` keeps services apart that share one; its braces put all keys on one node of a cluster. `clock` stands for
    the server's own time in tests. `on_back` is called when Redis answers again, before any decision is asked of it.
    """

    def __init__(
        self,
        url: str,
        pace: Pace = BY_MINUTE,
        *,
        limit_s: float = LIMIT_S,
        lease_s: float = LEASE_S,
        prefix: str = "{hanlin}",
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.pace = pace
        self._limit_s = limit_s
        self._lease_s = lease_s
        self._prefix = prefix
        self._clock = clock
        self.on_back: Callable[[], None] = lambda: None
        self.on_forgotten: Callable[[Subject, Span], None] = nothing_forgotten
        self._line = RedisLine(connect(url), SCRIPT, limit_s, self._back)
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._leased: dict[str, tuple[Reservation, float]] = {}
        self._owed: dict[str, Question] = {}
        self._renewing: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        return self._line.away_since is not None

    async def greet(self) -> bool:
        """Say whether Redis answers, asked something that changes nothing; it is asked again from now on."""
        self._keep_asking()
        question = _Greeting(["renew", self._now(), self._lease_s])
        self._line.send(question)
        return await in_time(question.heard, 2 * self._limit_s) and question.heard.result()

    async def take(self, reservation: Reservation, demand: Demand) -> Verdict:
        self._keep_asking()
        is_first = not reservation.id
        name = reservation.id or self.new_id()
        question = _Decision(self, name, reservation, demand, is_first=is_first)
        self._line.send(question)
        try:
            reply = await question.reply_within(self._limit_s)
        except (Away, TimeoutError) as error:
            raise LimitsUnavailable(
                say("Redis, where limits are kept, does not answer", "保存限额的 Redis 暂无响应")
            ) from error
        verdict = self._verdict(reservation, demand, reply)
        if is_first and isinstance(verdict, Admitted):
            reservation.id = name
            if _is_leased(reservation):
                self._leased[name] = (reservation, asyncio.get_running_loop().time())
        return verdict

    def settle(self, reservation: Reservation, used: Demand) -> None:
        self.settle_part(reservation, reservation.held, used)

    def settle_part(self, reservation: Reservation, held: Demand, used: Demand) -> None:
        """Settle what was held here of a reservation, the rest of which is elsewhere."""
        self._leased.pop(reservation.id, None)
        self._owe(self._settlement(reservation.id, reservation, held, used))

    def begin(self, subject: Subject, span: Span, nanos: int) -> None:
        self._line.send(Question([self._key(subject)], ["begin", self._now(), span.label, nanos]))

    def charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None:
        self.owe_charge(id, subject, span, nanos)

    def owe_charge(self, id: str, subject: Subject, span: Span, nanos: int) -> None:
        """Add what was spent without a reservation, now or as soon as Redis listens."""
        key = self._key(subject)
        marker = f"{key}:charged:{id}"
        args: list[str | int | float] = ["charge", self._now(), span.label, nanos]
        self._owe(_Owed(self, marker, [key, marker], args, [(subject, span)]))

    def new_id(self) -> str:
        """Return an id that nobody else has."""
        return f"{self._name}-{next(self._numbers)}"

    def standing(self) -> Standing:
        line = self._line
        return Standing(
            "redis",
            away_since=line.away_since,
            why=line.why,
            reservations=len(self._leased),
            owed=len(self._owed),
            outages=line.outages,
        )

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._line.close()

    def give_back(self, id: str, reservation: Reservation, demand: Demand, *, in_doubt: bool) -> None:
        """Settle a decision that came too late for whoever asked: nothing was used of it.

        `in_doubt`: it may never have been made. Then only leases tell, and what has none heals within a minute.
        """
        if not in_doubt or _is_leased(reservation):
            self._owe(self._settlement(id, reservation, demand, Demand(0)), in_doubt=in_doubt)

    def question_args(self, id: str, reservation: Reservation, demand: Demand) -> list[str | int | float]:
        """Return what the script is told of a demand."""
        burst = "" if self.pace.burst is None else self.pace.burst
        args: list[str | int | float] = ["take", self._now(), id, self._lease_s]
        args += [demand.calls, demand.tokens, demand.nanos, self.pace.window_s, burst]
        for subject, period in zip(reservation.subjects, reservation.spans, strict=True):
            limits = subject.limits
            budget = None if limits.budget is None else limits.budget.nanos
            args += ["" if one is None else one for one in (limits.rpm, limits.tpm, limits.concurrency, budget)]
            args.append(period.label)
        return args

    def keys(self, subjects: Sequence[Subject]) -> list[str]:
        """Return the three keys of each subject."""
        return [key + more for key in map(self._key, subjects) for more in ("", ":leases", ":lapsed")]

    def _settlement(self, id: str, reservation: Reservation, held: Demand, used: Demand) -> "_Owed":
        args: list[str | int | float] = ["settle", self._now(), id, "0", held.tokens, used.tokens, used.nanos]
        for subject, period in zip(reservation.subjects, reservation.spans, strict=True):
            limits = subject.limits
            args += ["" if limits.tpm is None else limits.tpm, int(_needs_lease(subject)), period.label]
        keys, counters = (
            self.keys(reservation.subjects),
            list(zip(reservation.subjects, reservation.spans, strict=True)),
        )
        return _Owed(self, id, keys, args, counters, repeats=_is_leased(reservation))

    def heard(self, owed: "_Owed", *, forgotten: bool) -> None:
        """Owe something no longer. `forgotten`: of a period that Redis knows nothing of, which has to be looked up."""
        self._owed.pop(owed.id, None)
        if forgotten:
            for subject, span in owed.counters:
                if span.label:
                    self.on_forgotten(subject, span)

    def _owe(self, owed: "_Owed", *, in_doubt: bool = False) -> None:
        if in_doubt:
            owed.doubt()
        if owed.repeats:
            self._owed[owed.id] = owed
        self._line.send(owed)

    def _back(self) -> None:
        for owed in list(self._owed.values()):
            self._line.send(owed)
        self.on_back()

    def _keep_asking(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Lengthen the leases of calls that run long. What Redis does not hear now, it hears in a third of a lease."""
        loop, third_s = asyncio.get_running_loop(), self._lease_s / 3
        renewed_at = loop.time()
        while True:
            await asyncio.sleep(min(third_s, _LOOK_S))
            due: list[str] = []
            if loop.time() - renewed_at >= third_s:
                renewed_at = loop.time()
                due = [name for name, (_, leased_at) in self._leased.items() if leased_at <= renewed_at - third_s]
            for first in range(0, len(due) or 1, _RENEWED_AT_ONCE):
                self._line.send(self._renewal(due[first : first + _RENEWED_AT_ONCE]))

    def _renewal(self, names: Sequence[str]) -> Question:
        keys, ids = [], []
        for name in names:
            for subject in filter(_needs_lease, self._leased[name][0].subjects):
                keys.append(f"{self._key(subject)}:leases")
                ids.append(name)
        return Question(keys, ["renew", self._now(), self._lease_s, *ids])

    def _verdict(self, reservation: Reservation, demand: Demand, reply: str) -> Verdict:
        head, *rows = reply.split("\n")
        word, *more = head.split()
        if word == "unknown":
            return Unknown(tuple(map(int, more)))
        now, subjects = float(more[0]), reservation.subjects
        states = [_state(row, period) for row, period in zip(rows, reservation.spans, strict=True)]
        if word == "admitted":
            return Admitted(subjects, states, now)
        return refused(subjects, states, demand, now, self.pace)

    def _key(self, subject: Subject) -> str:
        return f"{self._prefix}:limits:{subject.ref}"

    def _now(self) -> str | float:
        return "" if self._clock is None else self._clock()


class _Greeting(Question):
    """Tells whether anybody is there."""

    __slots__ = ("heard",)

    def __init__(self, args: Sequence[str | int | float]) -> None:
        super().__init__((), args)
        self.heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def answered(self, _reply: Any) -> None:
        self.heard.set_result(True)

    def lost(self, _why: Away) -> None:
        self.heard.set_result(False)

    def unsent(self, _why: Away) -> None:
        self.heard.set_result(False)


class _Decision(Question):
    """A demand. Whoever asked may have gone when the decision comes: then it is given back."""

    __slots__ = ("_demand", "_id", "_is_first", "_reservation", "_store", "decided")

    def __init__(self, store: RedisStore, id: str, reservation: Reservation, demand: Demand, *, is_first: bool) -> None:
        super().__init__(store.keys(reservation.subjects), store.question_args(id, reservation, demand))
        self.decided: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._store = store
        self._id = id
        self._reservation = reservation
        self._demand = demand
        self._is_first = is_first

    async def reply_within(self, limit_s: float) -> Any:
        """Return the reply. Raises Away or TimeoutError. Whoever leaves by those, or is cancelled, takes nothing."""
        try:
            if not await in_time(self.decided, limit_s):
                raise TimeoutError
        except BaseException:
            if not self.decided.cancel() and self.decided.exception() is None:
                self._give_back(self.decided.result())  # it came in the same moment
            raise
        return self.decided.result()

    @property
    def is_wanted(self) -> bool:
        return not self.decided.done()

    def answered(self, reply: Any) -> None:
        if self.decided.done():
            self._give_back(reply)
        else:
            self.decided.set_result(reply)

    def lost(self, why: Away) -> None:
        # A further demand of a call needs no care: its reservation is settled as a whole, whatever Redis holds of it.
        if self._is_first:
            self._store.give_back(self._id, self._reservation, self._demand, in_doubt=True)
        self.unsent(why)

    def unsent(self, why: Away) -> None:
        if not self.decided.done():
            self.decided.set_exception(why)

    def _give_back(self, reply: str) -> None:
        if self._is_first and reply.startswith("admitted"):
            self._store.give_back(self._id, self._reservation, self._demand, in_doubt=False)


class _Owed(Question):
    """Something that Redis must hear, once. `repeats`: if in doubt, it may be said again; else it is let go."""

    __slots__ = ("_store", "counters", "id", "repeats")

    def __init__(
        self,
        store: RedisStore,
        id: str,
        keys: Sequence[str],
        args: list[str | int | float],
        counters: Sequence[tuple[Subject, Span]],
        *,
        repeats: bool = True,
    ) -> None:
        super().__init__(keys, args)
        self.id = id
        self.repeats = repeats
        self.counters = counters
        self._store = store

    def doubt(self) -> None:
        """Say from now on that it may have been heard before."""
        if self.args[0] == "settle":
            self.args = [*self.args[:3], "1", *self.args[4:]]

    def answered(self, reply: Any) -> None:
        self._store.heard(self, forgotten=reply == "unknown")

    def lost(self, _why: Away) -> None:
        self.doubt()


def _state(row: str, period: Span) -> State:
    requests_full_at, tokens_full_at, burst_full_at, running, spent, reserved = row.split()
    return State(
        float(requests_full_at),
        float(tokens_full_at),
        float(burst_full_at),
        int(running),
        period.label,
        int(spent),
        int(reserved),
        period.ends_at,
    )


def _needs_lease(subject: Subject) -> bool:
    return subject.has_budget or subject.limits.concurrency is not None


def _is_leased(reservation: Reservation) -> bool:
    return any(map(_needs_lease, reservation.subjects))
