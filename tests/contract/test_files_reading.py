"""Documents that are read in the background, and what calls may have of them, with readers that do as they are told."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hanlin.documents.parse_child import Read
from hanlin.documents.reading import Progress
from hanlin.documents.shelf import Shelf, write_pages
from hanlin.documents.unreadable import REASONS, DocumentUnreadable
from hanlin.documents.values import Page
from hanlin.errors import (
    FileDeleted,
    FileNotRead,
    FileQuotaExceeded,
    FileRefused,
    FileTooLarge,
    InvalidFile,
    Overloaded,
    TooManyFiles,
    UnknownFile,
)
from hanlin.home import Home
from hanlin.service.files import FileLimits, Files, open_files
from hanlin.service.library import WorkspaceLibrary
from hanlin.service.reading import FAILED, Pace
from hanlin.settings import Settings
from hanlin.store.blobs import Blobs
from hanlin.store.database import Store, open_store
from hanlin.store.rows import FileRow, KeyRow, Quota

QUICK = Pace(look_s=0.01, beat_s=0.01, lease_s=30, pause_s=0.01, soon_s=20)
KEY = KeyRow(id="key-1", name="test", hash="", hint="", created_at=datetime(2026, 11, 27, tzinfo=UTC))
LIMITS = FileLimits({"file-extract": 100_000, "batch": 200_000, "fine-tune": 150_000}, 50_000, Quota(100, 1_000_000))
MIB = 1024**2
PNG = b"\x89PNG\r\n\x1a\n"


class ScriptedReader:
    """Reads a file as its test says: `goes_on` is what it waits for, `raises` what becomes of each attempt."""

    def __init__(self, *raises: BaseException | None) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.began = asyncio.Event()
        self.read_files: list[str] = []
        self.cancelled = 0
        self._raises = list(raises)

    async def read(self, path: Path, filename: str, out_folder: Path, progress: Progress) -> Read:
        self.read_files.append(filename)
        progress(3, 7)
        self.began.set()
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._raises and (problem := self._raises.pop(0)) is not None:
            raise problem
        text = await asyncio.to_thread(path.read_text)
        write_pages(out_folder, [Page(1, text)])
        return Read("txt", 1, len(text), tokens=5)


class House:
    """The files of a home, as several processes would have them open."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self._opened: list[Files] = []
        self._tasks: list[asyncio.Task[None]] = []

    def files(self, reader: ScriptedReader | None = None, *, limits: FileLimits = LIMITS, **more: Any) -> Files:
        """Return the files as a process has them that reads nothing."""
        blobs = Blobs(self.folder / "files")
        options: dict[str, Any] = {"pace": QUICK, **more}
        files = Files(
            self.store,
            blobs,
            Shelf(self.folder / "documents", blobs.name),
            limits,
            reader=reader or ScriptedReader(),
            **options,
        )
        self._opened.append(files)
        return files

    def running(self, reader: ScriptedReader | None = None, **more: Any) -> Files:
        """Return the files as a process has them that reads what waits."""
        files = self.files(reader, **more)
        self._tasks.append(asyncio.create_task(files.run(tidies=False)))
        return files

    async def stop(self) -> None:
        """End every process as a service ends."""
        for files in self._opened:
            await files.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._opened.clear()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database to copy. What differs between back ends is tested with the statements themselves."""

    async def make(path: Path) -> Path:
        async with await open_store(path):
            return path

    return asyncio.run(make(tmp_path_factory.mktemp("database") / "hanlin.db"))


@pytest.fixture
async def house(database: Path, tmp_path: Path) -> AsyncIterator[House]:
    async with await open_store(Path(shutil.copy(database, tmp_path / "hanlin.db"))) as store:
        house = House(store, tmp_path)
        yield house
        await house.stop()


async def upload(
    files: Files, content: bytes = b"hello", name: str = "a.txt", purpose: str = "file-extract", key: KeyRow = KEY
) -> FileRow:
    async with files.receive(key.workspace_id) as coming:
        coming.purpose = purpose
        await coming.write(content)
        return await files.add(coming, key, name)


async def becomes(files: Files, row: FileRow, status: str) -> FileRow:
    """Wait until a file has a status."""
    async with asyncio.timeout(20):
        while (found := await files.find(row.workspace_id, row.id)).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


async def until(done: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def left(folder: Path) -> set[str]:
    """Return the files below a folder that mean something."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.endswith(("lock", "alive")) and not name.startswith("hanlin")}


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_a_small_document_has_been_read_when_its_upload_is_answered(house: House) -> None:
    """Programs of the vendor's find `processed` in the answer, and many never look again."""
    files = house.running()

    row = await upload(files)

    assert (row.status, row.kind, row.pages, row.characters, row.tokens) == ("processed", "txt", 1, 5, 5)
    assert row.id.startswith("file-fe-")
    assert row.details == ""
    assert left(house.folder) == {
        f"files/{row.digest[:2]}/{row.digest}",
        f"documents/{row.digest}/pages.jsonl",
        f"documents/{row.digest}/meta.json",
        f"documents/{row.digest}/index.db",
    }


async def test_only_documents_are_read(house: House) -> None:
    """Lines of a batch are requests."""
    reader = ScriptedReader()
    files = house.running(reader)

    row = await upload(files, purpose="batch", name="b.jsonl")

    assert (row.status, row.purpose) == ("processed", "batch")
    assert row.id.startswith("file-batch-")
    assert reader.read_files == []


async def test_a_document_says_how_far_it_is_while_it_is_read(house: House) -> None:
    """A thousand pages take minutes; whoever waits wants to know for how long."""
    reader = ScriptedReader()
    reader.goes_on.clear()
    files = house.running(reader, pace=Pace(look_s=0.01, beat_s=0.01, soon_s=0.01))

    row = await upload(files)
    await reader.began.wait()
    async with asyncio.timeout(20):
        while (found := await files.find("default", row.id)).pages_done == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    assert (row.status, found.status, found.pages_done, found.pages_total) == ("processing", "processing", 3, 7)
    reader.goes_on.set()
    assert (await becomes(files, row, "processed")).pages == 1


async def test_the_same_bytes_are_read_once(house: House) -> None:
    """Also when both are uploaded before the first is read, and under another name."""
    reader = ScriptedReader()
    files = house.files(reader)
    first, second = await upload(files, name="a.txt"), await upload(files, name="b.txt")
    running = house.running(reader)

    for row in (first, second):
        await becomes(running, row, "processed")
    third = await upload(running, name="c.txt")

    assert (third.status, third.kind, third.pages) == ("processed", "txt", 1)
    assert len(reader.read_files) == 1


async def test_the_bytes_and_what_was_read_go_with_the_last_file_that_has_them(house: House) -> None:
    """A deleted document must not be left on the disk, nor another's be taken away."""
    files = house.running()
    first, second = await upload(files), await upload(files)

    await files.delete("default", first.id)
    assert (house.folder / "documents" / first.digest / "pages.jsonl").exists()
    await files.delete("default", second.id)

    assert left(house.folder) == set()
    with pytest.raises(UnknownFile):
        await files.delete("default", second.id)


async def test_a_file_that_cannot_be_read_says_why_and_the_next_one_is_read(house: House) -> None:
    """One hostile file must not be the end of all reading."""
    files = house.running(ScriptedReader(*map(DocumentUnreadable, REASONS)))

    rows = [await upload(files, reason.encode()) for reason in REASONS]
    next_row = await upload(files, b"world")

    assert [(row.status, row.reason) for row in rows] == [("error", reason) for reason in REASONS]
    assert [row.details for row in rows] == [DocumentUnreadable(reason).detail for reason in REASONS]
    assert next_row.status == "processed"
    assert not any((house.folder / "documents" / row.digest).exists() for row in rows)
    assert list((house.folder / "documents" / "work").iterdir()) == []


async def test_a_disk_that_is_full_is_no_fault_of_the_files(house: House) -> None:
    """It is read once there is room, however long that takes."""
    full = [OSError(28, "No space left on device") for _ in range(5)]
    files = house.running(ScriptedReader(*full))

    row = await upload(files)

    assert (await becomes(files, row, "processed")).attempts == 1


async def test_a_reader_that_fails_time_and_again_is_given_up(house: House) -> None:
    """Its mistake is in the log; the caller learns that it is not the file's."""
    files = house.running(ScriptedReader(*[RuntimeError("a mistake")] * 3))

    row = await becomes(files, await upload(files), "error")

    assert row.reason == FAILED
    assert "although nothing was found wrong with it" in row.details


async def test_reading_ends_when_its_file_is_deleted(house: House) -> None:
    """An hour of computing for a document that nobody has any more."""
    reader = ScriptedReader()
    reader.goes_on.clear()
    files = house.running(reader, pace=Pace(look_s=0.01, beat_s=0.01, soon_s=0.01))
    row = await upload(files)
    await reader.began.wait()

    await files.delete("default", row.id)
    await until(lambda: reader.cancelled)
    reader.goes_on.set()
    other = await upload(files, b"world")
    await becomes(files, other, "processed")

    assert not (house.folder / "documents" / row.digest).exists()
    assert not (house.folder / "files" / row.digest[:2] / row.digest).exists()


async def test_a_document_that_was_read_while_its_file_was_deleted_is_not_kept(house: House) -> None:
    """Between the last page and the end nobody has looked whether it is still wanted."""
    reader = ScriptedReader()
    reader.goes_on.clear()
    files = house.running(reader, pace=Pace(look_s=0.01, beat_s=600, soon_s=0.01))
    row = await upload(files)
    await reader.began.wait()

    deleting = asyncio.create_task(files.delete("default", row.id))
    await deleting
    reader.goes_on.set()
    await becomes(files, await upload(files, b"world"), "processed")

    assert not (house.folder / "documents" / row.digest).exists()


async def test_a_service_that_ends_leaves_its_documents_to_the_next(house: House) -> None:
    """At once, without waiting for a lease."""
    reader = ScriptedReader()
    reader.goes_on.clear()
    files = house.running(reader, pace=Pace(soon_s=0.01, lease_s=3600))
    row = await upload(files)
    await reader.began.wait()

    await house.stop()
    again = house.running()

    assert reader.cancelled == 1
    assert (await becomes(again, row, "processed")).attempts == 1


async def test_a_document_whose_process_died_is_read_by_another_one(house: House) -> None:
    """Killed, it cannot say so; its name in the folder is no longer held by anybody."""
    waiting = house.files()
    row = await upload(waiting)
    claimed = await house.store.files.claim("0123456789abcdef", timedelta(hours=1))
    assert claimed is not None

    files = house.running()

    assert (await becomes(files, row, "processed")).attempts == 2


async def test_a_file_that_kills_whoever_reads_it_is_given_up(house: House) -> None:
    """Or the service would do nothing else from then on."""
    waiting = house.files()
    row = await upload(waiting)
    for number in range(3):
        gone = [f"dead-{number - 1}"]
        assert await house.store.files.claim(f"dead-{number}", timedelta(hours=1), gone) is not None

    reader = ScriptedReader()
    files = house.running(reader)

    assert (await becomes(files, row, "error")).reason == FAILED
    assert reader.read_files == []


async def test_two_processes_share_the_work_and_read_nothing_twice(house: House) -> None:
    """As the workers of a service do."""
    readers = [ScriptedReader(), ScriptedReader()]
    waiting = house.files()
    rows = [await upload(waiting, f"text {number}".encode(), f"{number}.txt") for number in range(10)]

    several = [house.running(reader) for reader in readers]
    for row in rows:
        await becomes(several[0], row, "processed")

    names = [name for reader in readers for name in reader.read_files]
    assert sorted(names) == sorted(f"{row.id}.txt" for row in rows)


# --- storing ---------------------------------------------------------------------------------------------------------


async def test_a_file_may_be_as_large_as_its_purpose_allows(house: House) -> None:
    """Found on the way, or at the end where the purpose comes behind the file."""
    files = house.files()

    async def sent(purpose: str, content: bytes, *, purpose_first: bool) -> None:
        async with files.receive("default") as coming:
            coming.purpose = purpose if purpose_first else ""
            await coming.write(content[:60_000])
            await coming.write(content[60_000:])
            coming.purpose = purpose
            await files.add(coming, KEY, "a")

    for purpose, content, limit_bytes in (
        ("file-extract", bytes(100_001), 100_000),
        ("file-extract", PNG + bytes(50_000), 50_000),
        ("file-extract", b"GIF89a" + bytes(50_000), 50_000),
        ("file-extract", b"BM" + bytes(50_000), 50_000),
        ("batch", bytes(200_001), 200_000),
        ("fine-tune", bytes(150_001), 150_000),
    ):
        for purpose_first in (True, False):
            with pytest.raises(FileTooLarge, match=rf"^Payload Too Large\. .*{limit_bytes}"):
                await sent(purpose, content, purpose_first=purpose_first)
    assert left(house.folder) == set()
    assert await house.store.files.used("default") == Quota(0, 0)


async def test_a_text_that_begins_like_a_picture_is_none(house: House) -> None:
    """A report about BMW may be longer than a picture."""
    files = house.files()

    row = await upload(files, b"BMW in figures, " * 5000)

    assert row.size_bytes == 80_000


async def test_an_upload_beyond_the_quota_leaves_nothing(house: House) -> None:
    """Neither bytes nor a row; the same bytes of another workspace's file stay."""
    narrow = FileLimits(LIMITS.by_purpose, LIMITS.image_bytes, Quota(2, 12))
    files = house.files(limits=narrow)
    row = await upload(files, b"hello")

    with pytest.raises(FileQuotaExceeded, match=r"^Upload file capacity exceed limit\."):
        await upload(files, b"too much")
    assert left(house.folder) == {f"files/{row.digest[:2]}/{row.digest}"}
    await upload(files, b"hello")
    with pytest.raises(FileQuotaExceeded, match=r"^Upload file number exceed limit\."):
        await upload(files, b"")
    assert left(house.folder) == {f"files/{row.digest[:2]}/{row.digest}"}


async def test_no_more_files_come_in_at_once_than_there_is_memory_for(house: House) -> None:
    """Whoever is refused is told to come back, and there is room again as soon as one is through. A workspace does not
    get all of it: what comes slowly would keep all others out.
    """
    files = house.files()

    async with contextlib.AsyncExitStack() as many:
        for _ in range(48):
            await many.enter_async_context(files.receive("default"))
        with pytest.raises(Overloaded):
            await upload(files)
        for _ in range(16):
            await many.enter_async_context(files.receive("another"))
        with pytest.raises(Overloaded):
            await many.enter_async_context(files.receive("a third"))
        with pytest.raises(Overloaded) as problem:
            await upload(files)
        assert (problem.value.status, problem.value.retry_after_s) == (503, 5)

    assert (await upload(files)).size_bytes == 5


async def test_the_files_of_one_call_take_no_more_of_the_disk_than_there_is_room_for(house: House) -> None:
    """All of them are there before the first is added; one that was dropped takes no room from the next."""
    files = house.files(limits=FileLimits(LIMITS.by_purpose, LIMITS.image_bytes, Quota(2, 1000)))

    async with files.intake("default") as intake:
        first, second = intake.begin(), intake.begin()
        for upload in (first, second):
            upload.purpose = "batch"
            await upload.write(bytes(600))
            await upload.finish()
        with pytest.raises(FileQuotaExceeded) as problem:
            intake.begin()
        second.drop()
        third = intake.begin()
        third.purpose = "batch"
        await third.write(b"third")
        rows = [await files.add(upload, KEY, "a") for upload in (first, third)]

    assert (problem.value.used, problem.value.limit, problem.value.of_files) == (1200, 1000, False)
    assert [row.size_bytes for row in rows] == [600, 5]
    assert left(house.folder) == {f"files/{row.digest[:2]}/{row.digest}" for row in rows}


async def test_the_files_of_one_call_are_one_that_comes_in(house: House) -> None:
    """One at a time needs memory, however many there are: a form with many is no reason to keep others out."""
    files = house.files()

    async with files.intake("default") as intake:
        for _ in range(60):
            await intake.begin().write(b"x")
        assert (await upload(files)).size_bytes == 5

    assert await house.store.files.used("default") == Quota(1, 5)


async def test_files_lie_in_the_home_or_where_services_share_them(house: House, tmp_path: Path) -> None:
    """One folder for all services on a database, wherever their homes are."""
    home, shared = Home(tmp_path / "home"), tmp_path / "shared"

    own = open_files(home, Settings(), house.store)
    others = open_files(home, Settings(files_folder=str(shared)), house.store)

    assert (own.blobs.folder, own.shelf.folder) == (home.path / "files", home.path / "documents")
    assert (others.blobs.folder, others.shelf.folder) == (shared / "files", shared / "documents")
    assert own.limits.by_purpose == {"file-extract": 150 * MIB, "batch": 500 * MIB, "fine-tune": 300 * MIB}
    assert (own.limits.image_bytes, own.limits.quota) == (20 * MIB, Quota(10_000, 100 * 1024 * MIB))


async def test_what_killed_processes_left_is_tidied_up(house: House) -> None:
    """Bytes without a row, documents without a file, rows of files that were deleted a month ago."""
    files = house.files()
    row = await upload(files)
    async with files.receive("default") as coming:
        await coming.write(b"orphan")
        digest, _ = await coming.finish()
        async with files.blobs.turn(digest):
            coming.keep(files.blobs, digest)
    orphan = house.folder / "documents" / digest
    orphan.mkdir(parents=True)
    (orphan / "meta.json").write_text("{}")
    old_work = house.folder / "documents" / "work" / "0123-45"
    old_work.mkdir(parents=True)
    new_work = files.shelf.begin()

    await files.tidy()

    assert left(house.folder) == {f"files/{row.digest[:2]}/{row.digest}"}
    assert not orphan.exists()
    assert (old_work.exists(), new_work.exists()) == (False, True)


async def test_contents_are_read_in_pieces_and_a_missing_one_is_told(house: House) -> None:
    """Somebody cleaned the folder by hand."""
    files = house.files()
    row = await upload(files, bytes(90_000))

    async def whole() -> bytes:
        async with contextlib.aclosing(files.content(row)) as pieces:
            return b"".join([piece async for piece in pieces])

    assert await whole() == bytes(90_000)
    (house.folder / "files" / row.digest[:2] / row.digest).unlink()
    with pytest.raises(UnknownFile):
        await whole()


# --- the library -----------------------------------------------------------------------------------------------------


async def test_a_call_reads_the_files_that_it_names_in_their_order(house: House) -> None:
    """As often as it names them, under the names that their owners gave them."""
    files = house.running()
    first, second = await upload(files, b"one", "1.txt"), await upload(files, b"two", "2.txt")
    library = WorkspaceLibrary(files, "default")

    found = await library.open([second.id, first.id, second.id])
    pages = await found[0].read()

    assert [(one.id, one.name, one.digest) for one in found] == [
        (row.id, row.filename, row.digest) for row in (second, first, second)
    ]
    assert (found[0].pages, found[0].tokens) == (1, 5)
    assert [(page.number, page.text) for page in pages] == [(1, "two")]
    assert await library.open([]) == []


async def test_a_file_of_another_workspace_never_was(house: House) -> None:
    """As one that never was anywhere, and one that is not for reading."""
    files = house.running()
    row, batch = await upload(files), await upload(files, purpose="batch")

    for workspace, file_id in (("ws-other", row.id), ("default", "file-fe-nope"), ("default", batch.id)):
        with pytest.raises(InvalidFile) as problem:
            await WorkspaceLibrary(files, workspace).open([file_id])
        assert problem.value.message == f"Invalid file [id:{file_id}]."
        assert (problem.value.status, problem.value.code) == (400, "invalid_parameter_error")


async def test_a_deleted_file_is_told_from_one_that_never_was(house: House) -> None:
    """Also when it is deleted while a call reads it."""
    files = house.running()
    library = WorkspaceLibrary(files, "default")
    row = await upload(files)
    (document,) = await library.open([row.id])

    await files.delete("default", row.id)

    for reading in (library.open([row.id]), document.read()):
        with pytest.raises(FileDeleted) as problem:
            await reading
        assert problem.value.message == f"File [id:{row.id}] cannot be found."


async def test_a_file_that_is_still_read_is_worth_waiting_for(house: House) -> None:
    """Unless another one that is named never will be."""
    files = house.running(ScriptedReader(DocumentUnreadable("blank")))
    blank = await upload(files)
    waiting = await upload(house.files(), b"later")
    library = WorkspaceLibrary(files, "default")
    await becomes(files, blank, "error")
    await becomes(files, waiting, "processed")
    claimed = replace(waiting, id="file-fe-1")
    await house.store.files.add(claimed, LIMITS.quota)

    with pytest.raises(FileNotRead, match=r"^File parsing in progress, please try again later\.$"):
        await library.open([claimed.id])
    with pytest.raises(
        FileRefused, match=rf"^File \[id:{blank.id}\] content blank\. \(there is no text in the file\)$"
    ):
        await library.open([claimed.id, blank.id])


WORDS = {
    "format": "format is not supported.",
    "encrypted": "format is not supported.",
    "broken": "format is not supported.",
    FAILED: "format is not supported.",
    "blank": "content blank.",
    "needs_ocr": "content blank.",
    "too_many_pages": "exceeds page limits (15000 pages).",
    "too_large": "exceeds size limit.",
    "timeout": "exceeds size limit.",
    "memory": "exceeds size limit.",
}


async def test_a_file_that_cannot_be_read_is_refused_in_the_vendors_words(house: House) -> None:
    """Clients look for them; what to do stands behind."""
    files = house.files()
    library = WorkspaceLibrary(files, "default")
    row = await upload(files)

    for number, (reason, words) in enumerate(WORDS.items()):
        unread = replace(row, id=f"file-fe-{number}", status="error", reason=reason, details="why")
        await house.store.files.add(unread, LIMITS.quota)
        with pytest.raises(FileRefused) as problem:
            await library.open([unread.id])
        assert problem.value.message == f"File [id:{unread.id}] {words} (why)"
    assert set(WORDS) == {*REASONS, FAILED}


async def test_a_call_names_a_hundred_files_at_most(house: House) -> None:
    """The limits list says more than 100, the error table 100 or more: the list is the more generous."""
    library = WorkspaceLibrary(house.files(), "default")

    with pytest.raises(TooManyFiles, match=r"^Too many files provided\."):
        await library.open(["file-fe-1"] * 101)
    with pytest.raises(InvalidFile):
        await library.open(["file-fe-1"] * 100)


async def test_a_text_in_a_request_is_a_document_that_is_made_once(house: House) -> None:
    """A caller that asks ten questions about one contract sends it ten times."""
    made: list[str] = []
    files = house.files(index=lambda folder, _name: made.append(folder.name))
    library = WorkspaceLibrary(files, "default")
    text = "第一条 合同。\n" * 1000

    first = await library.hold(text, "text 1")
    again = await WorkspaceLibrary(files, "ws-other").hold(text, "text 2")

    assert len(made) == 1
    assert (first.id, first.name, again.name) == (again.id, "text 1", "text 2")
    assert "".join(page.text for page in await again.read()) == text
    assert again.tokens > 1000
    assert [page.number for page in await again.read(2, 2)] == [2]


async def test_texts_that_nobody_uses_any_more_make_room_for_others(house: House) -> None:
    """A folder that only grows fills every disk."""
    files = house.files()
    files.shelf.held_documents = 3
    library = WorkspaceLibrary(files, "default")
    held = [await library.hold(f"text {number}", "") for number in range(3)]
    for number, document in enumerate(held):
        os.utime(files.shelf.held(document.digest), (number, number))

    await library.hold("text 0", "")  # which is used again
    await library.hold("text 3", "")

    there = {path.name for path in (house.folder / "documents" / "held").iterdir()}
    assert there == {held[0].digest, held[2].digest, (await library.hold("text 3", "")).digest}
