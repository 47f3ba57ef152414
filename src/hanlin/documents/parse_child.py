"""The program of the process that turns one file into text: it reads the file, writes two files, and nothing else.

Started by `parsing` as `python -m hanlin.documents.parse_child`. The first line on stdin is its orders (`Orders` as
JSON); when stdin ends, the parent is gone and so is this process. On stdout it says how far it is, in lines of
`[done,total]`; the last line is what became of the file: `{"read": …}` or `{"unreadable": [reason, detail]}`.
"""

import contextlib
import importlib
import os
import re
import signal
import stat
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import msgspec

from hanlin.documents import kinds
from hanlin.documents.confine import confine
from hanlin.documents.kinds import Kind
from hanlin.documents.limits import Limits
from hanlin.documents.parsers.work import Progress, Work
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page
from hanlin.engines.parent import die_with_the_parent

PAGES_FILE, META_FILE = "pages.jsonl", "meta.json"

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_TITLE_CHARACTERS = 300
_MOST_SECTIONS = 400_000  # pages that nobody but a parser has made: a file of nothing but their ends has millions


class Orders(msgspec.Struct, frozen=True):
    path: str
    filename: str
    out_folder: str
    limits: Limits
    parent_pid: int


class Read(msgspec.Struct, frozen=True):
    """What became of a file: its kind (`documents.kinds`), its pages, how many characters stand on them.

    `tokens` is an estimate for a Qwen tokenizer. `unread` pages are pictures whose text nobody could read. `peak_bytes`
    is the most memory that reading it has taken, 0 where nobody knows.
    """

    kind: str
    pages: int
    characters: int
    title: str = ""
    tokens: int = 0
    unread: int = 0
    peak_bytes: int = 0


def main() -> None:
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    # Libraries print to stdout as well: the talk with the parent keeps the real one, everything else goes to stderr.
    control = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    limits = orders.limits
    confine(
        memory_bytes=limits.memory_bytes,
        most_memory_bytes=limits.ocr_memory_bytes,
        cpu_s=limits.total_s,
        file_bytes=4 * limits.characters + 2**20,
    )
    die_with_the_parent(orders.parent_pid)

    def progress(done: int, total: int) -> None:
        _set_alarm(limits.stall_cpu_s)
        control.write(b"[%d,%d]\n" % (done, total))

    _set_alarm(limits.stall_cpu_s)
    result = _parsed(orders, progress)
    if isinstance(result, Read):
        control.write(msgspec.json.encode({"read": result}) + b"\n")
    else:
        control.write(msgspec.json.encode({"unreadable": (result.reason, result.detail)}) + b"\n")
    os._exit(0)  # taking a large document apart again would take a while, and nobody needs it


def _set_alarm(cpu_s: float) -> None:
    """Have the kernel end this process when it has computed for so long from now on, in whatever library that is."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _parsed(orders: Orders, progress: Progress) -> Read | DocumentUnreadable:
    try:
        return parse(orders, progress)
    except DocumentUnreadable as error:
        return error
    except MemoryError:
        return DocumentUnreadable("memory")
    except Exception:  # whatever a library says of a file that it cannot read: that it cannot is all there is to know
        traceback.print_exc(limit=-8)
        return DocumentUnreadable("broken")


def parse(orders: Orders, progress: Progress) -> Read:
    """Read the file and write its pages and what is known of it. Raises DocumentUnreadable."""
    path, limits = Path(orders.path), orders.limits
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DocumentUnreadable("broken")
    if found.st_size > limits.file_bytes:
        raise DocumentUnreadable("too_large")
    kind = kinds.kind_of(path, orders.filename, limits)
    work = Work(path, kinds.extension_of(orders.filename), limits, progress)
    parser = importlib.import_module(f"hanlin.documents.parsers.{kind.parser}")  # of all the libraries, those it needs
    out = Path(orders.out_folder)
    pages, characters, tokens, said = 0, 0, 0.0, False
    with (out / PAGES_FILE).open("wb") as file:
        for page in _bounded(parser.pages(work), kind, limits):
            file.write(msgspec.json.encode(page) + b"\n")
            pages = page.number
            characters += len(page.text)
            tokens += _tokens(page.text)
            said = said or bool(page.text.strip())
    if not said:
        raise DocumentUnreadable("needs_ocr" if work.unread else "blank")
    title = " ".join(_UNWANTED.sub("", work.title).split())[:_TITLE_CHARACTERS]
    read = Read(kind.name, pages, characters, title, round(tokens), work.unread, _peak_bytes())
    (out / META_FILE).write_bytes(msgspec.json.encode(read))
    return read


def _bounded(pages: Iterator[Page], kind: Kind, limits: Limits) -> Iterator[Page]:
    """Pass pages on without what no text has, and only as many of them as may be."""
    characters = 0
    for page in pages:
        characters += len(page.text)
        if kind.counts_pages and page.number > limits.pages:
            raise DocumentUnreadable("too_many_pages")
        if page.number > _MOST_SECTIONS:
            raise DocumentUnreadable("too_large")
        if characters > limits.characters:
            raise DocumentUnreadable("too_large")
        if _UNWANTED.search(page.text) or _UNWANTED.search(page.label):
            page = Page(page.number, _UNWANTED.sub("", page.text), _UNWANTED.sub("", page.label))
        yield page


def _tokens(text: str) -> float:
    """Return about how many tokens a text is: three quarters for a character beyond ASCII, a quarter for one of it."""
    beyond = sum(len(run) for run in _BEYOND_ASCII.findall(text))
    return 0.75 * beyond + 0.25 * (len(text) - beyond)


def _peak_bytes() -> int:
    """Return the most memory that this program has had: `getrusage` would count that of the one that started it."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
