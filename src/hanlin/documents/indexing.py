"""Make a document searchable: cut the pages in its folder into passages and index their words.

    <folder>/pages.jsonl   its pages; written by whoever read the file (`hanlin.documents.shelf`)
    <folder>/index.db      its passages and their words (`hanlin.store.passages`)
    <folder>/vectors.f32   vectors of as many passages as have any yet (`hanlin.store.vectors`)

A document of many pages is indexed by a process of its own, so that whoever serves calls meanwhile is not held up; run
as `python -m hanlin.documents.indexing FOLDER PARENT`. Nothing here waits on an event loop: callers run it in a thread.
"""

import errno
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hanlin.documents import words
from hanlin.documents.passages import passages
from hanlin.documents.shelf import PAGES, read_pages
from hanlin.documents.values import Page
from hanlin.engines.parent import when_the_parent_dies
from hanlin.store.passages import Row, build

INDEX, VECTORS = "index.db", "vectors.f32"

_LARGE_BYTES = 2 * 1024**2
"""Of pages from which on a process of its own is worth its start."""

_CHILD_S = 900.0
_KEPT = ("PATH", "PYTHONPATH", "TMPDIR", "LD_LIBRARY_PATH")

_ERRNO = 100
"""What is added to an error's number to make the exit status of that process: smaller ones are the interpreter's."""


def index(folder: Path, _name: str = "") -> None:
    """Make the document in a folder searchable. Raises OSError, and RuntimeError when its process failed otherwise."""
    if (folder / PAGES).stat().st_size < _LARGE_BYTES:
        index_pages(folder, read_pages(folder))
    else:
        _index_apart(folder)


def index_pages(folder: Path, pages: Iterable[Page]) -> int:
    """Write the index of pages as they come, and return how many passages they are."""
    return build(folder / INDEX, _rows(pages))


def _rows(pages: Iterable[Page]) -> Iterator[tuple[Row, str]]:
    for found in passages(pages):
        row = Row(found.number, found.first_page, found.last_page, found.heading, found.text)
        yield row, words.cut(f"{found.heading}\n\n{found.text}" if found.heading else found.text)


def _index_apart(folder: Path) -> None:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    ran = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "hanlin.documents.indexing", str(folder), str(os.getpid())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=_CHILD_S,
        check=False,
    )
    if ran.returncode > _ERRNO:
        number = ran.returncode - _ERRNO
        raise OSError(number, os.strerror(number), str(folder))
    if ran.returncode:
        raise RuntimeError(
            f"indexing {folder} failed ({ran.returncode}): {ran.stderr[-2000:].decode(errors='replace')}"
        )


def main() -> None:
    """Index the folder that is the first argument, at a low priority: calls go first.

    The second is the process that wants it: nobody else does, when that has ended.
    """
    folder, parent_pid = Path(sys.argv[1]), int(sys.argv[2])
    when_the_parent_dies(signal.SIGKILL)
    if os.getppid() != parent_pid:
        return
    os.nice(5)
    gc.disable()  # nothing here goes in circles, and a tenth of the time would be spent on looking for them
    try:
        index_pages(folder, read_pages(folder))
    except OSError as error:
        sys.exit(_ERRNO + (error.errno or errno.EIO))


if __name__ == "__main__":
    main()


__all__ = ["INDEX", "VECTORS", "index", "index_pages"]
