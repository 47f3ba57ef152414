"""How long a document takes to become searchable, and how long a question takes, beside what they stand beside.

For documents of 200, 2,000 and 15,000 pages, in a process of its own each: indexing beside the reading of the same
document from a PDF (aim: searchable within 1.3 of the time that the parser takes), the memory of indexing (aim: within
300 MiB), and a question beside a plain scan of all passages in memory for the same words. ARGS="2000" measures one.
"""

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hanlin.documents import words
from hanlin.documents.indexing import INDEX, index_pages
from hanlin.documents.parsing import read
from hanlin.documents.retrieval import IndexedDocument
from hanlin.documents.shelf import read_pages
from tests.big_documents import Language, write_pdf
from tests.needles import needles_of, sentences_of

LENGTHS = (200, 2000, 15_000)
ROUNDS = 3


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that something takes, and those of them that this process or its children compute."""
    began, computed = time.perf_counter(), computed_s()
    act()
    return time.perf_counter() - began, computed_s() - computed


def computed_s() -> float:
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum([one.ru_utime + one.ru_stime for one in used])


def scan(texts: list[str], question: str) -> list[int]:
    """Return the passages with the most words of a question: what one would write without an index."""
    wanted = [term.said for term in words.terms(question)]
    weights = [sum([word in text for word in wanted]) for text in texts]
    return sorted(range(len(texts)), key=lambda number: -weights[number])[:8]


async def ask(document: IndexedDocument, questions: Sequence[str]) -> tuple[int, list[float], list[float]]:
    """Return how many passages a document has, and how long questions took of the index, and of the scan."""
    texts = [passage.text for passage in await document.passages()]
    found_s, scanned_s = [], []
    for question in list(questions) * ROUNDS:
        began = time.perf_counter()
        await document.search(question, 8)
        found_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        scan(texts, question)
        scanned_s.append(time.perf_counter() - began)
    return len(texts), found_s, scanned_s


def measure(language: Language, pages: int) -> None:
    """Measure one document and print its line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needles = needles_of(language, 0, pages)
        write_pdf(
            folder / "long.pdf", pages=pages, language=language, needles=sentences_of(language, 0, pages, needles)
        )
        parsed_s, parsed_cpu_s = timed(lambda: asyncio.run(read(folder / "long.pdf", "long.pdf", folder)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        indexed_s, indexed_cpu_s = min(timed(lambda: index_pages(folder, read_pages(folder))) for _ in range(ROUNDS))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        document = IndexedDocument(folder, id="", name="", digest="", pages=pages, tokens=0)
        passages, found_s, scanned_s = asyncio.run(ask(document, [needle.question for needle in needles.values()]))
        size = (folder / INDEX).stat().st_size
        print(
            f"{language} {pages} pages: parsed in {parsed_s:.2f} s, indexed in {indexed_s:.2f} s "
            f"({pages / indexed_s:.0f} pages/s, {passages / indexed_s:.0f} passages/s), "
            f"together {1 + indexed_s / parsed_s:.2f} of the parser ({1 + indexed_cpu_s / parsed_cpu_s:.2f} of its CPU "
            f"time); memory +{grown / 1024:.0f} MiB, "
            f"index {size / 2**20:.1f} MiB; question {1000 * statistics.median(found_s):.1f} ms, "
            f"scan {1000 * statistics.median(scanned_s):.1f} ms"
        )


def main() -> None:
    if len(sys.argv) == 3:
        measure("zh" if sys.argv[1] == "zh" else "en", int(sys.argv[2]))
        return
    for pages in map(int, sys.argv[1:2] or LENGTHS):
        for language in ("zh", "en"):
            subprocess.run([sys.executable, "-m", "bench.retrieval", language, str(pages)], check=True)


if __name__ == "__main__":
    main()
