"""The arithmetic of daily sums: what a row adds to which, and how a time is taken apart into days and the rest."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.store.rollups import SUMS, Part, Span, changes, key_of, span, sums_of
from hanlin.store.rows import LedgerRow, Outcome
from hanlin.types import Usage

BEIJING = timezone(timedelta(hours=8))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def call(**fields: Any) -> LedgerRow:
    usual: dict[str, Any] = {
        "id": "call-1",
        "began_at": at("2026-11-26 12:00"),
        "key_id": "key-1",
        "workspace_id": "default",
        "surface": "chat",
        "model": "qwen-plus",
    }
    return LedgerRow(**{**usual, **fields})


def sums(row: LedgerRow) -> dict[str, int]:
    return dict(zip(SUMS, sums_of(row), strict=True))


def test_a_call_adds_what_it_used_and_what_it_cost() -> None:
    """Every count of the bill is in the sums: a bill for a year is not made of a year's rows."""
    row = call(usage=Usage(100, 20, 30, 10), cache_created=5, cost_nanos=7, list_cost_nanos=9)

    assert sums(row) == {
        "calls": 1,
        "failed": 0,
        "estimated": 0,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 30,
        "reasoning_tokens": 10,
        "cache_created_tokens": 5,
        "cost_nanos": 7,
        "list_cost_nanos": 9,
    }


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [(Outcome.ANSWERED, 0), (Outcome.CANCELLED, 0), (Outcome.FAILED, 1), (Outcome.INTERRUPTED, 1)],
)
def test_who_leaves_has_not_been_failed(outcome: Outcome, failed: int) -> None:
    """The count is for the operator, who can do something about the failed and the interrupted ones."""
    assert sums(call(outcome=outcome))["failed"] == failed


def test_a_recipes_inner_call_costs_but_is_no_call_of_its_callers() -> None:
    """Twenty calls in the bill of somebody who made one would be a question to support."""
    inner = call(parent_id="call-0", outcome=Outcome.FAILED, estimated=True, usage=Usage(9, 3), cost_nanos=5)

    found = sums(inner)

    assert (found["calls"], found["failed"], found["estimated"]) == (0, 0, 0)
    assert (found["prompt_tokens"], found["completion_tokens"], found["cost_nanos"]) == (9, 3, 5)


def test_a_call_belongs_to_the_utc_day_that_it_began_in() -> None:
    """One clock for all: half past one in the morning in Beijing is still the day before."""
    row = call(began_at=datetime(2026, 11, 27, 1, 30, tzinfo=BEIJING))

    assert key_of(row)[0] == date(2026, 11, 26)


def test_changes_are_summed_and_ordered_so_that_writers_never_cross() -> None:
    """Two transactions that take the same locks in two orders wait for each other for ever."""
    rows = [call(key_id=key, cost_nanos=cost) for key, cost in (("key-2", 1), ("key-1", 2), ("key-2", 4))]

    found = changes(rows)

    cost = SUMS.index("cost_nanos")
    assert [(key[2], values[0], values[cost]) for key, values in found] == [("key-1", 1, 2), ("key-2", 2, 5)]


def test_a_row_that_takes_the_place_of_another_moves_the_sums() -> None:
    """The guess was at another deployment and another cost; nothing of it stays."""
    guess = call(deployment="", outcome=Outcome.INTERRUPTED, estimated=True, cost_nanos=3)
    real = call(deployment="gpu-1", cost_nanos=5)

    found = {key[5]: dict(zip(SUMS, values, strict=True)) for key, values in changes([real], [guess])}

    assert {name: value for name, value in found[""].items() if value} == {
        "calls": -1,
        "failed": -1,
        "estimated": -1,
        "cost_nanos": -3,
    }
    assert found["gpu-1"]["cost_nanos"] == 5


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, Span()),
        ("2026-11-01 00:00", None, Span(first=date(2026, 11, 1))),
        (None, "2026-11-03 00:00", Span(last=date(2026, 11, 2))),
        ("2026-11-01 00:00", "2026-11-03 00:00", Span(first=date(2026, 11, 1), last=date(2026, 11, 2))),
    ],
)
def test_whole_days_are_left_to_their_sums(since: str | None, until: str | None, expected: Span) -> None:
    """A month is thirty sums a key, not a million rows."""
    assert span(at(since) if since else None, at(until) if until else None) == expected


def test_what_is_left_at_both_ends_is_counted_from_rows() -> None:
    """The last 24 hours are part of two days."""
    found = span(at("2026-11-01 15:00"), at("2026-11-03 09:00"))

    assert found == Span(
        (
            Part(at("2026-11-01 15:00"), at("2026-11-02 00:00")),
            Part(at("2026-11-03 00:00"), at("2026-11-03 09:00")),
        ),
        first=date(2026, 11, 2),
        last=date(2026, 11, 2),
    )


def test_a_day_of_which_most_is_asked_for_counts_as_whole_less_its_rest() -> None:
    """Never more than half a day's rows are read at an end; of today's, none are left that begin later."""
    found = span(at("2026-11-01 09:00"), at("2026-11-03 15:00"))

    assert found == Span(
        (
            Part(at("2026-11-01 00:00"), at("2026-11-01 09:00"), -1),
            Part(at("2026-11-03 15:00"), at("2026-11-04 00:00"), -1),
        ),
        first=date(2026, 11, 1),
        last=date(2026, 11, 3),
    )


@pytest.mark.parametrize(
    ("since", "until", "parts"),
    [
        ("2026-11-01 09:00", "2026-11-01 15:00", [("2026-11-01 09:00", "2026-11-01 15:00")]),
        (
            "2026-11-01 23:00",
            "2026-11-02 01:00",
            [("2026-11-01 23:00", "2026-11-02 00:00"), ("2026-11-02 00:00", "2026-11-02 01:00")],
        ),
        ("2026-11-01 09:00", "2026-11-01 09:00", []),
        ("2026-11-02 09:00", "2026-11-01 09:00", []),
    ],
)
def test_a_time_without_a_whole_day_is_counted_from_rows_alone(
    since: str, until: str, parts: list[tuple[str, str]]
) -> None:
    """A sum of a day that is only partly asked for would count too much."""
    found = span(at(since), at(until))

    assert found.parts == tuple(Part(at(first), at(last)) for first, last in parts)
    assert not found.whole


times = st.datetimes(datetime(2026, 10, 30), datetime(2026, 11, 4), timezones=st.sampled_from([UTC, BEIJING]))


@given(since=st.none() | times, until=st.none() | times, moment=times)
def test_every_moment_of_a_time_is_counted_once_and_no_other(
    since: datetime | None, until: datetime | None, moment: datetime
) -> None:
    """Whatever the two ends are, and in whatever zone they were given."""
    found = span(since, until)

    day = moment.astimezone(UTC).date()
    by_day = found.whole and (found.first is None or found.first <= day) and (found.last is None or day <= found.last)
    by_rows = sum(part.sign for part in found.parts if part.since <= moment < part.until)
    asked = (since is None or since <= moment) and (until is None or moment < until)
    assert by_day + by_rows == asked


@given(since=st.none() | times, until=st.none() | times)
def test_what_is_counted_from_rows_lies_within_single_days(since: datetime | None, until: datetime | None) -> None:
    """At most two half days' rows are read, however long the time is."""
    found = span(since, until)
    parts = found.parts

    assert len(parts) <= 2
    assert not found.whole or all(part.until - part.since <= timedelta(hours=12) for part in parts)
    for part in parts:
        last = part.until.astimezone(UTC) - timedelta(microseconds=1)
        assert part.since.astimezone(UTC).date() == last.date()
