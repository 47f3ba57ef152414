"""How fast files become text, and in how much memory. Each is read in a process of its own, as uploads are.

Prints seconds and those of CPU time, pages a second of CPU time (sections of about 3,000 characters where a kind has no
pages), characters likewise, and the most memory that the process has taken. Fails when a long document takes more than
300 MiB; pictures are not counted, because text recognition takes 500 MiB before it sees the first.

    python -m bench.documents                 all kinds
    python -m bench.documents --pages 200     shorter documents, for a quick look
    python -m bench.documents pdf docx        some kinds only
"""

import argparse
import asyncio
import importlib.util
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hanlin.documents.parsing import Read, read
from tests.big_documents import pages_of, pdf_of, shown, write_docx, write_pdf
from tests.documents_corpus import cell, epub, xlsx
from tests.drawn_text import picture_of

MIB = 2**20
MEMORY_LIMIT_BYTES = 300 * MIB
COLUMNS = ("编号", "名称", "日期", "数量", "单价", "备注")

Make = Callable[[Path, int], None]


@dataclass(frozen=True)
class Sample:
    """A file of so many pages, or of what comes to as many."""

    filename: str
    make: Make
    bounded: bool = True


@dataclass(frozen=True)
class Measured:
    """One file: how large it was, how long it took, and what it became."""

    size_bytes: int
    seconds: float
    cpu_s: float
    read: Read


def _records(count: int) -> list[list[str]]:
    chance = random.Random(count)
    return [
        [f"A-{number}", f"部件 {chance.randint(1, 999)}", f"2024-{number % 12 + 1:02d}-{number % 28 + 1:02d}",
         str(chance.randint(1, 9_000)), f"{chance.uniform(1, 900):.2f}", f"第 {number % 97} 批，状态正常"]
        for number in range(count)
    ]  # fmt: skip


def _ruled(page: int) -> str:
    """Return a page that is a table of twenty rows."""
    xs, top, step = (60, 120, 210, 290, 350, 420, 540), 760, 30
    rows = [list(COLUMNS), *_records(page * 20)[-20:]]
    lines = "".join(f"{x} {top} m {x} {top - step * len(rows)} l S\n" for x in xs)
    lines += "".join(f"{xs[0]} {top - step * n} m {xs[-1]} {top - step * n} l S\n" for n in range(len(rows) + 1))
    return lines + "".join(
        shown(text, xs[column] + 3, top - step * (number + 1) + 9, 8)
        for number, row in enumerate(rows)
        for column, text in enumerate(row)
    )


def _xlsx(path: Path, pages: int) -> None:
    rows = (
        "<row>" + "".join(cell("", text) for text in row) + "</row>" for row in [list(COLUMNS), *_records(pages * 40)]
    )
    path.write_bytes(xlsx("".join(rows)))


def _chapters(path: Path, pages: int) -> None:
    texts = pages_of(pages=pages, language="zh", needles={})
    chapters = {
        f"c{at}.xhtml": "<html><body><h1>章</h1>"
        + "".join(f"<p>{text}</p>" for text in texts[at : at + 10])
        + "</body></html>"
        for at in range(0, pages, 10)
    }
    path.write_bytes(epub(chapters))


def _html(path: Path, pages: int) -> None:
    texts = pages_of(pages=pages, language="en", needles={})
    made = "".join(f"<h2>Page</h2><p>{text}</p>" for text in texts)
    path.write_text(f"<!doctype html><html><body>{made}</body></html>", encoding="utf-8")


def _text(path: Path, pages: int) -> None:
    path.write_text("\n\n".join(pages_of(pages=pages, language="zh", needles={})), encoding="gb18030")


def _csv(path: Path, pages: int) -> None:
    path.write_text("\n".join(",".join(row) for row in [list(COLUMNS), *_records(pages * 40)]), encoding="utf-8")


def _json(path: Path, pages: int) -> None:
    records = [dict(zip(COLUMNS, row, strict=True)) for row in _records(pages * 40)]
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")


def _scan(path: Path, pages: int) -> None:
    made = [picture_of(["中山大王", f"Page {page}", "三日上山十人"]) for page in range(1, max(pages // 400, 2) + 1)]
    made[0].save(path, save_all=True, append_images=made[1:], resolution=120)


SAMPLES: Mapping[str, Sample] = {
    "pdf, Chinese": Sample("a.pdf", lambda path, pages: write_pdf(path, pages=pages, language="zh", needles={})),
    "pdf, English": Sample("a.pdf", lambda path, pages: write_pdf(path, pages=pages, language="en", needles={})),
    "pdf, ruled tables": Sample("a.pdf", lambda path, pages: pdf_of(path, _ruled, pages // 4)),
    "docx, Chinese": Sample("a.docx", lambda path, pages: write_docx(path, pages=pages, language="zh", needles={})),
    "docx, English": Sample("a.docx", lambda path, pages: write_docx(path, pages=pages, language="en", needles={})),
    "xlsx": Sample("a.xlsx", _xlsx),
    "epub": Sample("a.epub", _chapters),
    "html": Sample("a.html", _html),
    "txt, GB18030": Sample("a.txt", _text),
    "csv": Sample("a.csv", _csv),
    "json": Sample("a.json", _json),
    "pdf, scanned": Sample("a.pdf", _scan, bounded=False),
}


async def measured(sample: Sample, pages: int, folder: Path) -> Measured:
    path, out = folder / sample.filename, folder / "out"
    out.mkdir()
    await asyncio.to_thread(sample.make, path, pages)
    started, cpu_before_s = time.perf_counter(), _children_cpu_s()
    found = await read(path, sample.filename, out)
    # What indexing the pages takes beside reading them belongs here, as a share of `seconds`.
    seconds, cpu_s = time.perf_counter() - started, _children_cpu_s() - cpu_before_s
    return Measured(path.stat().st_size, seconds, cpu_s, found)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="beginnings of the kinds to measure; all when there are none")
    parser.add_argument("--pages", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"{'kind':20}{'file':>10}{'pages':>8}{'seconds':>9}{'CPU s':>8}{'pages/s':>9}{'chars/s':>12}{'peak MiB':>10}")
    greedy = []
    for name, sample in SAMPLES.items():
        if arguments.kinds and not name.startswith(tuple(arguments.kinds)):
            continue
        if not sample.bounded and importlib.util.find_spec("rapidocr") is None:
            print(f"{name:20}  (not measured: the extra `ocr` is not installed)")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(measured(sample, arguments.pages, Path(folder)))
        pages, characters, peak = found.read.pages, found.read.characters, found.read.peak_bytes
        print(
            f"{name:20}{found.size_bytes / MIB:>6.1f} MiB{pages:>8}{found.seconds:>9.2f}{found.cpu_s:>8.2f}"
            f"{pages / found.cpu_s:>9.0f}{characters / found.cpu_s:>12,.0f}{peak / MIB:>10.0f}"
        )
        if sample.bounded and peak > MEMORY_LIMIT_BYTES:
            greedy.append(name)
    if greedy:
        sys.exit(f"These take more than {MEMORY_LIMIT_BYTES // MIB} MiB: {', '.join(greedy)}")


if __name__ == "__main__":
    main()
