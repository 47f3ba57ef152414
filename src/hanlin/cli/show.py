"""What people see: one console for results, one for progress and errors, and the progress bar of downloads."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from hanlin.engines.weights import Progress as Report
from hanlin.words import say

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_LINE_EVERY_S = 10.0
_WIDE_COLUMNS = 200  # what is read by a program, or kept in a file, need not fit a screen

# What a terminal would obey instead of showing it. Names and answers may come from anywhere.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Failed(Exception):
    """A command could not do what it was asked for; the message says why and what to do."""


class Misused(Failed):
    """The command was called in a way that makes no sense; the parser cannot know."""


def one_form(as_json: bool, as_csv: bool) -> None:
    """Raise Misused for two forms of one result."""
    if as_json and as_csv:
        raise Misused(say("--json and --csv: give one of them", "--json 与 --csv 只能选其一"))


def fail(message: object) -> None:
    """Print what went wrong, on stderr."""
    err.print(Text.assemble(("✗ ", "bold red"), str(message)), soft_wrap=True)


def note(message: str) -> None:
    """Print one line about what is going on, on stderr."""
    err.print(Text.assemble(("· ", "dim"), message), soft_wrap=True)


def remark(message: str) -> None:
    """Print what stands beside a result and is not part of it, dimmed, on stderr."""
    err.print(Text(message, style="dim"), soft_wrap=True)


def page(content: RenderableType) -> None:
    """Print a result for people. Where nobody's screen limits it, it is as wide as it needs to be."""
    on_screen = out.is_terminal or "COLUMNS" in os.environ
    (out if on_screen else Console(highlight=False, width=_WIDE_COLUMNS)).print(content)


def data(value: object) -> None:
    """Print a result for programs: JSON on stdout, Chinese as it is."""
    encoded = msgspec.json.encode(value, enc_hook=str)  # paths are the only foreign values that commands print
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def plain(text: str) -> str:
    """Return foreign text without the characters that a terminal would obey."""
    return text.translate(_CONTROLS)


@contextmanager
def downloading(name: str) -> Iterator[Report]:
    """Show a download's progress: a bar on a terminal, a line every ten seconds elsewhere."""
    if not err.is_terminal:
        yield _Lines(name)
        return
    with _Download(console=err, transient=True) as progress:
        task = progress.add_task(name, total=None, doing="")

        def report(done_bytes: int, total_bytes: int, text: str) -> None:
            progress.update(task, completed=done_bytes, total=total_bytes or None, doing=text)

        yield report


@contextmanager
def counting(total: int | None = None) -> Iterator[Callable[[int, bool], None]]:
    """Show how far a long list is, page by page: a bar on a terminal, nothing elsewhere, nor for a list of one page.

    `total` is about how many rows there are, None where nobody knows. What is yielded takes how many came, and whether
    they were the last.
    """
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, transient=True)
    task = progress.add_task("", total=total)

    def counted(count: int, last: bool) -> None:
        if not last and err.is_terminal:
            progress.start()
        progress.update(task, advance=count)

    try:
        yield counted
    finally:
        if progress.live.is_started:
            progress.stop()


class _Download(Progress):
    """A bar with numbers, and below it what is going on: on one line of 80 columns they would hide each other."""

    @classmethod
    def get_default_columns(cls) -> tuple[ProgressColumn, ...]:
        return (
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["doing"], style="dim", no_wrap=True, overflow="ellipsis")


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
