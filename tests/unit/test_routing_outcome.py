"""What a failed attempt leads to, as tables: the error, what happened before, who is left, and what comes next."""

import pytest

from hanlin.errors import (
    AnswerUnfit,
    ContextLengthExceeded,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineStalled,
    EngineUnavailable,
    EngineUnreachable,
    HanlinError,
    InvalidRequest,
    Overloaded,
    RequestTimedOut,
    StoreFailed,
)
from hanlin.routing.order import Candidate
from hanlin.routing.outcome import (
    Continue,
    Decision,
    Failover,
    Fallback,
    GiveUp,
    Policy,
    Retry,
    Tried,
    after_failure,
)

HERE = Candidate("here", continues=True)
OTHER = Candidate("other")
SILENT = Candidate("silent", suspected=True)
RESTING = Candidate("resting", state="resting")
MODEL = Candidate("another model", fallback=True)

DIED, STALLED, UNFIT = EngineFailed("it died"), EngineStalled(120), AnswerUnfit("no JSON")
UNREACHABLE, REFUSED, LOADING = EngineUnreachable("no"), EngineRefused("wrong key"), EngineUnavailable("loading")
BUSY, FULL = EngineBusy("429"), Overloaded(9)
SOON, FULL_SOON = EngineBusy("429", retry_after_s=2), Overloaded(9, retry_after_s=1)


def decided(
    error: HanlinError,
    *ahead: Candidate,
    tried: Tried = Tried(HERE),  # noqa: B008 - a frozen value
    budget_left: bool = True,
    draw: float = 0.0,
) -> Decision:
    return after_failure(error, tried, ahead, Policy(), budget_left=budget_left, draw=draw)


# --- before the first event ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "ahead", "expected"),
    [
        # somebody who is well and runs the same model is the surest and quickest way
        (DIED, [OTHER, MODEL], Failover(OTHER)),
        (DIED, [SILENT, OTHER], Failover(OTHER)),
        (STALLED, [OTHER], Failover(OTHER)),
        (UNFIT, [OTHER], Failover(OTHER)),
        (BUSY, [OTHER], Failover(OTHER)),
        # nobody well: the same one again where that can help, then whoever is left, in their order
        (DIED, [], Retry(0.1)),
        (DIED, [SILENT, MODEL], Retry(0.1)),
        (UNREACHABLE, [MODEL], Retry(0.1)),
        (STALLED, [SILENT, MODEL], Failover(SILENT)),
        (STALLED, [MODEL, RESTING], Fallback(MODEL)),
        (STALLED, [RESTING], Failover(RESTING)),
        (REFUSED, [MODEL], Fallback(MODEL, takes_budget=False)),
        (BUSY, [MODEL], Fallback(MODEL)),
        (STALLED, [], GiveUp(STALLED)),
        (UNFIT, [], GiveUp(UNFIT)),
        (REFUSED, [], GiveUp(REFUSED)),
        (BUSY, [], GiveUp(BUSY)),
        # a short wait that the engine names is kept where nobody else is left to ask
        (SOON, [], Retry(2.0)),
        (SOON, [MODEL], Fallback(MODEL)),
        (LOADING, [], GiveUp(LOADING)),
        (FULL_SOON, [], GiveUp(FULL_SOON)),  # it would wait in front of a line that is full
        (FULL_SOON, [MODEL], Fallback(MODEL, takes_budget=False)),
    ],
)
def test_the_surest_way_first_then_the_cheapest(error: EngineError, ahead: list[Candidate], expected: Decision) -> None:
    """Nothing has left: the caller sees a late answer, whoever gives it. Another model is a last resort."""
    assert decided(error, *ahead) == expected


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no such parameter"),
        ContextLengthExceeded("qwen-plus", 9, 8),
        RequestTimedOut(600),
        StoreFailed(),  # retryable by the client; no deployment can help
    ],
)
def test_what_no_deployment_can_mend_goes_to_the_caller_at_once(error: HanlinError) -> None:
    """The same request would fail everywhere, and every attempt would keep the caller waiting for it."""
    assert decided(error, OTHER, MODEL) == GiveUp(error)


@pytest.mark.parametrize(("draw", "wait_s"), [(0.0, 0.1), (0.25, 0.2), (0.5, 0.3)])
def test_retries_do_not_come_in_step(draw: float, wait_s: float) -> None:
    """A crash ends many calls at once; all of them at once again would be the next crash."""
    found = decided(DIED, draw=draw)

    assert isinstance(found, Retry)
    assert found.wait_s == pytest.approx(wait_s)


def test_the_same_deployment_is_asked_once_more_only() -> None:
    """Twice is bad luck, three times is sick."""
    twice = Tried(HERE, attempts_here=2, attempts=2)

    assert decided(DIED, tried=twice) == GiveUp(DIED)
    assert decided(SOON, tried=twice) == GiveUp(SOON)
    assert decided(DIED, SILENT, tried=twice) == Failover(SILENT)


@pytest.mark.parametrize(
    "tried", [Tried(HERE, attempts=4), Tried(HERE, elapsed_s=300.0), Tried(HERE, events_sent=True, attempts=4)]
)
def test_a_call_has_a_limit_of_attempts_and_of_time(tried: Tried) -> None:
    """A caller learns of a failure while it still listens."""
    assert decided(DIED, OTHER, MODEL, tried=tried) == GiveUp(DIED)


def test_a_retry_that_would_come_too_late_is_not_waited_for() -> None:
    """The wait counts, too."""
    assert decided(SOON, tried=Tried(HERE, elapsed_s=298.5)) == GiveUp(SOON)


# --- the budget ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "ahead", "expected"),
    [
        (DIED, [OTHER, MODEL], GiveUp(DIED)),
        (DIED, [], GiveUp(DIED)),
        (STALLED, [MODEL], GiveUp(STALLED)),
        (BUSY, [OTHER], GiveUp(BUSY)),
        # what never reached an engine cost nobody anything
        (UNREACHABLE, [OTHER], Failover(OTHER, takes_budget=False)),
        (REFUSED, [OTHER], Failover(OTHER, takes_budget=False)),
        (LOADING, [OTHER], Failover(OTHER, takes_budget=False)),
        (FULL, [OTHER], Failover(OTHER, takes_budget=False)),
        (FULL, [MODEL, RESTING], Fallback(MODEL, takes_budget=False)),
        (UNREACHABLE, [MODEL], Fallback(MODEL, takes_budget=False)),
        (UNREACHABLE, [], GiveUp(UNREACHABLE)),
    ],
)
def test_without_budget_only_what_costs_nobody_anything_goes_on(
    error: EngineError, ahead: list[Candidate], expected: Decision
) -> None:
    """When everything fails, every retry makes it worse for everybody."""
    assert decided(error, *ahead, budget_left=False) == expected


def test_a_call_that_was_a_probe_goes_on_without_budget() -> None:
    """It did everybody a service, and must not fail for it. Cooldowns bound how often that is."""
    probe = Candidate("p", state="to_probe")

    assert decided(DIED, OTHER, tried=Tried(probe), budget_left=False) == Failover(OTHER, takes_budget=False)


def test_all_other_decisions_take_from_the_budget() -> None:
    """`service` takes what the decision says, and needs no rule of its own."""
    decisions = [decided(DIED, OTHER), decided(DIED), decided(STALLED, MODEL), decided(DIED, tried=broken_off())]

    assert [type(each) for each in decisions] == [Failover, Retry, Fallback, Continue]
    assert all(each.takes_budget for each in decisions)
    assert not GiveUp(DIED).takes_budget
    assert not decided(UNREACHABLE, OTHER).takes_budget


# --- after events were sent ------------------------------------------------------------------------------------------


def broken_off(on: Candidate = HERE, *, attempts_here: int = 1, can_continue: bool = True) -> Tried:
    return Tried(on, attempts_here, attempts_here, events_sent=True, can_continue=can_continue, elapsed_s=900.0)


GOES_ON = Candidate("goes on", continues=True)
SILENT_GOES_ON = Candidate("silent, goes on", continues=True, suspected=True)
MODEL_GOES_ON = Candidate("another model, goes on", continues=True, fallback=True)
CANNOT = Candidate("cannot")


@pytest.mark.parametrize(
    ("error", "tried", "ahead", "expected"),
    [
        (DIED, broken_off(), [OTHER, GOES_ON], Continue(GOES_ON)),
        (DIED, broken_off(), [SILENT_GOES_ON, GOES_ON], Continue(GOES_ON)),
        (DIED, broken_off(), [SILENT_GOES_ON], Continue(HERE)),
        (DIED, broken_off(), [], Continue(HERE)),
        (STALLED, broken_off(), [SILENT_GOES_ON], Continue(SILENT_GOES_ON)),
        (STALLED, broken_off(), [], GiveUp(STALLED)),  # that one is not to be asked again at once
        (DIED, broken_off(attempts_here=2), [], GiveUp(DIED)),
        (DIED, broken_off(CANNOT), [OTHER], GiveUp(DIED)),  # nobody's engine can
        (DIED, broken_off(can_continue=False), [GOES_ON], GiveUp(DIED)),  # a tool call or JSON: not to be glued
        (DIED, broken_off(CANNOT), [MODEL_GOES_ON], GiveUp(DIED)),  # half an answer of one model, half of another
        (InvalidRequest("?"), broken_off(), [GOES_ON], None),
    ],
)
def test_after_the_first_event_an_answer_is_continued_or_given_up(
    error: HanlinError, tried: Tried, ahead: list[Candidate], expected: Decision | None
) -> None:
    """Never begun anew: the caller would read its beginning twice. However long it has run, it may go on."""
    assert decided(error, *ahead, tried=tried) == (expected or GiveUp(error))


def test_continuing_takes_budget_too() -> None:
    """The whole prompt is read again for it."""
    assert decided(DIED, GOES_ON, tried=broken_off(), budget_left=False) == GiveUp(DIED)
