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
        files = open_files(home, Settings(), store)
        for digest in digests:
            assert hashlib.sha256(files.blobs.path(digest).read_bytes()).hexdigest() == digest

        await files.tidy()
        assert {digest for some in files.blobs.digests() for digest in some} == digests
        reading = asyncio.create_task(files.run(tidies=False))
        async with asyncio.timeout(60):
            while not await _all_read(store, len(page[0])):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert set(files.shelf.digests()) == digests
        for row in page[0]:
            await files.delete("default", row.id)
        assert list(files.blobs.digests()) == []
        assert files.shelf.digests() == []
        files.close()


async def _all_read(store: Store, count: int) -> bool:
    page = await store.files.page("default", limit=10_000)
    assert page is not None
    assert len(page[0]) == count
    return all(row.status == "processed" for row in page[0])


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
