"""What was noted of a file outlives the service that noted it, and goes with the file."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIConnectionError, OpenAI

from hanlin.testing import FakeEngine, Rule
from tests.documents import filler
from tests.service import Service, in_front_of

BOOK = "\n".join(filler(200, sentences_a_page=40)).encode()
DOCUMENT: Any = "file-extract"
NOTES = Rule(contains="以后只看笔记", text="- 各处日常维护正常（第1页）")
ANSWER = Rule(text="文件记录了各处设施的日常维护。")


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([NOTES, ANSWER]) as running:
        yield running


def service_of(engine: FakeEngine, home: Path) -> Service:
    return Service(home, config=in_front_of(engine, serves=["qwen*"]))


def uploaded(client: OpenAI, name: str = "book.txt") -> str:
    stored = client.files.create(file=(name, BOOK), purpose=DOCUMENT)
    while client.files.retrieve(stored.id).status != "processed":
        time.sleep(0.05)  # the other side is a process
    return stored.id


def asked(client: OpenAI, engine: FakeEngine, file_id: str, question: str) -> tuple[str, int]:
    """Ask about a file; return the answer, and how many times the engine was asked for it."""
    engine.forget_requests()
    messages: Any = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "system", "content": f"fileid://{file_id}"},
        {"role": "user", "content": question},
    ]
    answer = client.chat.completions.create(model="qwen-long", messages=messages)
    return answer.choices[0].message.content or "", len(engine.requests())


def noted(home: Path) -> list[Path]:
    """Return the notes on the disk; one that is being written has a dot before its name."""
    return sorted((home / "documents").glob("*/notes/[!.]*"))


def test_a_summary_asked_for_after_a_restart_reads_nothing_again(engine: FakeEngine, tmp_path: Path) -> None:
    """However it is worded, in whichever language, and by whoever has the same bytes."""
    with service_of(engine, tmp_path) as service, service.client() as client:
        file_id = uploaded(client)
        said, first = asked(client, engine, file_id, "总结这份文件")

    with service_of(engine, tmp_path) as service, service.client() as client:
        again, second = asked(client, engine, file_id, "请用五句话概括全文的主要内容")
        _, third = asked(client, engine, file_id, "What is this document about?")
        _, fourth = asked(client, engine, uploaded(client, "copy.txt"), "总结一下")

    assert said.startswith("文件记录了")
    assert again.startswith("文件记录了")
    assert first > 20
    assert (second, third, fourth) == (1, 1, 1)
    assert len(noted(tmp_path)) == first - 1


def test_notes_that_were_torn_are_made_anew_and_do_no_harm(engine: FakeEngine, tmp_path: Path) -> None:
    """A machine that lost its power leaves files that end early, or are empty."""
    with service_of(engine, tmp_path) as service, service.client() as client:
        file_id = uploaded(client)
        _, first = asked(client, engine, file_id, "总结这份文件")
        one, two, three, *_ = noted(tmp_path)
        one.write_bytes(one.read_bytes()[:-9])
        two.write_bytes(b"")
        three.write_bytes(b"\0" * 64)

        said, again = asked(client, engine, file_id, "概括这份文件")
        _, once_more = asked(client, engine, file_id, "总结这份文件")

    assert said.startswith("文件记录了")
    assert (again, once_more) == (4, 1)
    assert len(noted(tmp_path)) == first - 1


def test_a_reading_that_was_killed_goes_on_where_it_was(engine: FakeEngine, tmp_path: Path) -> None:
    """Each note is on the disk as it is made, and only whole ones are; whichever process goes on finds them."""
    engine.rules([Rule(contains="以后只看笔记", text="- 一切正常（第1页）", first_delay_s=0.2), ANSWER])
    service = service_of(engine, tmp_path)
    with service, service.client(max_retries=0) as client:
        file_id = uploaded(client)
        call = threading.Thread(target=lambda: _broken_off(client, engine, file_id))
        call.start()
        while len(noted(tmp_path)) < 4:
            time.sleep(0.01)  # the other side is a process
        service.stop(signal.SIGKILL)
        call.join()
        kept = len(noted(tmp_path))
        service.start()

        said, rest = asked(client, engine, file_id, "总结这份文件")
        parts = len(noted(tmp_path))

    assert said.startswith("文件记录了")
    assert 4 <= kept < parts
    assert rest == parts - kept + 1


def _broken_off(client: OpenAI, engine: FakeEngine, file_id: str) -> None:
    with pytest.raises(APIConnectionError):
        asked(client, engine, file_id, "总结这份文件")


def test_notes_are_deleted_with_the_last_file_that_has_the_bytes(engine: FakeEngine, tmp_path: Path) -> None:
    """Who deletes a file wants nothing of it left."""
    with service_of(engine, tmp_path) as service, service.client() as client:
        one, two = uploaded(client), uploaded(client, "copy.txt")
        _, first = asked(client, engine, one, "总结这份文件")
        client.files.delete(one)
        kept = len(noted(tmp_path))
        client.files.delete(two)

        assert kept == first - 1
        assert not list((tmp_path / "documents").glob("*/notes"))
        assert not [path for path in (tmp_path / "documents").rglob("*") if path.is_file()]
        _, again = asked(client, engine, uploaded(client), "总结这份文件")

    assert again == first
