"""Turn a file into pages of text in a process of its own, which may fail, hang or die without anybody else noticing.

What a file brings with it is never looked at in this process. The pages are written to `pages.jsonl` (a `Page` a line,
in order), what is known of the whole to `meta.json` (`Read`), both in the folder that the caller names.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hanlin.documents.limits import Limits
from hanlin.documents.parse_child import META_FILE, PAGES_FILE, Orders, Read
from hanlin.documents.parsers.work import Progress, nothing
from hanlin.documents.unreadable import DocumentUnreadable, Reason
from hanlin.documents.values import Page

log = logging.getLogger("hanlin.documents")

_KEPT = (
    *("PATH", "PYTHONPATH", "TMPDIR", "LD_LIBRARY_PATH"),
    *("HANLIN_LANG", "LC_ALL", "LC_MESSAGES", "LANG"),  # in which language it says why it cannot read a file
)
DEFAULT = Limits()

_LINE_BYTES = 64 * 1024
_LAST_WORDS_BYTES = 4096


_ENDS: Mapping[int, Reason] = {  # what a signal says that ended the child; all others say that the file is broken
    -signal.SIGPROF: "timeout",
    -signal.SIGXCPU: "timeout",
    -signal.SIGKILL: "memory",  # nobody but the kernel sends it, when the whole machine has none left
}


@dataclass(frozen=True)
class Reader:
    """Reads files within the same limits."""

    limits: Limits = DEFAULT

    async def read(self, path: Path, filename: str, out_folder: Path, progress: Progress = nothing) -> Read:
        return await read(path, filename, out_folder, limits=self.limits, progress=progress)


async def read(
    path: Path, filename: str, out_folder: Path, *, limits: Limits = DEFAULT, progress: Progress = nothing
) -> Read:
    """Write a file's pages into a folder that exists, and return what it is. Raises DocumentUnreadable.

    `progress` hears how much has been done of how much, in units that differ from kind to kind; the second is 0 where
    it is unknown. A call that is cancelled ends the process. After a failure the folder is left as it was found.
    """
    orders = Orders(str(path), filename, str(out_folder), limits, os.getpid())
    try:
        return await _parse(orders, progress)
    except BaseException:
        for name in (PAGES_FILE, META_FILE):
            (out_folder / name).unlink(missing_ok=True)
        raise


def pages_in(out_folder: Path) -> Iterator[Page]:
    """Yield the pages that a parse has written, in their order."""
    decoder = msgspec.json.Decoder(Page)
    with (out_folder / PAGES_FILE).open("rb") as file:
        for line in file:
            yield decoder.decode(line)


class _Result(msgspec.Struct, frozen=True):
    """The child's last line."""

    read: Read | None = None
    unreadable: tuple[Reason, str] = ("broken", "")


async def _parse(orders: Orders, progress: Progress) -> Read:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "faulthandler", "-m", "hanlin.documents.parse_child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
        limit=_LINE_BYTES,
        start_new_session=True,  # a Ctrl-C in the terminal is the service's to handle
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    words = asyncio.create_task(_last_words(process.stderr))
    try:
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        result = await _watch(process.stdout, orders.limits, progress)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.stdin.close()
        await process.wait()
        said = await words
    if result is None:
        log.info("the parser of %s died with %s: %s", orders.filename, process.returncode, said)
        raise DocumentUnreadable(_ENDS.get(process.returncode or 0, "broken"))
    if result.read is None:
        log.debug("the parser of %s said: %s", orders.filename, said)
        raise DocumentUnreadable(*result.unreadable)
    return result.read


async def _watch(lines: asyncio.StreamReader, limits: Limits, progress: Progress) -> _Result | None:
    """Pass on how far the child is, and return its last line; None when it ended without one."""
    try:
        async with asyncio.timeout(limits.total_s):
            while True:
                async with asyncio.timeout(limits.stall_s):
                    line = await lines.readline()
                if line.startswith(b"["):
                    done, total = msgspec.json.decode(line, type=tuple[int, int])
                    progress(done, total)
                else:
                    return msgspec.json.decode(line, type=_Result) if line else None
    except TimeoutError:
        raise DocumentUnreadable("timeout") from None
    except (msgspec.DecodeError, ValueError):  # not what our own program writes: somebody else speaks for it
        return None


async def _last_words(stream: asyncio.StreamReader) -> str:
    """Return the end of what the child has written to stderr, once it has closed it."""
    tail = b""
    while piece := await stream.read(_LINE_BYTES):
        tail = (tail + piece)[-_LAST_WORDS_BYTES:]
    return tail.decode("utf-8", "replace").strip()


def _environment() -> dict[str, str]:
    """Return the child's environment: what it needs to run, and no secrets."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # The allocator's arenas and the threads of numeric libraries each take address space of their own.
    return {**kept, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}


__all__ = ["META_FILE", "PAGES_FILE", "Limits", "Progress", "Read", "Reader", "pages_in", "read"]
