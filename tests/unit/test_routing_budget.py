"""How many further attempts there are: a share of the calls, and a few where calls are few."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.routing.budget import RetryBudget


def taken(budget: RetryBudget, now: float, wanted: int = 1000) -> int:
    return sum(budget.take(now) for _ in range(wanted))


def test_a_quiet_service_may_still_retry() -> None:
    """A tenth of one call is no retry at all, and a single call deserves one as much as any."""
    assert taken(RetryBudget(least_per_s=1.0, window_s=10), now=500.0) == 10


def test_a_busy_service_retries_a_tenth_of_its_calls() -> None:
    """When everything fails, retries must not double what a sick engine has to bear."""
    budget = RetryBudget(ratio=0.1, least_per_s=1.0, window_s=10)

    for _ in range(500):
        budget.deposit(7.0)

    assert taken(budget, now=7.5) == 60


def test_what_has_left_the_window_counts_no_longer() -> None:
    """Neither the calls, which would allow too much, nor the attempts, which would forbid too much."""
    budget = RetryBudget(ratio=0.1, least_per_s=1.0, window_s=10)
    for _ in range(500):
        budget.deposit(7.0)
    assert taken(budget, now=7.0) == 60

    assert taken(budget, now=16.9) == 0
    assert taken(budget, now=17.0) == 10


def test_looking_takes_nothing() -> None:
    """A decision asks what is left before it knows whether it needs any."""
    budget = RetryBudget(least_per_s=0.1, window_s=10)

    assert all(budget.left(1.0) for _ in range(9))
    assert budget.take(1.0)
    assert not budget.left(1.0)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30), st.integers(0, 10)), max_size=40),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(deadline=None)
def test_the_attempts_of_any_window_are_a_share_of_its_calls_and_the_least(
    steps: list[tuple[float, int, int]], ratio: float, least_per_s: float
) -> None:
    """The law, for the window that ends with any attempt; a tenth of it may lie outside, as the class says."""
    budget, now = RetryBudget(ratio, least_per_s, window_s=10), 0.0
    calls: list[float] = []
    attempts: list[float] = []
    for pause_s, deposits, wishes in steps:
        now += pause_s
        for _ in range(deposits):
            budget.deposit(now)
            calls.append(now)
        got = taken(budget, now, wishes)
        attempts += [now] * got
        within = sum(at > now - 9 for at in attempts)
        assert not got or within <= ratio * sum(at > now - 10 for at in calls) + least_per_s * 10
