"""Calls under way: what is left of them when their process dies, and what their rows say then."""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from hanlin.metering.journal_calls import SLOT_BYTES, Calls, Start, interrupted, left_on, overwrites_in_place
from hanlin.store.rows import LedgerRow, Outcome
from hanlin.types import Usage
from tests.starts import start_of

ROW = LedgerRow(
    id="call-1",
    began_at=datetime(2026, 11, 26, tzinfo=UTC),
    key_id="key-1",
    workspace_id="default",
    surface="chat",
    model="qwen-plus",
    stream=True,
    usage=Usage(prompt=100),
    price_version="0123456789ab",
    cost_nanos=80_000,
    list_cost_nanos=100_000,
)
START = start_of(
    ROW, reserved_tokens=2148, reserved_nanos=9_000, answer_nanos=2_000_000_000, list_answer_nanos=2_500_000_000
)

WAYS = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "written"])


def start(number: int) -> Start:
    return start_of(msgspec.structs.replace(ROW, id=f"call-{number}"))


def left(folder: Path) -> list[tuple[str, int]]:
    """Return what a successor would find: ids of calls, and how many tokens of each had left."""
    return [(start.id, tokens) for path in sorted(folder.glob("*.calls")) for start, tokens in left_on(path)]


@WAYS
def test_a_call_is_found_with_what_had_left_of_its_answer(tmp_path: Path, mapped: bool) -> None:
    """Nothing was closed or forced to the disk: this is what the kernel has when the process is gone."""
    calls = Calls(tmp_path, "1-a", mapped=mapped)
    slot = calls.begin(START)
    assert slot is not None

    for tokens in (1, 2, 70_000):
        slot.words[slot.count] = tokens

    (path,) = tmp_path.iterdir()
    assert list(left_on(path)) == [(START, 70_000)]


@WAYS
def test_a_call_that_is_over_is_not_found(tmp_path: Path, mapped: bool) -> None:
    """Neither it nor its count, which must not become that of the next call in its place."""
    calls = Calls(tmp_path, "1-a", mapped=mapped)
    slots = [calls.begin(start(number)) for number in range(3)]
    assert all(slots)
    for slot in slots[:2]:
        assert slot is not None
        slot.words[slot.count] = 9
        calls.end(slot)

    calls.begin(start(3))

    assert sorted(left(tmp_path)) == [("call-2", 0), ("call-3", 0)]
    assert calls.open == 2


@WAYS
def test_there_is_a_place_for_any_number_of_calls(tmp_path: Path, mapped: bool) -> None:
    """A thousand slow callers at once are ordinary."""
    calls = Calls(tmp_path, "1-a", mapped=mapped)
    for number in range(1500):
        assert calls.begin(start(number))

    assert sorted(left(tmp_path)) == sorted((f"call-{number}", 0) for number in range(1500))
    assert (calls.open, calls.unmarked, len(list(tmp_path.iterdir()))) == (1500, 0, 3)


def test_a_slot_that_was_being_written_is_no_call(tmp_path: Path) -> None:
    """Its process died before anybody was asked for a token: at whatever byte, in whatever a call left there before."""
    calls = Calls(tmp_path, "1-a")
    slot = calls.begin(start(2))
    assert slot is not None
    (board,) = tmp_path.iterdir()
    calls.end(slot)
    before = board.read_bytes()[:SLOT_BYTES]
    assert calls.begin(START) is slot
    after = board.read_bytes()[:SLOT_BYTES].rstrip(b"\0")
    path = tmp_path / "torn"

    for cut in range(len(after)):
        path.write_bytes(after[:cut] + before[cut:])

        assert list(left_on(path)) == [], cut


def test_a_board_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """The process died while the file was made, or the disk lost its end."""
    calls = Calls(tmp_path, "1-a")
    calls.begin(START)
    (board,) = tmp_path.iterdir()
    content = board.read_bytes()
    path = tmp_path / "cut"

    for size_bytes in (0, 1, SLOT_BYTES - 1):
        path.write_bytes(content[:size_bytes])
        assert list(left_on(path)) == []
    path.write_bytes(content[: SLOT_BYTES + 1])
    assert list(left_on(path)) == [(START, 0)]


def test_a_call_that_does_not_fit_its_place_goes_unmarked(tmp_path: Path) -> None:
    """A name of two thousand letters is no reason to refuse a call, and none to damage its neighbour's mark."""
    calls = Calls(tmp_path, "1-a")

    slot = calls.begin(start_of(msgspec.structs.replace(ROW, model="q" * SLOT_BYTES)))

    assert (slot, calls.unmarked, calls.open) == (None, 1, 0)


def test_calls_go_on_unmarked_when_no_board_can_be_made(tmp_path: Path) -> None:
    """A full disk costs the mark of a call, not the call. It is not tried for every call, but at the next `tend`."""
    folder = tmp_path / "gone"
    calls = Calls(folder, "1-a", mapped=True)
    assert calls.begin(START) is None
    assert "gone" in calls.failure

    folder.mkdir()
    assert calls.begin(START) is None
    calls.tend()
    assert calls.begin(START)

    assert (calls.unmarked, calls.open, calls.failure) == (2, 1, "")


@WAYS
def test_boards_go_with_the_last_call(tmp_path: Path, mapped: bool) -> None:
    """A call that is still under way keeps them, for whoever comes next; storing into them later harms nobody."""
    calls = Calls(tmp_path, "1-a", mapped=mapped)
    slot = calls.begin(START)
    assert slot is not None
    calls.close()
    assert left(tmp_path) == [("call-1", 0)]
    slot.words[slot.count] = 5

    others = Calls(tmp_path, "1-b", mapped=mapped)
    slot = others.begin(START)
    assert slot is not None
    others.end(slot)
    others.close()

    assert [path.name for path in tmp_path.iterdir()] == ["1-a.000000.calls"]


def test_the_row_of_a_call_that_was_cut_is_charged_with_what_had_left() -> None:
    """To the token, by the prices of its beginning, and marked as a guess: nobody has counted to the end."""
    row = interrupted(START, 7)

    assert row == msgspec.structs.replace(
        ROW,
        outcome=Outcome.INTERRUPTED,
        usage=Usage(prompt=100, completion=7),
        estimated=True,
        cost_nanos=80_000 + 7 * 2000,
        list_cost_nanos=100_000 + 7 * 2500,
    )


def test_mapped_memory_is_used_only_where_overwriting_cannot_fail(tmp_path: Path) -> None:
    """Elsewhere a full disk would end the process in the middle of a store."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    name = f"{os.major(device)}:{os.minor(device)}"

    def said(kind: str, number: str = name) -> bool:
        mounts.write_text(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
            f"27 1 {number} / / rw,relatime shared:1 master:2 - {kind} /dev/vda rw\n"
        )
        return overwrites_in_place(tmp_path, mounts)

    assert said("ext4")
    assert said("xfs")
    assert not said("btrfs")
    assert not said("overlay")
    assert not said("ext4", number="99:99")  # not the one that the folder is on
    assert not overwrites_in_place(tmp_path, tmp_path / "missing")
