"""The header that says how long each phase of a call took."""

import re

import pytest

from hanlin.http.timings import asked, header


def test_the_header_gives_each_phase_its_own_length_in_milliseconds() -> None:
    """That is what the header means to browsers and tools: durations, not points in time."""
    ends_s = {"body": 0.001, "key": 0.0015, "plan": 0.002, "queue": 0.012, "first": 0.112}

    assert header(ends_s) == "body;dur=1.000, key;dur=0.500, plan;dur=0.500, queue;dur=10.000, first;dur=100.000"


def test_the_durations_add_up_to_the_whole() -> None:
    """Time that no phase accounts for is time that nobody finds."""
    ends_s = {"body": 0.0123, "plan": 0.0456, "first": 0.9, "end": 1.75}

    durations = [float(text) for text in re.findall(r"dur=([\d.]+)", header(ends_s))]

    assert sum(durations) == pytest.approx(1750, abs=0.002)


def test_a_call_without_phases_has_an_empty_header() -> None:
    """A refusal may come before anything else did."""
    assert header({}) == ""


@pytest.mark.parametrize(("value", "wanted"), [(b"1", True), (b" 1 ", True), (b"0", False), (b"", False)])
def test_timings_are_sent_to_those_who_ask_for_them(value: bytes, wanted: bool) -> None:
    """They tell how busy the service is, and cost bytes in every answer."""
    assert asked(value) is wanted
