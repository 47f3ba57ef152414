"""What is known of a deployment's health, and what a success or a failure makes of it.

    well ──failures in a row──▶ resting ──cooldown over──▶ to_probe ──one call──▶ probing ──success──▶ well
                                   ▲                                                 │
                                   └──────────────a longer cooldown──────failure─────┘

Pure: the time is an argument (monotonic seconds). `Standing` alone changes: it holds the value, and what is counted for
every burst of every stream.
"""

import math
from typing import Literal

import msgspec

from hanlin.errors import EngineError, HanlinError
from hanlin.words import say

State = Literal["well", "resting", "to_probe", "probing"]

COOLDOWNS_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""How long a deployment rests when its breaker opens for the first, second … time without a success in between."""

PROBE_LIMIT_S = 120.0
"""A probe that has not come back by then is given up, and the next call may be one."""

STALL_S = 8.0
"""Silence under load after which a deployment is suspected. One that stopped is to be avoided within 10 s."""

_LIMIT = 3
_LIMITS = {"refused": 1, "unreachable": 2}
"""After how many failures in a row the breaker opens, by the `fault` of the latest: a key does not become right by
trying it again."""

_LONGEST_WAIT_S = 60.0

_TELLING_S = 0.5
"""Only answers that took so long tell how fast an engine generates: the others are over before it has a pace."""

_HALF_LIFE_S = 60.0
_NEWS_S = 1.0
_SAMPLES_LIMIT = 20.0
"""What is counted never weighs more than this many calls: after a busy hour, too, two minutes are enough to forget."""


class Health(msgspec.Struct, frozen=True, gc=False):
    """A deployment's health as a value.

    `rests_until` is the end of its cooldown, None while the breaker is closed; `waits_until` the end of what its engine
    asked to wait, which is no sickness. `fault` and `why` are the latest failure's since the last success: its word,
    and a sentence for people. `probe_since` is when the single probe left, None while there is none. `good` and `bad`
    are the calls that succeeded and failed, decayed to the time `counted_s`. Made anew for every call, hence a Struct.
    """

    failures: int = 0
    openings: int = 0
    rests_until: float | None = None
    waits_until: float = -math.inf
    probe_since: float | None = None
    fault: str = ""
    why: str = ""
    last_success_s: float | None = None
    good: float = 0.0
    bad: float = 0.0
    counted_s: float = 0.0


def state(health: Health, now: float) -> State:
    """Say what may be asked of a deployment: anything, nothing, one call to test it, or nothing until that is back."""
    if now < health.waits_until:
        return "resting"
    if health.rests_until is None:
        return "well"
    if health.probe_since is not None and now - health.probe_since < PROBE_LIMIT_S:
        return "probing"
    return "resting" if now < health.rests_until else "to_probe"


def asked_to_wait(health: Health, now: float) -> bool:
    """Say whether it rests because its engine asked to: another try before the time is of no use, and no courtesy."""
    return now < health.waits_until


def available_at(health: Health, now: float) -> float:
    """Return when a call may be sent again, as far as is known; `now` when that is at once."""
    return max(now, health.waits_until, now if health.rests_until is None else health.rests_until)


def after_success(health: Health, now: float) -> Health:
    """It answered: the breaker closes, and what failed before is over. A wait that its engine asked for stays."""
    good, bad = counts(health, now)
    return Health(
        waits_until=health.waits_until,
        fault=health.fault if now < health.waits_until else "",
        why=health.why if now < health.waits_until else "",
        last_success_s=now,
        good=good + 1,
        bad=bad,
        counted_s=now,
    )


def is_as_well_as_can_be(health: Health, now: float) -> bool:
    """Whether one more success would say nothing new."""
    return (
        health.good >= _SAMPLES_LIMIT
        and not health.bad
        and not health.failures
        and health.rests_until is None
        and health.probe_since is None
        and not health.fault
        and now - health.counted_s < _NEWS_S
    )


def after_failure(health: Health, error: HanlinError, now: float) -> Health:
    """Count a failure against the deployment, as far as the error is its fault. No other error changes anything.

    An engine that says when to come back rests so long, at most a minute, and is not the sicker for it. While it rests,
    failures of calls that were under way before change nothing more: a crash ends many calls, and is one.
    """
    if not isinstance(error, EngineError):
        return health
    if error.asked_wait_s is not None:
        return _asked(health, error.fault, min(error.asked_wait_s, _LONGEST_WAIT_S), now)
    if not error.blames:
        return health
    good, bad = counts(health, now)
    failures = health.failures + 1
    health = msgspec.structs.replace(
        health, failures=failures, fault=error.fault, why=_why(failures, error), good=good, bad=bad + 1, counted_s=now
    )
    if health.rests_until is None:
        return _opened(health, now) if failures >= _LIMITS.get(error.fault, _LIMIT) else health
    return health if now < health.rests_until else _opened(health, now)


def probe_begins(health: Health, now: float) -> Health | None:
    """Send the single probe, or return None when it is not the caller's to send: too early, or it is out already."""
    return msgspec.structs.replace(health, probe_since=now) if state(health, now) == "to_probe" else None


def without_probe(health: Health) -> Health:
    """The probe is back without a verdict (its caller hung up, its request was at fault): another call may be one."""
    return health if health.probe_since is None else msgspec.structs.replace(health, probe_since=None)


def suspected(quiet_since: float | None, now: float, stall_s: float = STALL_S) -> bool:
    """Say whether a deployment with calls under way has been silent for too long; None stands for no call."""
    return quiet_since is not None and now - quiet_since >= stall_s


def counts(health: Health, now: float) -> tuple[float, float]:
    """Return how many calls succeeded and failed of late, each weighing half as much for every minute since."""
    samples = health.good + health.bad
    if not samples:
        return 0.0, 0.0
    faded = math.exp2((health.counted_s - now) / _HALF_LIFE_S)
    kept = min(faded, _SAMPLES_LIMIT / samples)
    return health.good * kept, health.bad * kept


def _asked(health: Health, fault: str, wait_s: float, now: float) -> Health:
    return msgspec.structs.replace(
        health,
        waits_until=max(health.waits_until, now + wait_s),
        fault=fault,
        why=say(f"it asks to wait {wait_s:g} s", f"它要求等待 {wait_s:g} 秒"),
    )


def _opened(health: Health, now: float) -> Health:
    cooldown_s = COOLDOWNS_S[min(health.openings, len(COOLDOWNS_S) - 1)]
    return msgspec.structs.replace(health, openings=health.openings + 1, rests_until=now + cooldown_s, probe_since=None)


def _why(failures: int, error: EngineError) -> str:
    """Say what failed by its word alone: an engine's own words may quote what another caller wrote."""
    if failures == 1:
        return say(f"the last call failed ({error.fault})", f"最近一次调用失败（{error.fault}）")
    return say(
        f"the last {failures} calls failed, most recently: {error.fault}",
        f"最近 {failures} 次调用均失败，最后一次：{error.fault}",
    )


class Standing:
    """One deployment as it stands: its health, and what its calls under way add up to. `last_sign` is its latest word.
    `tokens_per_s` is how fast one answer that comes as a whole was generated lately, 0 while nobody knows.

    For every call: `call_begins` when the deployment was chosen, before it waits for a place, so that the line counts
    as load; `sign_of_life` for every burst (an empty one is a sign, too); `call_ends` in any case; and one verdict,
    `succeeded` or `failed`, unless its caller left. Whoever got True from
    `probe_begins` calls `succeeded` with the first token, not after the last one: an answer may take minutes, in which
    everybody else would wait for the verdict.
    """

    __slots__ = ("health", "last_sign", "open_calls", "outstanding_tokens", "tokens_per_s")

    def __init__(self) -> None:
        self.health = Health()
        self.open_calls = 0
        self.outstanding_tokens = 0
        self.last_sign = 0.0
        self.tokens_per_s = 0.0

    @property
    def quiet_since(self) -> float | None:
        """When it last gave a sign of life, or was first asked for one; None while nothing is asked of it."""
        return self.last_sign if self.open_calls else None

    def state(self, now: float) -> State:
        return state(self.health, now)

    def suspected(self, now: float, stall_s: float = STALL_S) -> bool:
        return suspected(self.quiet_since, now, stall_s)

    def call_begins(self, tokens: int, now: float) -> None:
        """Count a call of about so many tokens, prompt and answer together."""
        if not self.open_calls:
            self.last_sign = now
        self.open_calls += 1
        self.outstanding_tokens += tokens

    def sign_of_life(self, now: float) -> None:
        """Something came. For every burst of every stream: nothing but this may happen here."""
        self.last_sign = now

    def call_ends(self, tokens: int) -> None:
        """Count a call no longer; `tokens` are those of its beginning."""
        self.open_calls -= 1
        self.outstanding_tokens -= tokens

    def succeeded(self, now: float) -> None:
        self.last_sign = now
        if not is_as_well_as_can_be(self.health, now):
            self.health = after_success(self.health, now)

    def failed(self, error: HanlinError, now: float) -> None:
        self.health = after_failure(self.health, error, now)

    def generated(self, tokens: int, took_s: float) -> None:
        """Learn how fast answers are generated here, each by itself, from one that is over. Short ones say nothing."""
        if took_s >= _TELLING_S:
            rate = tokens / took_s
            self.tokens_per_s = rate if not self.tokens_per_s else self.tokens_per_s + (rate - self.tokens_per_s) / 8

    def probe_begins(self, now: float) -> bool:
        """Say whether this call is the single probe. Whoever gets True owes `succeeded`, or `probe_left` at its end."""
        if self.health.rests_until is None:
            return False
        health = probe_begins(self.health, now)
        if health is not None:
            self.health = health
        return health is not None

    def probe_left(self) -> None:
        self.health = without_probe(self.health)
