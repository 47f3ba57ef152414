"""A deployment's health: when it rests, when it is tested, and what a silence under load means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.errors import (
    AnswerUnfit,
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
)
from hanlin.routing.health import (
    COOLDOWNS_S,
    PROBE_LIMIT_S,
    Health,
    Standing,
    State,
    after_failure,
    after_success,
    asked_to_wait,
    available_at,
    counts,
    probe_begins,
    state,
    suspected,
    without_probe,
)

DIED = EngineFailed("it died")
WELL = Health()


def after(*errors: HanlinError, now: float = 0.0, health: Health = WELL) -> Health:
    for error in errors:
        health = after_failure(health, error, now)
    return health


def asking(error: EngineError, wait_s: float) -> EngineError:
    """Return an error with the wait that the engine itself asks for."""
    error.asked_wait_s = wait_s
    return error


def probed(health: Health, now: float) -> Health:
    probing = probe_begins(health, now)
    assert probing is not None
    return probing


# --- the breaker -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([DIED], "well"),
        ([DIED, DIED], "well"),
        ([DIED, DIED, DIED], "resting"),
        ([EngineStalled(120)] * 3, "resting"),
        ([EngineUnreachable("refused")], "well"),
        ([EngineUnreachable("refused")] * 2, "resting"),
        ([DIED, EngineUnreachable("refused")], "resting"),
        ([EngineRefused("wrong key")], "resting"),
        ([AnswerUnfit("no JSON")] * 9, "well"),  # its model is weak, not sick
        ([RequestTimedOut(600)] * 9, "well"),  # our own limit
        ([Overloaded(9)] * 9, "well"),  # our own line
        ([InvalidRequest("no such parameter")] * 9, "well"),  # the caller's
    ],
)
def test_failures_in_a_row_that_are_its_fault_let_it_rest(errors: list[HanlinError], expected: State) -> None:
    """A network hiccup must not take a deployment away; a wrong key fails every time, and needs one proof only."""
    assert state(after(*errors), now=0.5) == expected


def test_a_success_in_between_starts_the_count_again() -> None:
    """Two failures in a thousand calls are noise, however the calls lie between them."""
    health = after(DIED, DIED, health=after_success(after(DIED, DIED), 1.0), now=2.0)

    assert state(health, 2.0) == "well"


def test_it_rests_until_its_cooldown_ends_and_is_then_to_be_probed() -> None:
    """A sick deployment must not slow every request down, nor wait for an operator to come back."""
    health = after(DIED, DIED, DIED, now=100.0)

    assert state(health, 100.9) == "resting"
    assert state(health, 101.0) == "to_probe"
    assert available_at(health, 100.4) == 101.0


def test_cooldowns_grow_with_every_probe_that_fails() -> None:
    """What stays broken for an hour should cost one call a minute, and what is back in a second one call."""
    health, now, rested_s = after(DIED, DIED, DIED), 0.0, []

    for _ in range(len(COOLDOWNS_S) + 1):
        assert health.rests_until is not None
        rested_s.append(health.rests_until - now)
        now = health.rests_until
        health = after(DIED, health=probed(health, now), now=now)

    assert rested_s == [*COOLDOWNS_S, COOLDOWNS_S[-1]]


def test_a_success_closes_the_breaker_and_forgets_how_long_it_has_been_sick() -> None:
    """After a recovery the next failure is a new one, with the shortest cooldown."""
    sick = after(DIED, health=probed(after(DIED, DIED, DIED), 1.0), now=1.0)

    well = after_success(probed(sick, 3.0), 3.5)

    assert (state(well, 3.5), well.failures, well.openings, well.why) == ("well", 0, 0, "")
    assert well.last_success_s == 3.5


def test_a_crash_that_ends_many_calls_is_one_opening() -> None:
    """Fifty calls under way fail together; fifty openings would let the deployment rest for a minute at once."""
    health = after(*[DIED] * 50)

    assert health.rests_until == COOLDOWNS_S[0]


def test_the_latest_failure_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads it beside the deployment's name."""
    monkeypatch.setenv("HANLIN_LANG", "en")

    assert after(DIED).why == "the last call failed (failed)"
    assert after(DIED, DIED).why.startswith("the last 2 calls failed, most recently: ")
    assert after(asking(EngineBusy("slow down"), 7)).why == "it asks to wait 7 s"


# --- the probe -------------------------------------------------------------------------------------------------------


def test_only_one_caller_gets_the_probe() -> None:
    """A herd of calls would knock down again what is just getting up."""
    probing = probed(after(DIED, DIED, DIED), 1.0)

    assert state(probing, 1.0) == "probing"
    assert probe_begins(probing, 1.0) is None


@pytest.mark.parametrize("health", [WELL, after(DIED, DIED, DIED)])
def test_there_is_no_probe_for_what_is_well_or_rests(health: Health) -> None:
    """The one needs none, the other is left in peace."""
    assert probe_begins(health, 0.5) is None


def test_a_probe_that_never_came_back_is_given_up() -> None:
    """Its caller's task may have died with it; the deployment must not be lost for ever."""
    probing = probed(after(DIED, DIED, DIED), 1.0)

    assert state(probing, 1.0 + PROBE_LIMIT_S - 0.1) == "probing"
    assert state(probing, 1.0 + PROBE_LIMIT_S) == "to_probe"


def test_a_probe_without_a_verdict_lets_another_call_be_one() -> None:
    """Its caller hung up, or its request was at fault: that says nothing about the deployment."""
    probing = probed(after(DIED, DIED, DIED), 1.0)

    assert state(without_probe(probing), 2.0) == "to_probe"


@pytest.mark.parametrize("error", [InvalidRequest("not for me"), AnswerUnfit("no JSON"), RequestTimedOut(600)])
def test_other_calls_that_end_without_a_verdict_leave_the_probe_out(error: HanlinError) -> None:
    """Calls from before the sickness may still be under way; their ends must not let a second probe go."""
    probing = probed(after(DIED, DIED, DIED), 1.0)

    assert after_failure(probing, error, 2.0) == probing


# --- engines that ask to wait ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [asking(EngineBusy("429"), 7), asking(EngineUnavailable("loading"), 7)])
def test_an_engine_that_says_when_to_come_back_rests_exactly_so_long(error: HanlinError) -> None:
    """It lives, and knows best; being busy is no sickness, so no probe is needed afterwards."""
    health = after(*[error] * 9)

    assert (state(health, 6.9), asked_to_wait(health, 6.9), available_at(health, 1.0)) == ("resting", True, 7.0)
    assert (state(health, 7.0), asked_to_wait(health, 7.0)) == ("well", False)
    assert health.failures == 0
    assert counts(health, 0.0) == (0.0, 0.0)


def test_a_wait_of_an_hour_is_not_believed() -> None:
    """Upstreams send a day's quota as Retry-After; looking once a minute costs nothing and may find it open."""
    assert available_at(after(asking(EngineBusy("quota"), 3600)), 0.0) == 60.0


def test_another_calls_success_does_not_end_a_wait_that_was_asked_for() -> None:
    """The answer that ends now was begun before the engine asked."""
    waiting = after(asking(EngineBusy("429"), 7))

    health = after_success(waiting, 1.0)

    assert state(health, 2.0) == "resting"
    assert health.why == waiting.why != ""


def test_a_sick_engine_that_asks_to_wait_is_still_to_be_probed_then() -> None:
    """Being busy does not heal; it is only no further sign of sickness."""
    health = without_probe(after(asking(EngineBusy("429"), 7), health=probed(after(DIED, DIED, DIED), 1.0), now=1.0))

    assert state(health, 7.9) == "resting"
    assert state(health, 8.0) == "to_probe"


# --- counting for the comparison with others -------------------------------------------------------------------------


def test_what_is_counted_weighs_half_after_a_minute() -> None:
    """An hour's old failures say nothing about now."""
    health = after_success(after(DIED, now=10.0), 10.0)

    assert counts(health, 10.0) == (1.0, 1.0)
    assert counts(health, 70.0) == (0.5, 0.5)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=80))
@settings(deadline=None)
def test_a_busy_past_is_forgotten_as_fast_as_a_quiet_one(calls: list[tuple[bool, float]]) -> None:
    """The weight has a bound: without it a thousand failures would outweigh ten minutes of recovery."""
    health, now = WELL, 0.0
    for good, pause_s in calls:
        now += pause_s
        health = after_success(health, now) if good else after(DIED, health=health, now=now)

    good_calls, bad_calls = counts(health, now)
    assert 0 <= good_calls + bad_calls <= 20.001
    assert sum(counts(health, now + 180)) < 5


# --- suspicion -------------------------------------------------------------------------------------------------------


def test_silence_under_load_is_suspect_and_without_load_is_not() -> None:
    """Idle is not sick. A stopped process keeps its connections open, and says nothing."""
    standing = Standing()
    assert not standing.suspected(1000.0)

    standing.call_begins(100, 1000.0)

    assert not standing.suspected(1007.9)
    assert standing.suspected(1008.0)
    assert standing.suspected(1003.0, stall_s=3.0)


def test_any_sign_of_life_of_any_call_ends_the_suspicion() -> None:
    """One long prompt may be silent; a deployment on which others get tokens is not stopped."""
    standing = Standing()
    standing.call_begins(100, 0.0)
    standing.call_begins(100, 5.0)

    standing.sign_of_life(9.0)

    assert not standing.suspected(16.9)
    assert standing.suspected(17.0)


def test_a_further_call_is_no_sign_of_life() -> None:
    """Otherwise a stopped deployment would look the better the more calls are sent to it."""
    standing = Standing()
    standing.call_begins(100, 0.0)

    standing.call_begins(100, 7.9)

    assert standing.suspected(8.0)


def test_a_call_that_ends_without_a_word_is_no_sign_of_life_while_others_wait() -> None:
    """Callers that give up on a stopped deployment must not make it look alive."""
    standing = Standing()
    standing.call_begins(100, 0.0)
    standing.call_begins(50, 0.0)

    standing.call_ends(100)

    assert (standing.open_calls, standing.outstanding_tokens) == (1, 50)
    assert standing.suspected(8.0)
    standing.call_ends(50)
    assert standing.quiet_since is None
    assert not suspected(standing.quiet_since, 8.0)


def test_a_standing_follows_the_verdicts_of_its_calls() -> None:
    """It adds no rule of its own to those of the values."""
    standing = Standing()
    for _ in range(3):
        standing.failed(DIED, 0.0)
    assert standing.state(0.5) == "resting"

    assert not standing.probe_begins(0.5)
    assert standing.probe_begins(1.0)
    assert not standing.probe_begins(1.0)
    standing.probe_left()
    assert standing.probe_begins(1.0)
    standing.succeeded(2.0)

    assert standing.state(2.0) == "well"
