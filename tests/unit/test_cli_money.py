"""Amounts, lengths and bars as people write and read them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.cli import money, times
from hanlin.cli.usage_views import bar, brief
from hanlin.service.administration.cursors import mark_of, written
from hanlin.service.administration.views import exact
from hanlin.store.rows import Mark

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "nanos", "currency"),
    [
        ("10", 10_000_000_000, ""),
        ("2.50 CNY", 2_500_000_000, "CNY"),
        ("USD 3", 3_000_000_000, "USD"),
        ("usd3", 3_000_000_000, "USD"),
        ("¥0.1", 100_000_000, "CNY"),
        ("5元", 5_000_000_000, "CNY"),
        ("0.000000001", 1, ""),
        ("0", 0, ""),
    ],
)
def test_an_amount_is_read_exactly(text: str, nanos: int, currency: str) -> None:
    """0.1 is a tenth, which no float is."""
    assert money.amount(text) == (nanos, currency)


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1,5", "1.", ".5", "1e3", "USD 3 CNY", "3 DOLLARS", "١٢", "1.0000000001"]
)
def test_what_could_mean_something_else_is_no_amount(text: str) -> None:
    """1,5 is fifteen to some and one and a half to others."""
    with pytest.raises(ValueError):
        money.amount(text)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_an_exact_amount_reads_back_as_itself(nanos: int) -> None:
    """What is printed can be pasted."""
    assert money.amount(exact(nanos)) == (nanos, "")


def test_a_rounded_amount_never_makes_nothing_of_something() -> None:
    """A call that cost little was not free."""
    assert [money.rounded(nanos) for nanos in (0, 1, 99_999, 100_000, 1_234_567_800_000)] == [
        "0",
        "<0.0001",
        "<0.0001",
        "0.0001",
        "1,234.5678",
    ]


def test_dates_times_and_lengths_are_moments() -> None:
    """What names no zone is UTC, as the days of bills are."""
    assert times.moment("2026-12-31", NOW, "from now") == datetime(2026, 12, 31, tzinfo=UTC)
    assert times.moment("2026-12-31T08:00+08:00", NOW, "from now") == datetime(2026, 12, 31, tzinfo=UTC)
    assert times.moment("30d", NOW, "from now") == NOW + timedelta(days=30)
    assert times.moment("90m", NOW, "ago") == NOW - timedelta(minutes=90)


@pytest.mark.parametrize("text", ["", "tomorrow", "30", "d", "-1d", "2026-02-30", "999999w", "1.5h"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    """Also a length that leads beyond the calendar."""
    with pytest.raises(ValueError, match="30d"):
        times.moment(text, NOW, "from now")


@given(st.integers(0, 10**15), st.integers(1, 10**15), st.integers(8, 200))
def test_a_bar_has_its_width_and_something_is_never_drawn_as_nothing(value: int, most: int, cells: int) -> None:
    """The longest fills its room, others are to it as their values are."""
    drawn = bar(min(value, most), most, cells)

    assert len(drawn) == cells
    assert (drawn.strip() == "") == (value == 0)
    assert (drawn == "█" * cells) == (min(value, most) * cells * 8 // most == cells * 8)


def test_counts_are_written_short_with_three_digits() -> None:
    """999,999 is not 1000K."""
    counts = (0, 999, 1000, 12_345, 999_499, 999_999, 1_254_000, 10**13)

    assert [brief(count) for count in counts] == ["0", "999", "1.00K", "12.3K", "999K", "1.00M", "1.25M", "10.0T"]


def test_a_mark_is_one_word_and_reads_back_as_itself() -> None:
    """It is copied from one command into the next."""
    mark = Mark(NOW + timedelta(microseconds=7), "call-1/2")

    assert mark_of(written(mark) or "") == mark
    assert " " not in (written(mark) or "")
    assert written(None) is None
