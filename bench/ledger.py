"""What the ledger costs at a million calls: to write them, to look at them, and to delete old ones beside writers.

Fills a database (SQLite, and PostgreSQL where a server is installed) with calls of a month, then measures. Aims: a page
and totals within 100 ms, and writers that hardly notice the purge.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench.common import quantile
from hanlin.store.database import Store, open_store
from hanlin.store.rows import Dimension, Filters, LedgerRow, Mark, Outcome
from hanlin.types import Usage
from tests.postgres import POSTGRES_LACKS, POSTGRES_PROGRAMS, Postgres

END = datetime(2026, 11, 26, 15, 0, tzinfo=UTC)
DAYS = 30
KEYS, WORKSPACES = 100, 10
MODELS = ("qwen-plus", "qwen-max", "qwen-turbo", "qwen3-8b", "deepseek-v3")
ENDS = (*([Outcome.ANSWERED] * 95), *([Outcome.FAILED] * 3), Outcome.CANCELLED, Outcome.INTERRUPTED)

BATCH = 1000
REPEATS = 20
WRITERS = 4
CALLS_A_WRITE = 20
PAUSE_S = 0.05
ALONE_S = 15.0


@dataclass
class Figures:
    """What was measured of one database, row by row: what, the figure, and more about it."""

    name: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)


def calls(count: int, since: datetime, until: datetime, seed: int = 1, *, ordered: bool = False) -> Iterator[LedgerRow]:
    """Make calls that are evenly spread over a time, oldest first; `ordered`: their ids are, too."""
    chance = random.Random(seed)
    step = (until - since) / count
    for number in range(count):
        began_at = since + step * number
        ms = int(began_at.timestamp() * 1000)
        key = chance.randrange(KEYS)
        usage = Usage(chance.randrange(50, 4000), chance.randrange(1, 800))
        outcome = chance.choice(ENDS)
        yield LedgerRow(
            id=str(uuid.UUID(int=(ms << 80) + chance.getrandbits(80) if ordered else chance.getrandbits(128))),
            began_at=began_at,
            key_id=f"key-{key:016x}",
            workspace_id=f"ws-{key % WORKSPACES:016x}",
            surface="chat",
            model=chance.choice(MODELS),
            deployment=f"gpu-{chance.randrange(3)}",
            served="Qwen3-32B",
            stream=number % 2 == 0,
            outcome=outcome,
            status=200 if outcome is Outcome.ANSWERED else 500,
            finish_reason="stop" if outcome is Outcome.ANSWERED else "",
            usage=usage,
            queue_ms=0.1,
            first_token_ms=chance.uniform(20, 900),
            total_ms=chance.uniform(900, 9000),
            price_version="2026-11-01",
            cost_nanos=usage.prompt * 800 + usage.completion * 2000,
            list_cost_nanos=usage.prompt * 800 + usage.completion * 2000,
        )


class Bench:
    """One database that is filled and measured."""

    def __init__(self, store: Store, count: int, figures: Figures, *, ordered: bool) -> None:
        self.ledger = store.ledger
        self.count = count
        self.figures = figures
        self.ordered = ordered

    async def run(self) -> None:
        await self.fill()
        await self.look()
        await self.purge()
        self.figures.rows.append(("load of the machine", f"{os.getloadavg()[2]:.1f}", "in the last 15 minutes"))

    async def fill(self) -> None:
        """Append the calls of a month."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        times: list[float] = []
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{self.figures.name}: calls", total=self.count)
            rows = calls(self.count, END - timedelta(days=DAYS), END, ordered=self.ordered)
            while batch := list(islice(rows, BATCH)):
                times.append(await timed(partial(self.ledger.append, batch)))
                progress.advance(task, len(batch))
        for what, part in (("append: all", times), ("append: the last tenth", times[-max(len(times) // 10, 1) :])):
            rate = len(part) * BATCH / sum(part)
            self.figures.rows.append((what, f"{rate:,.0f} rows/s", f"{statistics.median(part) * 1000:.0f} ms a batch"))

    async def look(self) -> None:
        """Measure what an operator looks at."""
        month_ago = END - timedelta(days=DAYS)
        month, key, deep = month_ago.replace(hour=0), f"key-{7:016x}", Mark(month_ago + timedelta(days=1), "")
        day = Filters(workspace_id=f"ws-{3:016x}", model=MODELS[0], since=deep.at, until=deep.at + timedelta(days=1))
        pages = {
            "page: first": (Filters(), None),
            "page: after 29 of 30 days": (Filters(), deep),
            "page: of a key": (Filters(key_id=key), None),
            "page: of a key, after 29 of 30 days": (Filters(key_id=key), deep),
            "page: failed ones": (Filters(outcome=Outcome.FAILED), None),
            "page: of a model that nobody calls": (Filters(model="qwen-long"), None),
            "page: a day, a workspace and a model": (day, None),
        }
        for what, (filters, mark) in pages.items():
            await self.repeat(what, partial(self.ledger.page, filters, mark))
        totals: dict[str, tuple[tuple[Dimension, ...], Filters]] = {
            "totals: everything": ((), Filters()),
            "totals: a month by day and model": (("day", "model"), Filters(since=month)),
            "totals: a month by key": (("key_id",), Filters(since=month)),
            "totals: 30 days to the second, by key": (("key_id",), Filters(since=month_ago, until=END)),
            "totals: the last 24 hours by model": (("model",), Filters(since=END - timedelta(days=1))),
            "totals: a key's month by day": (("day",), Filters(key_id=key, since=month)),
            "totals: failed ones by deployment": (("deployment",), Filters(outcome=Outcome.FAILED)),
        }
        for what, (by, filters) in totals.items():
            await self.repeat(what, partial(self.ledger.totals, by, filters))
        await self.repeat("spent: a key's month", partial(self.ledger.spent, key_id=key, since=month.replace(day=1)))

    async def repeat(self, what: str, act: Callable[[], Awaitable[object]]) -> None:
        times_s = [await timed(act) for _ in range(REPEATS)]
        middle, most = statistics.median(times_s) * 1000, max(times_s) * 1000
        self.figures.rows.append(
            (what, f"{middle:,.1f} ms", f"best {min(times_s) * 1000:,.1f} ms, worst {most:,.1f} ms")
        )

    async def purge(self) -> None:
        """Delete a third of the month beside writers, and let the writers be alone for comparison."""
        gone, before = 0, END - timedelta(days=DAYS - DAYS // 3)

        async def deleting() -> None:
            nonlocal gone
            async for so_far in self.ledger.purge(before):
                gone = so_far

        alone = await self.with_writers(partial(asyncio.sleep, ALONE_S), 100)
        began = time.perf_counter()
        beside = await self.with_writers(deleting, 200)
        took_s = time.perf_counter() - began
        self.figures.rows.append(
            ("purge beside writers", f"{gone / took_s:,.0f} rows/s", f"{gone:,} rows in {took_s:.0f} s")
        )
        for what, waits in (("without the purge", alone), ("beside the purge", beside)):
            p50, p99 = quantile(waits, 0.5) * 1000, quantile(waits, 0.99) * 1000
            more = f"p99 {p99:,.1f} ms, worst {max(waits) * 1000:,.1f} ms"
            self.figures.rows.append((f"writers {what}", f"p50 {p50:,.1f} ms", more))

    async def with_writers(self, act: Callable[[], Awaitable[object]], seed: int) -> list[float]:
        """Run something beside writers; return how long each of their batches took."""
        done = asyncio.Event()
        waits: list[float] = []
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self.write(done, waits, seed + number))
            await act()
            done.set()
        return waits

    async def write(self, done: asyncio.Event, waits: list[float], seed: int) -> None:
        """Append small batches in a steady beat, as a service does, and note how long each took."""
        rows = calls(10**9, END, END + timedelta(days=3650), seed, ordered=self.ordered)
        while not done.is_set():
            waits.append(await timed(partial(self.ledger.append, list(islice(rows, CALLS_A_WRITE)))))
            await asyncio.sleep(PAUSE_S)


async def timed(act: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await act()
    return time.perf_counter() - began


async def measure(where: Path | str, name: str, count: int, *, ordered: bool) -> Figures:
    figures = Figures(name)
    async with await open_store(where) as store:
        await Bench(store, count, figures, ordered=ordered).run()
    return figures


def show(console: Console, figures: Figures, count: int, ids: str) -> None:
    table = Table(
        title=f"{figures.name}, {count:,} calls with {ids} ids", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("what", overflow="fold")
    table.add_column("figure", justify="right")
    table.add_column("more")
    for row in figures.rows:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.ledger", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="calls to begin with")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="leave the other one out")
    parser.add_argument("--ordered", action="store_true", help="calls have ids that grow with time, not random ones")
    asked = parser.parse_args()
    console = Console(width=None if os.isatty(1) else 120)
    ids = "growing" if asked.ordered else "random"
    with ExitStack() as stack:
        if asked.only != "postgresql":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            file = folder / "hanlin.db"
            figures = asyncio.run(measure(file, "SQLite", asked.rows, ordered=asked.ordered))
            figures.rows.append(("file", f"{file.stat().st_size / 2**20:,.0f} MiB", ""))
            show(console, figures, asked.rows, ids)
        if asked.only == "sqlite":
            return
        if POSTGRES_LACKS or POSTGRES_PROGRAMS is None:
            console.print(f"[yellow]Not measured: PostgreSQL. Missing here: {' and '.join(POSTGRES_LACKS)}.[/yellow]")
            return
        server = Postgres(POSTGRES_PROGRAMS)
        stack.callback(server.remove)
        name = "PostgreSQL (fsync off)"
        show(console, asyncio.run(measure(server.database(), name, asked.rows, ordered=asked.ordered)), asked.rows, ids)


if __name__ == "__main__":
    main()
