"""The process that reads a file: what it may do, and how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from hanlin.documents.limits import Limits
from hanlin.documents.parse_child import Orders
from hanlin.documents.parsing import META_FILE, Read, Reader, pages_in, read
from hanlin.documents.unreadable import DocumentUnreadable
from tests.big_documents import write_pdf
from tests.documents_corpus import docx, paragraph
from tests.drawn_text import picture_of

SCANNED = ["中山大王", "Total 4,580", "三日上山十人"]


async def reason(path: Path, out: Path, limits: Limits, filename: str = "a.pdf") -> str:
    """Return why a file cannot be read."""
    with pytest.raises(DocumentUnreadable) as refused:
        await read(path, filename, out, limits=limits)
    return refused.value.reason


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes a while to read."""
    path = tmp_path_factory.mktemp("long") / "a.pdf"
    write_pdf(path, pages=300, language="zh", needles={200: "暗语是青花瓷。"})
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "parse_child" in " ".join(child.cmdline())]


async def test_a_file_becomes_pages_and_what_is_known_of_it(tmp_path: Path, out: Path) -> None:
    """What is written is what the caller is told, so that nobody has to read it again to know."""
    path = tmp_path / "upload"
    write_pdf(path, pages=3, language="zh", needles={})
    heard: list[tuple[int, int]] = []

    found = await Reader().read(path, "报告.pdf", out, lambda done, total: heard.append((done, total)))

    assert (found.kind, found.pages, found.unread) == ("pdf", 3, 0)
    assert found.characters == sum(len(page.text) for page in pages_in(out))
    assert [page.number for page in pages_in(out)] == [1, 2, 3]
    assert 0.6 * found.characters < found.tokens < found.characters
    assert msgspec.json.decode((out / META_FILE).read_bytes(), type=Read) == found
    assert heard[-1][1] == 3
    assert not children()


async def test_a_process_that_makes_no_progress_is_ended(long: Path, out: Path) -> None:
    """A file that stops a library dead must not keep a place for ever."""

    def stop(_done: int, _total: int) -> None:
        for child in children():
            child.send_signal(signal.SIGSTOP)

    with pytest.raises(DocumentUnreadable) as refused:
        await read(long, "a.pdf", out, limits=Limits(stall_s=1.0), progress=stop)

    assert refused.value.reason == "timeout"
    assert not children()
    assert os.listdir(out) == []


async def test_a_process_that_computes_without_progress_is_ended(long: Path, out: Path) -> None:
    """By CPU time: on a busy machine a healthy file may well be silent for long."""
    assert await reason(long, out, Limits(stall_cpu_s=0.02)) == "timeout"
    assert os.listdir(out) == []


async def test_a_process_that_takes_too_long_altogether_is_ended(tmp_path: Path, out: Path) -> None:
    """Progress that never arrives anywhere is none."""
    path = tmp_path / "a.pdf"
    write_pdf(path, pages=1, language="en", needles={})

    assert await reason(path, out, Limits(total_s=0.001)) == "timeout"
    assert not children()


async def test_a_process_that_wants_too_much_memory_is_refused_it(tmp_path: Path, out: Path) -> None:
    """It gets none, and says so; the machine's memory is not asked for."""
    path = tmp_path / "a.docx"
    path.write_bytes(docx(paragraph("长" * 18_000_000)))

    assert await reason(path, out, Limits(memory_bytes=120 * 2**20), "a.docx") == "memory"


async def test_a_process_that_dies_is_a_broken_file(long: Path, out: Path) -> None:
    """Whatever killed it, the file did."""

    def kill(_done: int, _total: int) -> None:
        for child in children():
            child.send_signal(signal.SIGSEGV)

    with pytest.raises(DocumentUnreadable) as refused:
        await read(long, "a.pdf", out, progress=kill)

    assert refused.value.reason == "broken"
    assert os.listdir(out) == []


async def test_a_caller_who_gives_up_ends_the_process(long: Path, out: Path) -> None:
    """A service that stops leaves nothing running."""
    begun = asyncio.Event()

    task = asyncio.create_task(read(long, "a.pdf", out, progress=lambda _done, _total: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not children()
    assert os.listdir(out) == []


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(pages=2), "too_many_pages"),
        (Limits(characters=100), "too_large"),
        (Limits(file_bytes=1000), "too_large"),
    ],
)
async def test_limits_are_those_of_the_caller(tmp_path: Path, out: Path, limits: Limits, expected: str) -> None:
    """The contract's are 15,000 pages and 150 MB; an operator may have others."""
    path = tmp_path / "a.pdf"
    write_pdf(path, pages=3, language="en", needles={})

    assert await reason(path, out, limits) == expected


async def test_people_are_told_in_their_language_what_to_do(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process learns which one that is, and hardly anything else."""
    monkeypatch.setenv("HANLIN_LANG", "zh")
    path = tmp_path / "a"
    path.write_bytes(b"{\\rtf1 text}")

    with pytest.raises(DocumentUnreadable) as refused:
        await read(path, "a.rtf", out)

    assert refused.value.detail == "请另存为 .docx 后重新上传"


async def test_the_process_has_none_of_our_secrets(long: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in its memory is what a hostile file may get at."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-secret")
    seen: set[str] = set()

    await read(
        long,
        "a.pdf",
        out,
        progress=lambda _done, _total: seen.update(name for child in children() for name in child.environ()),
    )

    assert "OMP_NUM_THREADS" in seen
    assert "DASHSCOPE_API_KEY" not in seen


@pytest.mark.parametrize(
    "deed",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
    ],
)
def test_the_process_has_no_network_and_starts_no_programs(deed: str) -> None:
    """A document that fetches something tells somebody that it is being read."""
    program = (
        "from hanlin.documents.confine import confine\n"
        "confine(memory_bytes=2**30, most_memory_bytes=2**30, cpu_s=9, file_bytes=9)\n"
        f"try:\n    {deed}\nexcept PermissionError: print('refused')"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "refused\n"


def test_a_service_that_has_less_itself_gives_what_it_has() -> None:
    """Operators limit services, and a parser that insisted on more would read nothing there."""
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from hanlin.documents.confine import allow_memory, confine\n"
        "confine(memory_bytes=2**30, most_memory_bytes=2**32, cpu_s=9, file_bytes=9)\n"
        "allow_memory(2**32)\n"
        "print(resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(2**29), "64"]


def test_the_process_ends_with_the_one_that_started_it(long: Path, out: Path) -> None:
    """However that one ends: what nobody waits for must not go on."""
    orders = Orders(str(long), "a.pdf", str(out), Limits(), os.getpid())
    command = [sys.executable, "-m", "hanlin.documents.parse_child"]

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(orders) + b"\n")
        child.stdin.flush()
        child.stdout.readline()
        child.stdin.close()
        child.wait()

    assert not (out / META_FILE).exists()


async def test_scanned_pages_and_pictures_are_read(tmp_path: Path, out: Path) -> None:
    """Chinese and English alike; the pages that have text of their own are not looked at."""
    pytest.importorskip("rapidocr")
    scan, photo = tmp_path / "scan.pdf", tmp_path / "photo.png"
    picture_of(SCANNED).save(scan, resolution=120)
    picture_of(SCANNED[::-1]).save(photo)

    scanned = await read(scan, "scan.pdf", out)
    pages = [page.text for page in pages_in(out)]
    photographed = await read(photo, "photo.jpg", out)

    assert (scanned.kind, scanned.pages, scanned.unread, photographed.kind) == ("pdf", 1, 0, "png")
    assert pages == ["\n".join(SCANNED)]
    assert [page.text for page in pages_in(out)] == ["\n".join(SCANNED[::-1])]


async def test_a_long_document_is_read_in_little_memory(long: Path, out: Path) -> None:
    """Libraries that keep every page they have seen need more the longer a document is."""
    found = await read(long, "a.pdf", out)

    assert found.peak_bytes < 100 * 2**20
    assert [page.number for page in pages_in(out) if "暗语是青花瓷。" in page.text] == [200]
