"""Decide whether a call may begin: by what everybody it counts for may use, and what of that is in use.

Pure: what was used is a `State`, the time is an argument (seconds of any clock that only goes forward).

A limit of calls or tokens a minute is a bucket that refills steadily. Its state is one number, the time when it will be
full again: taking `n` tokens moves that time by what `n` tokens take to refill, giving back moves it back, and a limit
that is changed meanwhile neither grants nor costs anybody a minute. What was never used needs no state at all.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from hanlin.store.rows import UNLIMITED, Limits

Kind = Literal["key", "workspace", "model"]

Which = Literal["requests", "tokens", "burst", "concurrency", "budget"]

MINUTE_S = 60.0

_CALL_S = 2.0
"""After how long a call that runs is taken to have ended; nobody knows."""

_ROUNDING_S = 1e-6
"""A bucket that lacks no more than it refills in this time lacks nothing: times are binary fractions."""


class Pace(msgspec.Struct, frozen=True, gc=False):
    """How much of a minute's calls and tokens may be used at once: what refills within `window_s`.

    60 is a whole minute's. 1 is what Model Studio enforces, RPM/60 and TPM/60 in a second. `burst` guards against calls
    that come all at once although the minute has room for them: so many times the even rate may come within a second,
    None for any.
    """

    window_s: float = MINUTE_S
    burst: float | None = None


BY_MINUTE = Pace()
BY_SECOND = Pace(window_s=1.0)


class Subject:
    """Somebody that calls are counted for, as a value. Make it once for many calls: they look it up, not work it out.

    `name` is what people call it; its `id` stays when it is renamed. Its state is kept under `ref`. `is_limited` is
    whether anything needs to be counted at all, `has_budget` whether money does.
    """

    __slots__ = ("has_budget", "id", "is_limited", "kind", "limits", "name", "ref")

    def __init__(self, kind: Kind, id: str, limits: Limits = UNLIMITED, name: str = "") -> None:
        self.kind = kind
        self.id = id
        self.limits = limits
        self.name = name or id
        self.ref = f"{kind}:{id}"
        self.is_limited = limits != UNLIMITED
        self.has_budget = limits.budget is not None

    def __repr__(self) -> str:
        return f"Subject({self.ref}, {self.limits})"


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What a call wants to hold: itself, as one of so many `calls`, the tokens that it may use, what it may cost.

    A further demand of a call that runs already has 0 `calls`: it is no call of its own.
    """

    calls: int = 1
    tokens: int = 0
    nanos: int = 0


class State(msgspec.Struct, frozen=True, gc=False):
    """What a subject uses. `…_full_at` are when its buckets will be full again; what lies in the past is full.

    `running` calls hold a place. `spent` and `reserved` are nanos of the budget's `period`, which is over at `ends_at`
    (UNIX time).
    """

    requests_full_at: float = -math.inf
    tokens_full_at: float = -math.inf
    burst_full_at: float = -math.inf
    running: int = 0
    period: str = ""
    spent: int = 0
    reserved: int = 0
    ends_at: float = math.inf

    def is_idle(self, now: float, wall: float) -> bool:
        """Say whether nothing is lost when this is forgotten: a new state would decide alike."""
        full = max(self.requests_full_at, self.tokens_full_at, self.burst_full_at) <= now
        return full and not self.running and not self.reserved and (not self.period or self.ends_at <= wall)


class Admitted(msgspec.Struct, frozen=True):
    """The call may begin; `states` are those of its subjects with it, at the time `now`."""

    subjects: Sequence[Subject]
    states: Sequence[State]
    now: float


class Refused(msgspec.Struct, frozen=True):
    """The call may not begin, because of one limit of one subject, the `index`-th; `states` are as they were.

    `wait_s` is after how long it could, a guess where that depends on other calls; infinite where waiting does not help
    before the budget's period is over, if ever. `share`: the limits were so many times those of everybody.
    """

    which: Which
    index: int
    wait_s: float
    subjects: Sequence[Subject]
    states: Sequence[State]
    now: float
    share: int = 1

    @property
    def subject(self) -> Subject:
        return self.subjects[self.index]

    @property
    def state(self) -> State:
        return self.states[self.index]


class Unknown(msgspec.Struct, frozen=True):
    """Nothing was decided: what these subjects, by their places, have spent in this period must be said first."""

    indices: tuple[int, ...]


Verdict = Admitted | Refused | Unknown


def admit(
    subjects: Sequence[Subject], states: Sequence[State], demand: Demand, now: float, pace: Pace = BY_MINUTE
) -> Admitted | Refused:
    """Decide about a call that counts for all these subjects: every one of them has room for it, or none is charged.

    The states are of the current period. Of several limits that forbid it, the one that does so for longest is named:
    whoever comes back after the shorter wait would be refused again.
    """
    after = []
    for index, subject in enumerate(subjects):
        state = taken(subject.limits, states[index], demand, now, pace)
        if state is None:
            return refused(subjects, states, demand, now, pace)
        after.append(state)
    return Admitted(subjects, after, now)


def refused(
    subjects: Sequence[Subject], states: Sequence[State], demand: Demand, now: float, pace: Pace = BY_MINUTE
) -> Refused:
    """Say what forbids a call that somebody has decided to refuse.

    If nothing does, it is a budget: Redis compares amounts as doubles, and beyond 9 million yuan may miss by a nano.
    """
    reasons: list[tuple[float, int, Which]] = [
        (wait_s, index, which)
        for index, (subject, state) in enumerate(zip(subjects, states, strict=True))
        for which, wait_s in _waits(subject.limits, state, demand, now, pace)
        if wait_s
    ]
    nearly: list[tuple[float, int, Which]] = [
        (_CALL_S, index, "budget") for index, subject in enumerate(subjects) if subject.has_budget
    ]
    longest_s, index, which = max(reasons or nearly, key=lambda reason: reason[0])
    return Refused(which, index, longest_s, subjects, states, now)


def taken(limits: Limits, state: State, demand: Demand, now: float, pace: Pace = BY_MINUTE) -> State | None:
    """Return the state with what is demanded, None where a limit forbids that, as `_waits` has it.

    One step for both, because it is done for every call: where nothing forbids it, nothing else is asked.
    """
    calls, tokens, nanos = demand.calls, demand.tokens, demand.nanos
    rpm, tpm, places, budget = limits.rpm, limits.tpm, limits.concurrency, limits.budget
    requests_full_at, tokens_full_at, burst_full_at = state.requests_full_at, state.tokens_full_at, state.burst_full_at
    running = state.running if places is None else state.running + calls
    reserved = state.reserved if budget is None else state.reserved + nanos
    if (rpm == 0 or tpm == 0 or pace.burst is not None) and any(
        wait_s for _, wait_s in _waits(limits, state, demand, now, pace)
    ):
        return None
    if rpm and calls:
        if requests_full_at <= now:
            requests_full_at = now
        elif bucket_wait_s(rpm, requests_full_at, calls, now, pace.window_s):
            return None
        requests_full_at += calls * MINUTE_S / rpm
        if pace.burst is not None:
            burst_full_at = max(burst_full_at, now) + calls * MINUTE_S / (rpm * pace.burst)
    if tpm:  # a call that will use none counts as one token: where nothing may be used, nothing may begin
        if tokens_full_at > now and bucket_wait_s(tpm, tokens_full_at, tokens or calls, now, pace.window_s):
            return None
        if tokens:
            tokens_full_at = (tokens_full_at if tokens_full_at > now else now) + tokens * MINUTE_S / tpm
    if (places is not None and running > places and calls) or (
        budget is not None and state.spent + reserved > budget.nanos and nanos
    ):
        return None
    return State(
        requests_full_at,
        tokens_full_at,
        burst_full_at,
        running,
        state.period,
        state.spent,
        reserved,
        state.ends_at,
    )


def settled(limits: Limits, state: State, held: Demand, used: Demand, period: str, now: float) -> State:
    """Return the state after a call that had demanded `held` and used `used`: the rest is given back.

    More than was held is taken all the same, because it was generated: the bucket goes into debt, and calls wait until
    it is paid. Money is counted in the period in which the call began; in another one, nothing changes. The call itself
    stays counted, whatever it used: a limit of calls is one of attempts.
    """
    tokens_full_at, tpm = state.tokens_full_at, limits.tpm
    if tpm and held.tokens > used.tokens:
        tokens_full_at -= (held.tokens - used.tokens) * MINUTE_S / tpm
    elif tpm and used.tokens > held.tokens:
        tokens_full_at = max(tokens_full_at, now) + (used.tokens - held.tokens) * MINUTE_S / tpm
    counts = limits.budget is not None and state.period == period
    return State(
        state.requests_full_at,
        tokens_full_at,
        state.burst_full_at,
        max(state.running - held.calls, 0) if limits.concurrency is not None else state.running,
        state.period,
        state.spent + used.nanos if counts else state.spent,
        state.reserved - held.nanos if counts else state.reserved,
        state.ends_at,
    )


def bucket_wait_s(limit: float, full_at: float, amount: int, now: float, window_s: float) -> float:
    """Return how long a bucket of so much a minute must refill before it gives an amount; 0 when it gives it now.

    An amount beyond the whole bucket is given by a full one, which is in debt after it: such a call waits for its turn,
    not for ever, and in the long run the limit holds. A limit of 0 gives nothing.
    """
    if not amount:
        return 0.0
    if not limit:
        return math.inf
    missing_s = full_at - now
    if missing_s <= 0:
        return 0.0
    short_s = min(missing_s, missing_s + amount * MINUTE_S / limit - window_s)
    return short_s if short_s > _ROUNDING_S else 0.0


def bucket_left(limit: int, full_at: float, now: float, window_s: float) -> int:
    """Return how much a bucket would give now; nothing while it is in debt."""
    missing_s = full_at - now
    left = math.floor((window_s - (missing_s if missing_s > 0 else 0.0) + _ROUNDING_S) * limit / MINUTE_S)
    return left if left > 0 else 0


def _waits(limits: Limits, state: State, demand: Demand, now: float, pace: Pace) -> list[tuple[Which, float]]:
    """Say for each limit how long it forbids the call; 0 where it does not."""
    waits: list[tuple[Which, float]] = []
    calls, rpm, tpm, places, budget = demand.calls, limits.rpm, limits.tpm, limits.concurrency, limits.budget
    if rpm is not None:
        waits.append(("requests", bucket_wait_s(rpm, state.requests_full_at, calls, now, pace.window_s)))
        if pace.burst is not None:
            waits.append(("burst", bucket_wait_s(rpm * pace.burst, state.burst_full_at, calls, now, 1.0)))
    if tpm is not None:  # a call that will use none counts as one token: where nothing may be used, nothing may begin
        waits.append(("tokens", bucket_wait_s(tpm, state.tokens_full_at, demand.tokens or calls, now, pace.window_s)))
    if places is not None and calls and state.running + calls > places:
        waits.append(("concurrency", _CALL_S if places else math.inf))
    if budget is not None and demand.nanos and state.spent + state.reserved + demand.nanos > budget.nanos:
        # What other calls hold may come back, what was spent does not.
        waits.append(("budget", _CALL_S if state.spent + demand.nanos <= budget.nanos else math.inf))
    return waits
