"""Documents are indexed by processes that may die, and may find the disk full."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hanlin.documents.indexing import INDEX, index
from hanlin.documents.retrieval import IndexedDocument
from hanlin.documents.shelf import PAGES, write_pages
from hanlin.documents.values import Page
from hanlin.store.passages import Indexes, IndexUnusable, Row, build

FILLING = "这一段与所问无关，只是用来把各部分隔开。" * 24


async def test_a_large_document_is_indexed_by_a_process_of_its_own(tmp_path: Path) -> None:
    """Whoever is served meanwhile must not wait for it."""
    write_pages(tmp_path, [Page(n + 1, f"# {n}\n\n{FILLING * 2}\n\n编号{n}号泵。") for n in range(900)])
    assert (tmp_path / PAGES).stat().st_size > 2 * 1024**2

    index(tmp_path)

    document = IndexedDocument(tmp_path, id="", name="", digest="", pages=900, tokens=0)
    (found,) = await document.search("编号 877 号泵", 1)
    assert found.passage.first_page <= 878 <= found.passage.last_page


def test_a_process_that_cannot_write_says_why(tmp_path: Path) -> None:
    """A full disk is no fault of the file."""
    write_pages(tmp_path, [Page(n, FILLING * 9) for n in range(300)])
    (tmp_path / INDEX).mkdir()

    with pytest.raises(OSError):
        index(tmp_path)


def test_a_process_that_is_killed_while_it_writes_leaves_no_index(tmp_path: Path) -> None:
    """Half an index would answer, and half of the answers would be missing."""
    path, indexes = tmp_path / "index.db", Indexes()
    code = (
        "import sys; from pathlib import Path; from hanlin.store.passages import *\n"
        "def rows():\n"
        "    for number in range(10**9):\n"
        "        if number == 2000: print('under way', flush=True)\n"
        "        yield Row(number, 1, 1, '', 'pump'), 'pump'\n"
        "build(Path(sys.argv[1]), rows())"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"under way\n"

    child.send_signal(signal.SIGKILL)
    child.communicate()

    assert not path.exists()
    with pytest.raises(IndexUnusable):
        indexes.count(path)
    assert build(path, [(Row(0, 1, 1, "", "pump"), "pump")]) == 1
