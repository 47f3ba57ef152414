"""What people see: one console for results, one for progress and errors, and the progress bar of downloads."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from hanlin.engines.weights import Progress as Report

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_LINE_EVERY_S = 10.0


def fail(message: object) -> None:
    """Print what went wrong, on stderr."""
    err.print("[bold red]✗[/]", str(message), markup=True, soft_wrap=True)


def note(message: str) -> None:
    """Print one line about what is going on, on stderr."""
    err.print("[dim]·[/]", message, soft_wrap=True)


@contextmanager
def downloading(name: str) -> Iterator[Report]:
    """Show a download's progress: a bar on a terminal, a line every ten seconds elsewhere."""
    if not err.is_terminal:
        yield _Lines(name)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(name, total=None, doing="")

        def report(done_bytes: int, total_bytes: int, text: str) -> None:
            progress.update(task, completed=done_bytes, total=total_bytes or None, doing=text)

        yield report


class _Lines:
    """Progress as plain lines, for logs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = 0.0

    def __call__(self, done_bytes: int, total_bytes: int, text: str) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S:
            self._last = now
            percent = f"{100 * done_bytes // total_bytes}%" if total_bytes else f"{done_bytes // 2**20} MiB"
            print(f"{self._name}: {percent} {text}", file=sys.stderr, flush=True)  # noqa: T201
