"""What a failed attempt leads to: the same deployment again, another one, another model, or the error.

Pure; `service` waits, calls and counts. What may be done depends on what has happened already: until the first event
has left, everything; after it, nothing but going on where the answer broke off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hanlin.errors import EngineError, EngineUnavailable, HanlinError, Overloaded
from hanlin.routing.order import Candidate

_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.1, 0.5


@dataclass(frozen=True)
class Policy:
    """What one call may try. `asked_wait_limit_s`: a wait that the engine asks for is kept up to this length."""

    retries_per_deployment: int = 1
    attempts_limit: int = 4
    attempts_until_s: float = 300.0
    asked_wait_limit_s: float = 2.0


@dataclass(frozen=True)
class Tried:
    """What a call has done until now. `on` is where it failed just now, for the `attempts_here`-th time.

    `events_sent`: the caller has seen a part of the answer. `can_continue`: what it asked for is plain text, which
    another attempt can take up where it ends. `elapsed_s` counts from the call's arrival.
    """

    on: Candidate
    attempts_here: int = 1
    attempts: int = 1
    events_sent: bool = False
    can_continue: bool = False
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Retry:
    """Ask the same deployment once more, after `wait_s`."""

    wait_s: float
    takes_budget = True


@dataclass(frozen=True)
class Failover:
    """Ask another deployment of the same model."""

    to: Candidate
    takes_budget: bool = True


@dataclass(frozen=True)
class Fallback:
    """Ask another model. That the request fits it was checked before it became a candidate."""

    to: Candidate
    takes_budget: bool = True


@dataclass(frozen=True)
class Continue:
    """Let a deployment of the same model go on with the answer that the caller has the beginning of."""

    to: Candidate
    takes_budget = True


@dataclass(frozen=True)
class GiveUp:
    """Tell the caller."""

    error: HanlinError
    takes_budget = False


Decision = Retry | Failover | Fallback | Continue | GiveUp


def after_failure(
    error: HanlinError, tried: Tried, ahead: Sequence[Candidate], policy: Policy, *, budget_left: bool, draw: float
) -> Decision:
    """Decide what comes next. `ahead` are the candidates not tried yet, in their order; `draw` is uniform in [0, 1).

    What `takes_budget` has to take a token of the retry budget, and is only returned when there is one.
    """
    if not isinstance(error, EngineError) or not error.retryable or tried.attempts >= policy.attempts_limit:
        return GiveUp(error)
    if tried.events_sent:
        return _going_on(error, tried, ahead, policy) if tried.can_continue and budget_left else GiveUp(error)
    if tried.elapsed_s >= policy.attempts_until_s:
        return GiveUp(error)
    # Passing on multiplies nobody's load where no engine got the call, and a call that probed must not pay for it.
    free = isinstance(error, EngineUnavailable | Overloaded) or tried.on.state == "to_probe"
    allowed = [other for other in ahead if budget_left or free]
    for other in allowed:
        if other.is_well and not other.fallback:
            return Failover(other, takes_budget=not free)
    wait_s = _wait_s(error, tried, ahead, policy, draw)
    if budget_left and wait_s is not None:
        return Retry(wait_s)
    for other in allowed:
        return Fallback(other, takes_budget=not free) if other.fallback else Failover(other, takes_budget=not free)
    return GiveUp(error)


def _wait_s(error: EngineError, tried: Tried, ahead: Sequence[Candidate], policy: Policy, draw: float) -> float | None:
    """Return how long to wait for another try on the same deployment, None when there is to be none.

    An engine that says when to come back is taken at its word where nobody else is left to ask; our own full line
    (Overloaded) is not: a wait in front of it would be a second line, without an end.
    """
    if tried.attempts_here > policy.retries_per_deployment:
        return None
    asked_s = error.retry_after_s
    if asked_s is not None and asked_s <= policy.asked_wait_limit_s and not ahead and not isinstance(error, Overloaded):
        wait_s = float(asked_s)
    elif error.again:
        wait_s = _SHORTEST_WAIT_S + (_LONGEST_WAIT_S - _SHORTEST_WAIT_S) * draw
    else:
        return None
    return wait_s if tried.elapsed_s + wait_s < policy.attempts_until_s else None


def _going_on(error: EngineError, tried: Tried, ahead: Sequence[Candidate], policy: Policy) -> Continue | GiveUp:
    """Choose who continues an answer. A long answer has taken long: the time since the call came does not count."""
    others = [other for other in ahead if other.continues and not other.fallback]
    may_repeat = error.again and tried.on.continues and tried.attempts_here <= policy.retries_per_deployment
    same = [tried.on] if may_repeat else []
    well = [other for other in others if other.is_well]
    for choice in (*well, *same, *others):
        return Continue(choice)
    return GiveUp(error)
