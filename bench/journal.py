"""What the journal costs: microseconds a record on the event loop, and rows a second on their way to the database.

`began`, `delivered` and `ended` are timed in turns with mapped boards and with those that are written by system calls,
as on file systems that a mapped file is not safe on; then `ended` beside a thread that forces the file to the disk all
the time, because that is where a write could wait. Beside them stands what encoding and a bare write cost here. Of many
short rounds the fastest tenth counts: what else the machine does only adds. Fails when a record costs more than 5 µs.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.common import quantile
from hanlin.metering.journal import Bounds, Journal, Mark, open_journal
from hanlin.metering.journal_left import hold
from hanlin.metering.journal_segments import line_of
from hanlin.metering.ledger import LedgerWriter, Patience
from hanlin.store.rows import LedgerRow
from hanlin.types import Usage
from tests.starts import start_of

LIMIT_US = 5.0
ROUNDS = 7
CALLS = 10_000
OPEN_AT_ONCE = 200
REPLAYED = 100_000

ROW = LedgerRow(
    id="chatcmpl-00000000-0000-0000-0000-000000000000",
    began_at=datetime(2026, 11, 26, 12, 0, 0, 123456, UTC),
    key_id="key-0123456789abcdef",
    workspace_id="default",
    surface="chat",
    model="qwen-plus",
    deployment="gpu-1",
    served="upstream",
    stream=True,
    finish_reason="stop",
    usage=Usage(1234, 456, 1024, 128),
    queue_ms=0.21,
    first_token_ms=123.4,
    total_ms=4567.8,
    price_version="0123456789ab",
    cost_nanos=1_234_567,
    list_cost_nanos=1_234_567,
)


def rows(count: int) -> list[LedgerRow]:
    return [msgspec.structs.replace(ROW, id=f"chatcmpl-{number:032x}") for number in range(count)]


@contextmanager
def journal(*, mapped: bool = True) -> Iterator[tuple[Journal, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        descriptor = hold(path, "0-0")
        assert descriptor is not None
        yield Journal(path, "0-0", descriptor, Bounds(kept_rows=0), mapped=mapped), path


def cost_us(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e6 / times


def of_calls(*, mapped: bool) -> tuple[float, float, float]:
    """Return what `began`, `delivered` and `ended` cost, `OPEN_AT_ONCE` calls being under way."""
    began_us, delivered_us, ended_us = [], [], []
    start = start_of(ROW, reserved_tokens=2048, reserved_nanos=5_000_000, answer_nanos=2_000_000)
    with journal(mapped=mapped) as (book, _):
        for _ in range(CALLS // OPEN_AT_ONCE):
            marks: list[Mark] = []

            def begin(marks: list[Mark] = marks) -> None:
                for _ in range(OPEN_AT_ONCE):
                    marks.append(book.began(start))  # noqa: PERF401 (as calls do it)

            def deliver(marks: list[Mark] = marks) -> None:
                for mark in marks:
                    mark.delivered(17)

            def end(marks: list[Mark] = marks) -> None:
                for mark in marks:
                    mark.ended(ROW)

            began_us.append(cost_us(begin, OPEN_AT_ONCE))
            delivered_us.append(cost_us(deliver, OPEN_AT_ONCE))
            ended_us.append(cost_us(end, OPEN_AT_ONCE))
    return quantile(began_us, 0.1), quantile(delivered_us, 0.1), quantile(ended_us, 0.1)


def of_parts() -> tuple[float, float]:
    """Return what it costs to make a line, and to write it to a file without anything else."""
    buffer = bytearray()
    line = bytes(line_of(ROW))
    with tempfile.TemporaryFile(buffering=0) as file:
        descriptor = file.fileno()

        def encode() -> None:
            for _ in range(OPEN_AT_ONCE):
                line_of(ROW, buffer)

        def write() -> None:
            for _ in range(OPEN_AT_ONCE):
                os.write(descriptor, line)

        costs = [(cost_us(encode, OPEN_AT_ONCE), cost_us(write, OPEN_AT_ONCE)) for _ in range(CALLS // OPEN_AT_ONCE)]
    encoded, written = (quantile(column, 0.1) for column in zip(*costs, strict=True))
    return encoded, written


def ended_while_forced() -> list[float]:
    """Return what each of many `ended` cost beside a thread that forces the file to the disk all the time."""
    stop = threading.Event()

    def force() -> None:
        while not stop.wait(0.01):
            for descriptor in book.unsynced():
                os.fsync(descriptor)
                os.close(descriptor)

    with journal() as (book, _):
        thread = threading.Thread(target=force)
        thread.start()
        costs = []
        for row in rows(CALLS):
            began = time.perf_counter()
            book.ended(row)
            costs.append((time.perf_counter() - began) * 1e6)
            time.sleep(0.0001)
        stop.set()
        thread.join()
    return costs


class Count:
    """A database that costs nothing."""

    def __init__(self) -> None:
        self.rows = 0

    async def append(self, rows: Sequence[LedgerRow]) -> None:
        self.rows += len(rows)


async def moved_per_s(*, kept: bool) -> float:
    """Return how many rows a second get from the journal to a database that costs nothing."""
    with tempfile.TemporaryDirectory() as folder:
        book = open_journal(Path(folder), Bounds(kept_rows=REPLAYED if kept else 0))
        for row in rows(REPLAYED):
            book.ended(row)
        return await drained_per_s(book)


async def replayed_per_s() -> float:
    """Return the same of rows, and a call under way, that a dead process left."""
    with tempfile.TemporaryDirectory() as folder:
        dead = open_journal(Path(folder))
        for row in rows(REPLAYED):
            dead.ended(row)
        dead.began(start_of(ROW))
        dead.close()
        return await drained_per_s(open_journal(Path(folder)))


async def drained_per_s(book: Journal) -> float:
    sink = Count()
    writer = LedgerWriter(book, sink, Patience())
    began = time.perf_counter()
    writer.take_over()
    assert await writer.close(600)
    seconds = time.perf_counter() - began
    book.close()
    assert sink.rows >= REPLAYED
    return sink.rows / seconds


def measure() -> None:
    names = ("began", "delivered", "ended")
    print(f"{'µs a record, the fastest tenth':34}" + "".join(f"{name:>11}" for name in names))
    slow = []
    costs: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
    bare: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        bare.append(of_parts())
        for mapped in costs:
            costs[mapped].append(of_calls(mapped=mapped))
    for mapped, rounds in costs.items():
        ours = [min(column) for column in zip(*rounds, strict=True)]
        print(f"{'boards mapped' if mapped else 'boards written':34}" + "".join(f"{cost:11.2f}" for cost in ours))
        if mapped:
            slow = [name for name, cost in zip(names, ours, strict=True) if cost > LIMIT_US]
    encoded, written = (min(column) for column in zip(*bare, strict=True))
    print(
        f"of which: the row as a line {encoded:.2f} µs, a bare write of its {len(line_of(ROW))} bytes {written:.2f} µs"
    )
    forced = ended_while_forced()
    p50, p99 = quantile(forced, 0.5), quantile(forced, 0.99)
    print(
        f"ended now and then while its file is forced: p50 {p50:.1f} µs, p99 {p99:.1f} µs, worst {max(forced):.0f} µs"
    )
    for name, rate in (
        ("from memory", asyncio.run(moved_per_s(kept=True))),
        ("read back", asyncio.run(moved_per_s(kept=False))),
        ("replayed", asyncio.run(replayed_per_s())),
    ):
        print(f"rows a second, {name:19}{rate:12,.0f}  ({1e6 / rate:.1f} µs a row)")
    if slow:
        sys.exit(f"above {LIMIT_US:g} µs a record: {', '.join(slow)}")


if __name__ == "__main__":
    measure()
