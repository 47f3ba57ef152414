"""The bytes of files: there as a whole or not at all, once, and nothing left behind by whoever died."""

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanlin.errors import DiskFull
from hanlin.store.blobs import AT_ONCE_BYTES, Blobs, free_bytes

CONTENT = b"hello" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()

DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from hanlin.store.blobs import Blobs

async def main():
    blobs = Blobs(Path(sys.argv[1]))
    incoming = blobs.incoming()
    await incoming.write(b"x" * 3_000_000)
    print(blobs.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


class Opened:
    """Opens folders as processes do; what a test leaves open is closed behind it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Blobs] = []

    def __call__(self, keep_free_bytes: int = 0) -> Blobs:
        self._all.append(Blobs(self._folder, keep_free_bytes))
        return self._all[-1]

    def close(self) -> None:
        for blobs in self._all:
            blobs.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with contextlib.closing(Opened(tmp_path / "files")) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


def killed_while_writing(folder: Path) -> str:
    """Return what a process was called that was killed in the middle of a file."""
    killed = subprocess.run([sys.executable, "-c", DIE, str(folder)], stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL
    return killed.stdout.strip()


async def kept(blobs: Blobs, content: bytes = CONTENT) -> str:
    async with blobs.incoming() as incoming:
        for at in range(0, len(content), 700_000):
            await incoming.write(content[at : at + 700_000])
        digest = await incoming.finish()
        async with blobs.turn(digest):
            blobs.keep(incoming, digest)
    return digest


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "lock")


async def test_bytes_are_kept_under_their_digest_for_their_owner_alone(opened: Opened, folder: Path) -> None:
    """Whoever else has an account on the machine must not read the documents."""
    blobs = opened()

    digest = await kept(blobs)

    assert digest == DIGEST
    assert blobs.path(DIGEST).read_bytes() == CONTENT
    assert blobs.path(DIGEST).stat().st_mode & 0o077 == 0
    assert blobs.path(DIGEST).parent.stat().st_mode & 0o077 == 0
    assert list(blobs.digests()) == [[DIGEST]]
    blobs.close()
    assert files(folder) == [f"{DIGEST[:2]}/{DIGEST}"]


async def test_what_is_larger_than_a_piece_is_written_as_it_comes(opened: Opened, folder: Path) -> None:
    """And its digest is that of all of it."""
    blobs = opened()
    content = os.urandom(3 * AT_ONCE_BYTES + 17)

    async with blobs.incoming() as incoming:
        await incoming.write(content[:-17])
        assert incoming.path.stat().st_size == len(content) - 17
        await incoming.write(content[-17:])
        assert await incoming.finish() == hashlib.sha256(content).hexdigest()
        assert incoming.md5 == hashlib.md5(content, usedforsecurity=False).digest()
        assert incoming.size_bytes == len(content)


async def test_the_same_bytes_are_there_once(opened: Opened, folder: Path) -> None:
    """Two callers upload one report."""
    blobs = opened()
    await kept(blobs)
    before = blobs.path(DIGEST).stat().st_ino

    await kept(blobs)

    assert blobs.path(DIGEST).stat().st_ino == before
    blobs.close()
    assert files(folder) == [f"{DIGEST[:2]}/{DIGEST}"]


async def test_what_is_not_kept_is_gone(opened: Opened, folder: Path) -> None:
    """A client that left half-way, a file that was too large."""
    blobs = opened()

    async def half() -> None:
        async with blobs.incoming() as incoming:
            await incoming.write(b"x" * 2 * AT_ONCE_BYTES)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await half()

    blobs.close()
    assert files(folder) == []


async def test_a_disk_that_is_nearly_full_takes_no_more(opened: Opened, folder: Path) -> None:
    """A database that cannot write any more is worse than an upload that is refused."""
    with pytest.raises(DiskFull, match="no room on the disk for files"):
        opened(keep_free_bytes=2**62).incoming()
    opened.close()

    filling = opened(keep_free_bytes=free_bytes(folder.parent) - 64 * AT_ONCE_BYTES)
    async with filling.incoming() as incoming:
        with pytest.raises(DiskFull):
            await incoming.write(bytes(128 * AT_ONCE_BYTES))
    filling.close()
    assert files(folder) == []


def test_a_folder_that_cannot_be_written_is_a_disk_without_room(opened: Opened, folder: Path) -> None:
    """Whatever the system says: the caller's file is not stored, and the log of the call says so."""
    folder.write_text("not a folder")

    with pytest.raises(DiskFull):
        opened().incoming()


async def test_bytes_that_are_deleted_stay_readable_to_whoever_reads_them(opened: Opened, folder: Path) -> None:
    """Deleting a file that is just being downloaded ends no download."""
    blobs = opened()
    await kept(blobs)

    with blobs.path(DIGEST).open("rb") as file:
        async with blobs.turn(DIGEST):
            blobs.remove(DIGEST)
            blobs.remove(DIGEST)
        assert file.read() == CONTENT
    assert list(blobs.digests()) == []


async def test_one_at_a_time_decides_about_bytes(opened: Opened, folder: Path) -> None:
    """Also of two processes: one deletes what it takes for the last file while the other stores the same bytes."""
    ours, theirs = opened(), opened()
    order: list[str] = []

    async def other() -> None:
        async with theirs.turn(DIGEST):
            order.append("theirs")

    async with ours.turn(DIGEST):
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0.02)
        order.append("ours")
    await waiting

    assert order == ["ours", "theirs"]


async def test_what_a_killed_process_left_is_cleared_and_what_lives_is_not(opened: Opened, folder: Path) -> None:
    """kill -9 in the middle of an upload leaves megabytes that nobody asks for again."""
    name = killed_while_writing(folder)
    living = opened()
    async with living.incoming() as incoming:
        await incoming.write(bytes(AT_ONCE_BYTES))
        assert len(files(folder)) == 4

        clearing = opened()
        assert (clearing.is_alive(name), clearing.is_alive(living.name)) == (False, True)
        assert clearing.gone([name, living.name, "0123"]) == [name, "0123"]
        clearing.clear()

        assert files(folder) == sorted(f"incoming/{living.name}/{n}" for n in ("alive", incoming.path.name))


def test_a_name_that_is_no_digest_is_no_path(tmp_path: Path) -> None:
    """Nothing that a client says may lead out of the folder."""
    for name in ("", "../../etc/passwd", "a" * 63, "A" * 64, "g" * 64):
        with pytest.raises(ValueError, match="is not a SHA-256"):
            Blobs(tmp_path).path(name)
