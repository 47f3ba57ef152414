"""The decision about a call as arithmetic, the periods of budgets, and what callers are told."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.errors import (
    BudgetExceeded,
    BurstExceeded,
    PlacesExceeded,
    QuotaExceeded,
    RequestsExceeded,
    TokensExceeded,
)
from hanlin.metering.limits import (
    BY_MINUTE,
    BY_SECOND,
    Admitted,
    Demand,
    Pace,
    Refused,
    State,
    Subject,
    admit,
    bucket_left,
    bucket_wait_s,
    refused,
    settled,
    taken,
)
from hanlin.metering.periods import NO_SPAN, Span, span
from hanlin.metering.rates import Rates, Window, duration, rates
from hanlin.metering.refusals import error_of, money
from hanlin.store.rows import NANOS, Budget, Limits, Period

NOW = 5_000.0
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def key(**limits: Any) -> Subject:
    return Subject("key", "key-1", Limits(**limits), "laptop")


def told(
    subject: Subject, demand: Demand, state: State | None = None, pace: Pace = BY_MINUTE, wall: float = NOON
) -> QuotaExceeded:
    """Return what a caller is told whose call is refused."""
    period = NO_SPAN if subject.limits.budget is None else span(subject.limits.budget, wall)
    verdict = admit([subject], [state or State()], demand, NOW, pace)
    assert isinstance(verdict, Refused)
    return error_of(verdict, period, demand, pace, wall)


# --- arithmetic ------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 10**8),
    st.floats(-1e6, 200),
    st.integers(1, 10**7),
    st.sampled_from([60.0, 1.0]),
)
def test_a_bucket_gives_after_the_wait_that_it_names(limit: int, ahead_s: float, amount: int, window_s: float) -> None:
    """Whoever waits as told must not be refused again, and must not be told to wait for nothing."""
    full_at = NOW + ahead_s
    wait_s = bucket_wait_s(limit, full_at, amount, NOW, window_s)

    assert bucket_wait_s(limit, full_at, amount, NOW + wait_s, window_s) == 0
    if wait_s:
        assert bucket_wait_s(limit, full_at, amount, NOW + wait_s - 1e-5, window_s) > 0 or wait_s < 1e-5
    assert wait_s <= max(full_at - NOW, 0)


def test_a_limit_that_is_lowered_costs_nobody_more_than_a_minute() -> None:
    """What was used counts by its share of the limit: nine tenths of the old one are nine tenths of the new."""
    used = taken(Limits(rpm=1000), State(), Demand(900), NOW)

    assert used is not None
    assert bucket_left(1000, used.requests_full_at, NOW, 60) == 100
    assert bucket_left(100, used.requests_full_at, NOW, 60) == 10


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.floats(0, 1_000))
def test_what_is_settled_as_it_was_held_leaves_what_it_would_have_left(held: int, used: int, wait_s: float) -> None:
    """To hold too much and to settle is the same as to have known, whenever it is settled; a full bucket is full."""
    limits = Limits(tpm=6_000, budget=Budget(10**9))
    begun = State(period="p")

    guessed = taken(limits, begun, Demand(1, held, held), NOW)
    assert guessed is not None
    after = settled(limits, guessed, Demand(1, held, held), Demand(1, used, used), "p", NOW + wait_s)
    knew = taken(limits, begun, Demand(1, used, used), NOW)
    assert knew is not None

    later = NOW + wait_s
    if used <= held:
        assert max(after.tokens_full_at, later) == pytest.approx(max(knew.tokens_full_at, later), abs=1e-6)
    assert (after.spent, after.reserved) == (used, 0)


def test_money_is_counted_in_the_period_in_which_its_call_began() -> None:
    """In another one it would be missing from the first, and count against a budget that it was not asked for."""
    limits = Limits(budget=Budget(100))
    today = State(period="today", spent=5, reserved=7)

    assert settled(limits, today, Demand(1, 0, 50), Demand(1, 0, 40), "yesterday", NOW) == today


def test_a_state_that_says_no_more_than_a_new_one_is_idle() -> None:
    """It can be forgotten; a budget's counter only when its period is over."""
    assert State().is_idle(NOW, NOON)
    assert State(requests_full_at=NOW, tokens_full_at=NOW - 1).is_idle(NOW, NOON)
    assert not State(tokens_full_at=NOW + 1).is_idle(NOW, NOON)
    assert not State(running=1).is_idle(NOW, NOON)
    assert not State(period="today", spent=1, ends_at=NOON + 1).is_idle(NOW, NOON)
    assert State(period="today", spent=1, ends_at=NOON).is_idle(NOW, NOON)


some_limits = st.builds(
    Limits,
    rpm=st.none() | st.integers(0, 30),
    tpm=st.none() | st.integers(0, 3_000),
    concurrency=st.none() | st.integers(0, 4),
    budget=st.none() | st.builds(Budget, nanos=st.integers(0, 500)),
)
some_states = st.builds(
    State,
    requests_full_at=st.floats(NOW - 5, NOW + 90),
    tokens_full_at=st.floats(NOW - 5, NOW + 90),
    burst_full_at=st.floats(NOW - 1, NOW + 2),
    running=st.integers(0, 5),
    spent=st.integers(0, 400),
    reserved=st.integers(0, 200),
)
some_demands = st.builds(Demand, calls=st.sampled_from([0, 1]), tokens=st.integers(0, 4_000), nanos=st.integers(0, 300))


@given(
    st.lists(st.tuples(some_limits, some_states), min_size=1, max_size=3),
    some_demands,
    st.sampled_from([BY_MINUTE, BY_SECOND, Pace(burst=2.0)]),
)
def test_a_call_is_refused_only_for_a_limit_that_it_would_break(
    subjects: list[tuple[Limits, State]], demand: Demand, pace: Pace
) -> None:
    """And is admitted only where it breaks none."""
    whom = [Subject("key", str(number), limits) for number, (limits, _) in enumerate(subjects)]
    before = [state for _, state in subjects]

    verdict = admit(whom, before, demand, NOW, pace)

    broken = [breaks(limits, state, demand, pace) for limits, state in subjects]
    assert isinstance(verdict, Admitted) == (not any(broken))
    if isinstance(verdict, Refused):
        assert verdict.which in broken[verdict.index]
        assert verdict.wait_s > 0
        assert verdict.states == before


def test_a_refusal_that_arithmetic_does_not_explain_is_one_of_money() -> None:
    """Redis compares in doubles; ten million yuan have more nanos than those tell apart."""
    subjects = [key(rpm=10), Subject("workspace", "w", Limits(budget=Budget(2**60)))]

    verdict = refused(subjects, [State(), State()], Demand(1, 0, 2**60), NOW)

    assert (verdict.which, verdict.subject.kind, verdict.wait_s) == ("budget", "workspace", 2.0)


def breaks(limits: Limits, state: State, demand: Demand, pace: Pace) -> set[str]:
    """Say the rules again, in their own words: which limits a call would break."""
    broken = set()
    calls, tokens = demand.calls, demand.tokens or demand.calls
    for which, limit, full_at, amount, window_s in (
        ("requests", limits.rpm, state.requests_full_at, calls, pace.window_s),
        ("tokens", limits.tpm, state.tokens_full_at, tokens, pace.window_s),
        ("burst", limits.rpm and pace.burst and limits.rpm * pace.burst, state.burst_full_at, calls, 1.0),
    ):
        if limit is None or (which == "burst" and not limit) or not amount:
            continue
        missing_s = max(full_at - NOW, 0)
        too_much = limit == 0 or missing_s + amount * 60 / limit > window_s + 1e-6
        if too_much and (limit == 0 or missing_s > 1e-6):
            broken.add(which)
    if limits.concurrency is not None and calls and state.running + calls > limits.concurrency:
        broken.add("concurrency")
    wanted = state.spent + state.reserved + demand.nanos
    if limits.budget is not None and demand.nanos and wanted > limits.budget.nanos:
        broken.add("budget")
    return broken


# --- periods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "at", "label", "since", "until"),
    [
        ("day", "2026-02-28T23:59:59", "2026-02-28", "2026-02-28T00:00:00", "2026-03-01T00:00:00"),
        ("day", "2026-03-01T00:00:00", "2026-03-01", "2026-03-01T00:00:00", "2026-03-02T00:00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        ("month", "2028-02-29T12:00:00", "2028-02", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
    ],
)
def test_a_budget_begins_anew_at_midnight_utc(period: Period, at: str, label: str, since: str, until: str) -> None:
    """The first moment of a day is that day's, and of a month that month's."""
    found = span(Budget(1, "CNY", period), datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp())

    assert found.label == f"CNY {label}"
    assert found.since == datetime.fromisoformat(since).replace(tzinfo=UTC)
    assert found.until == datetime.fromisoformat(until).replace(tzinfo=UTC)


def test_a_budget_in_all_never_begins_anew() -> None:
    """Its counter is one for good; each currency has its own."""
    assert span(Budget(1, "USD", "total"), NOON) == Span("USD total", None, math.inf)
    assert span(Budget(1, "USD", "total"), NOON).until is None


# --- what callers are told -------------------------------------------------------------------------------------------


def test_too_many_calls_are_told_whose_limit_it_is_and_when_to_come_back() -> None:
    """spec/chat.md §12; people have asked for hours which of their limits such an answer meant."""
    error = told(key(rpm=60), Demand(), State(requests_full_at=NOW + 71.4))

    assert type(error) is RequestsExceeded
    assert (error.status, error.code, error.type) == (429, "limit_requests", "limit_requests")
    assert error.message == (
        "Requests rate limit exceeded, please try again later. "
        "The key 'laptop' may make 60 calls a minute. Come back in 13 s."
    )
    assert (error.retry_after_s, error.should_retry, error.retryable) == (13, None, True)
    assert error.headers == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m11.4s",
    }


def test_too_many_tokens_are_told_how_many_are_left_and_how_many_it_takes() -> None:
    """The vendor's code reads as if money were used up; it is transient, and SDKs may retry."""
    workspace = Subject("workspace", "w-1", Limits(tpm=6_000), "research")

    error = told(workspace, Demand(1, 2_000), State(tokens_full_at=NOW + 50))

    assert type(error) is TokensExceeded
    assert (error.status, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
    assert error.message.startswith("Allocated quota exceeded, please increase your quota limit. The workspace 'resea")
    assert "may use 6000 tokens a minute: 1000 are left now, and this call asks for up to 2000" in error.message
    assert (error.retry_after_s, error.should_retry) == (10, None)
    assert error.headers["x-ratelimit-remaining-tokens"] == "1000"


def test_a_burst_is_told_how_many_a_second_takes() -> None:
    """The minute has room for it: `limit_burst_rate`."""
    error = told(key(rpm=600), Demand(), State(burst_full_at=NOW + 1), Pace(burst=2.0))

    assert type(error) is BurstExceeded
    assert (error.status, error.code, error.type) == (429, "limit_burst_rate", "limit_burst_rate")
    assert error.message.startswith("Request rate increased too quickly. ")
    assert "at most 20 of them within a second" in error.message


def test_by_the_second_the_share_of_a_second_is_told() -> None:
    """Otherwise "600 a minute" would look like a lie to whoever made eleven."""
    error = told(key(rpm=600), Demand(), State(requests_full_at=NOW + 1), BY_SECOND)

    assert "may make 600 calls a minute, 10 in 1 s. Come back in 1 s." in error.message


def test_too_many_calls_at_a_time_are_told_how_many_run() -> None:
    """`Throttling` is the vendor's word for too many calls that says nothing of a rate."""
    model = Subject("model", "qwen-max", Limits(concurrency=2))

    error = told(model, Demand(), State(running=2))

    assert type(error) is PlacesExceeded
    assert (error.status, error.code, error.type) == (429, "Throttling", "Throttling")
    assert error.message == (
        "Too many requests in route. Please try again later. The model 'qwen-max', all callers together, "
        "may have 2 calls at the same time, and has 2. Come back in 2 s."
    )


def test_a_spent_budget_says_what_it_was_and_when_it_begins_anew() -> None:
    """Retrying does not help, and SDKs are told so (spec/surfaces.md §9.1)."""
    subject = key(budget=Budget(NANOS, "CNY", "month"))

    error = told(subject, Demand(1, 100, 20_000_000), State(spent=985_000_000))

    assert type(error) is BudgetExceeded
    assert (error.status, error.code) == (429, "insufficient_quota")
    assert error.message == (
        "You exceeded your current quota, please check your plan and billing details. The key 'laptop' may spend 1 CNY "
        "a month: 0.985 CNY are spent, 0 CNY held for calls that run, and this call may cost 0.02 CNY. "
        "It begins anew at 2026-12-01 00:00 UTC; until then, ask the operator to raise it."
    )
    assert (error.retry_after_s, error.should_retry, error.retryable) == (None, False, False)


def test_a_budget_that_only_other_calls_hold_may_be_asked_again_soon() -> None:
    """They hold what they could cost, and most give some of it back."""
    error = told(key(budget=Budget(100)), Demand(1, 0, 50), State(spent=10, reserved=60))

    assert (error.retry_after_s, error.should_retry) == (2, None)


def test_a_budget_that_begins_anew_within_a_minute_says_so_to_programs() -> None:
    """Midnight is near."""
    midnight = datetime(2026, 11, 27, tzinfo=UTC).timestamp()

    error = told(key(budget=Budget(100, period="day")), Demand(1, 0, 50), State(spent=90), wall=midnight - 30)

    assert (error.retry_after_s, error.should_retry) == (30, None)


@pytest.mark.parametrize("limits", [{"rpm": 0}, {"tpm": 0}, {"concurrency": 0}, {"budget": Budget(0, period="total")}])
def test_whoever_may_do_nothing_is_not_told_to_come_back(limits: dict[str, Any]) -> None:
    """Waiting does not help; the operator does."""
    error = told(key(**limits), Demand(1, 10, 10))

    assert (error.retry_after_s, error.should_retry) == (None, False)
    assert "operator" in error.message


def test_no_wait_is_longer_than_sdks_wait() -> None:
    """They give up on more than 60 s or so (spec/surfaces.md §9.1)."""
    error = told(key(tpm=1_000), Demand(1, 10), State(tokens_full_at=NOW + 4_000))

    assert error.retry_after_s == 60
    assert "Come back in 3941 s." in error.message


def test_the_remedy_speaks_the_language_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's words stay: programs match on them."""
    monkeypatch.setenv("HANLIN_LANG", "zh")

    error = told(key(rpm=60), Demand(), State(requests_full_at=NOW + 71.4))

    assert error.message == (
        "Requests rate limit exceeded, please try again later. 密钥 'laptop' 每分钟最多调用 60 次。请在 13 秒后重试。"
    )


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "0 CNY"), (1, "0.000000001 CNY"), (NANOS, "1 CNY"), (2_300_000, "0.0023 CNY"), (-NANOS // 2, "-0.5 CNY")],
)
def test_money_is_written_exactly_and_without_idle_zeros(nanos: int, text: str) -> None:
    """A budget of 1 yuan is not 1.000000000 of them."""
    assert money(nanos, "CNY") == text


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0174, "18ms"),
        (0.9999, "1s"),
        (8.64, "8.64s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (61.5, "1m1.5s"),
        (3_600, "1h0m0s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    """Clients parse them: `6m0s`, `8.64s`, `17ms`."""
    assert duration(seconds) == text


def test_of_each_kind_the_limit_with_the_least_left_is_told() -> None:
    """The key may have plenty while its workspace has none."""
    subjects = [key(rpm=100, tpm=1_000), Subject("workspace", "w", Limits(rpm=60)), Subject("model", "m")]
    states = [State(), State(requests_full_at=NOW + 30), State()]

    found = rates(subjects, states, NOW, BY_MINUTE)

    assert found == Rates(Window(60, 30, 30.0), Window(1_000, 1_000, 0.0))
    assert found.headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "30",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "1000",
        "x-ratelimit-reset-tokens": "0ms",
    }


def test_who_has_no_limits_gets_no_headers_and_who_is_in_debt_has_none_left() -> None:
    """Never a negative number."""
    assert rates([key()], [State()], NOW, BY_MINUTE).headers() == {}
    assert rates([key(tpm=60)], [State(tokens_full_at=NOW + 99)], NOW, BY_MINUTE).tokens == Window(60, 0, 99.0)
