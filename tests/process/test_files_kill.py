"""Uploads and documents when processes die, and when there are several: nothing is lost, nothing is left behind."""

import asyncio
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from openai import OpenAI
from openai.types import FileObject

from hanlin.home import Home
from hanlin.service.files import open_files
from hanlin.settings import Settings
from hanlin.store.database import Store, open_store
from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import KEY, Service, in_front_of, toml_of

KILLS = int(os.environ.get("TEST_FILE_KILLS", "3"))
BUSY = """
import asyncio, random, sys
from datetime import UTC, datetime
from pathlib import Path
from hanlin.home import Home
from hanlin.service.files import open_files
from hanlin.settings import Settings
from hanlin.store.database import open_store
from hanlin.store.rows import KeyRow

KEY = KeyRow(id="key-1", name="", hash="", hint="", created_at=datetime.now(UTC))

async def caller(files, seed):
    chance, mine = random.Random(seed), []
    while True:
        if mine and chance.random() < 0.45:
            await files.delete("default", mine.pop(chance.randrange(len(mine))))
            continue
        async with files.receive("default") as coming:
            coming.purpose = "file-extract"
            await coming.write(b"the same text " * 10_000 * chance.randrange(1, 4))
            mine.append((await files.add(coming, KEY, "a.txt")).id)

async def main():
    home = Home(Path(sys.argv[1]))
    async with await open_store(home.database) as store:
        files = open_files(home, Settings(readers=2), store)
        running = asyncio.create_task(files.run())
        print("busy", flush=True)
        await asyncio.gather(running, *(caller(files, f"{sys.argv[2]}-{n}") for n in range(4)))

asyncio.run(main())
"""

LONG = ("一个很长的段落，说的是同一件事。" * 20 + "\n").encode() * 20_000  # 19 MB


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([Rule(text="你好")]) as engine:
        yield engine


def upload(client: OpenAI, content: bytes, name: str = "a.txt") -> FileObject:
    return client.files.create(file=(name, content), purpose="file-extract")  # type: ignore[arg-type]


def wait_processed(client: OpenAI, file_id: str) -> FileObject:
    wait_until(lambda: str(client.files.retrieve(file_id).status) != "processing", f"{file_id} read", timeout_s=120)
    return client.files.retrieve(file_id)


def left(service: Service) -> list[Path]:
    """Return the files of bytes that a service has, and those that are coming in."""
    found = [path for path in (service.home / "files").rglob("*") if path.is_file()]
    return [path for path in found if path.name not in ("lock", "alive")]


def test_a_document_is_read_by_the_next_service_when_the_first_is_killed(engine: FakeEngine, tmp_path: Path) -> None:
    """Its caller sees `processing` for a little longer; nobody has to upload it again."""
    service = Service(tmp_path, config=in_front_of(engine, profile="vllm"))
    with service, service.client() as client:
        made = upload(client, LONG)
        service.stop(signal.SIGKILL)
        service.start()

        found = wait_processed(client, made.id)

        assert (str(made.status), found.status) == ("processing", "processed")
        wait_until(lambda: not list((tmp_path / "documents" / "work").iterdir()), "nothing half made")


def test_what_an_upload_left_that_was_killed_with_its_service_is_gone(engine: FakeEngine, tmp_path: Path) -> None:
    """Megabytes that no row names."""
    service = Service(tmp_path, config=in_front_of(engine, profile="vllm"))
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
        "content-type: multipart/form-data; boundary=X\r\ncontent-length: 9000000\r\n\r\n"
        '--X\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    )
    with service:
        with socket.create_connection(("127.0.0.1", service.port)) as line:
            line.sendall(head.encode() + bytes(4_000_000))
            wait_until(lambda: left(service), "half of the file on the disk")
            service.stop(signal.SIGKILL)
        assert left(service)

        service.start()

        wait_until(lambda: not left(service), "nothing of the file on the disk")


def test_files_are_whole_whenever_their_process_is_killed(tmp_path: Path) -> None:
    """Between any two steps of uploads, readings and deletions of the same few bytes: no file is without its bytes, no
    bytes are without a file, and every document is read in the end."""
    home = Home(tmp_path)
    for number in range(KILLS):
        command = [sys.executable, "-c", BUSY, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
            time.sleep(random.Random(number).uniform(0.2, 1.5))  # some of them done, and others half-way
            process.kill()

        asyncio.run(_check(home))


async def _check(home: Home) -> None:
    """See that all is as it should be once another process has looked after what the killed one left."""
    async with await open_store(home.database) as store:
        page = await store.files.page("default", limit=10_000)
        assert page is not None
        digests = {row.digest for row in page[0]}
        files = open_files(home, Settings(), store)
        for digest in digests:
            assert hashlib.sha256(files.blobs.path(digest).read_bytes()).hexdigest() == digest

        await files.tidy()
        assert {digest for some in files.blobs.digests() for digest in some} == digests
        reading = asyncio.create_task(files.run(tidies=False))
        async with asyncio.timeout(60):
            while not await _all_read(store, len(page[0])):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert set(files.shelf.digests()) == digests
        for row in page[0]:
            await files.delete("default", row.id)
        assert list(files.blobs.digests()) == []
        assert files.shelf.digests() == []
        await files.close()
        assert reading.cancelled()


async def _all_read(store: Store, count: int) -> bool:
    page = await store.files.page("default", limit=10_000)
    assert page is not None
    assert len(page[0]) == count
    return all(row.status == "processed" for row in page[0])


def test_what_indexes_a_document_ends_with_its_service(tmp_path: Path) -> None:
    """Nobody wants its index any more, and the cores are wanted by the next service."""
    (tmp_path / "pages.jsonl").write_text('{"number":1,"text":"%s"}\n' % ("一段话。" * 2000) * 2000)
    program = (
        "import sys; from pathlib import Path; from hanlin.documents.indexing import index; index(Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as service:
        started = psutil.Process(service.pid)
        (indexing,) = wait_until(started.children, "the process that indexes")
        service.kill()

    wait_until(lambda: not indexing.is_running() or indexing.status() == psutil.STATUS_ZOMBIE, "its end")
    assert not (tmp_path / "index.db").exists()


def test_whatever_process_is_asked_knows_every_file(engine: FakeEngine, tmp_path: Path) -> None:
    """Uploads go to one worker, questions to another; each document is read by whoever has time."""
    row = {"name": "fake", "url": engine.base_url, "profile": "vllm"}
    with Service(tmp_path, config=toml_of(row, workers=3)) as service:
        made = []
        for number in range(6):
            with service.client() as client:  # a connection of its own
                made.append(upload(client, f"text {number}".encode(), f"{number}.txt"))

        for one in made:
            for _ in range(3):
                shown = httpx2.get(
                    f"{service.url}/v1/files/{one.id}", headers={"authorization": f"Bearer {KEY}"}, timeout=30
                )
                assert shown.json()["filename"] == one.filename
        with service.client() as client:
            assert [wait_processed(client, one.id).status for one in made] == ["processed"] * 6
            assert {one.id for one in client.files.list()} == {one.id for one in made}
            for one in made:
                client.files.delete(one.id)
        assert left(service) == []
