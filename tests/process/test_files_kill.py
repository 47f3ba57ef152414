"""Uploads and documents when processes die, and when there are several: nothing is lost, nothing is left behind."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI
from openai.types import FileObject

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import KEY, Service, in_front_of, toml_of

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
