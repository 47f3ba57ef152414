"""Fetching over HTTP from a server that fails in every way a server can, and from local files."""

import hashlib
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hanlin.engines.weights import Means, NoSource, Patience, Source, SourceUnreachable, Wanted, fetch, find, installed
from tests.faulty_server import Fault, FaultyServer, faulty_server

BODY = random.Random(7).randbytes(300_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
PATIENT = Patience(silence_s=20, attempts=4, first_wait_s=0.01, longest_wait_s=0.05)
STALLED = replace(PATIENT, silence_s=0.5)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


class Told:
    """Keeps what the user would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[tuple[int, int, str]] = []

    def means(self, patience: Patience = PATIENT) -> Means:
        return Means(patience=patience, tell=self.lines.append, progress=lambda *seen: self.progress.append(seen))


def at(*urls: str, body: bytes = BODY) -> Wanted:
    sources = tuple(Source("url", url=url) for url in urls)
    return Wanted("tiny", len(body), hashlib.sha256(body).hexdigest(), sources)


def unreachable_url() -> str:
    """Return an address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/file"


def test_a_sound_server_gives_the_file_in_one_request(server: FaultyServer, tmp_path: Path) -> None:
    """The plain case: one request, the right bytes under their digest, nothing unfinished left."""
    told = Told()

    path = fetch(at(server.serve("/file", BODY)), tmp_path, told.means())

    assert path == tmp_path / DIGEST
    assert path.read_bytes() == BODY
    assert len(server.requests) == 1
    assert told.lines == []
    assert told.progress[-1] == (len(BODY), len(BODY), "checking SHA-256")
    assert [row.source for row in installed(tmp_path)] == [f"{server.url}/file"]
    assert not list((tmp_path / "partial").glob("*/"))


def test_weights_that_are_here_are_not_asked_for_again(server: FaultyServer, tmp_path: Path) -> None:
    """The second start must take seconds, also without a network."""
    wanted = at(server.serve("/file", BODY))
    fetch(wanted, tmp_path)

    fetch(wanted, tmp_path)

    assert len(server.requests) == 1


def test_a_dropped_connection_goes_on_where_it_broke(server: FaultyServer, tmp_path: Path) -> None:
    """Gigabytes over a bad line arrive only if nothing is fetched twice."""
    url = server.serve("/file", BODY, Fault(drop_after=100_000), Fault(drop_after=150_000), etag='"v1"')

    path = fetch(at(url), tmp_path, Told().means())

    assert path.read_bytes() == BODY
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=100000-", "bytes=250000-"]
    assert [request.headers.get("if-range") for request in server.requests] == [None, '"v1"', '"v1"']
    assert server.sent_bytes("/file") == len(BODY)


def test_a_body_that_ends_too_early_without_a_length_is_completed(server: FaultyServer, tmp_path: Path) -> None:
    """Without a length, a cut body looks like a finished one."""
    url = server.serve("/file", BODY, Fault(drop_after=100_000, no_length=True))

    assert fetch(at(url), tmp_path, Told().means()).read_bytes() == BODY
    assert server.sent_bytes("/file") == len(BODY)


def test_a_stalled_connection_is_given_up_and_resumed(server: FaultyServer, tmp_path: Path) -> None:
    """An open connection without data would wait for ever."""
    url = server.serve("/file", BODY, Fault(stall_after=100_000))

    assert fetch(at(url), tmp_path, Told().means(STALLED)).read_bytes() == BODY
    assert server.sent_bytes("/file") == len(BODY)


def test_a_server_without_ranges_is_asked_for_everything_again(server: FaultyServer, tmp_path: Path) -> None:
    """Its second answer starts at the first byte and must not be appended."""
    url = server.serve("/file", BODY, Fault(drop_after=100_000), Fault(whole=True))

    assert fetch(at(url), tmp_path, Told().means()).read_bytes() == BODY


def test_a_wrong_range_is_not_joined(server: FaultyServer, tmp_path: Path) -> None:
    """A cache that answers with other bytes than were asked for is caught before the digest is."""
    url = server.serve("/file", BODY, Fault(drop_after=100_000), Fault(wrong_range=True))

    assert fetch(at(url), tmp_path, Told().means()).read_bytes() == BODY


def test_a_file_that_changed_between_two_attempts_is_fetched_anew(server: FaultyServer, tmp_path: Path) -> None:
    """Half of one version and half of another are worth nothing."""
    url = server.serve("/file", b"x" * len(BODY), Fault(drop_after=100_000), etag='"old"')
    with pytest.raises(NoSource):
        fetch(at(url), tmp_path, Told().means(replace(PATIENT, attempts=1)))

    server.serve("/file", BODY, etag='"new"')
    path = fetch(at(url), tmp_path, Told().means())

    assert path.read_bytes() == BODY
    assert server.requests[-1].headers["if-range"] == '"old"'


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: FaultyServer, tmp_path: Path, status: int) -> None:
    """Hubs refuse for moments under load."""
    url = server.serve("/file", BODY, Fault(status=status), Fault(status=status, headers={"Retry-After": "0"}))

    assert fetch(at(url), tmp_path, Told().means()).read_bytes() == BODY


def test_attempts_that_bring_nothing_come_to_an_end(server: FaultyServer, tmp_path: Path) -> None:
    """A server that drops everything must not be asked for ever, however often it takes the call."""
    url = server.serve("/file", BODY, always=Fault(drop_after=0))

    with pytest.raises(NoSource) as caught:
        fetch(at(url), tmp_path, Told().means())

    (failure,) = caught.value.failures
    assert isinstance(failure, SourceUnreachable)
    assert len(server.requests) == PATIENT.attempts


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=404), "HTTP 404"),
        (Fault(status=403), "HF_TOKEN"),
        (Fault(lie_length=1000), "1,000 bytes instead of 300,000"),
        (Fault(redirect="/file"), "redirects"),
        (Fault(redirect="ftp://127.0.0.1/file"), "ftp"),
        (Fault(status=302, headers={"Location": "/other", "X-Linked-ETag": f'"{"0" * 64}"'}), "another file"),
    ],
)
def test_a_source_without_the_file_is_left_at_once(
    server: FaultyServer, tmp_path: Path, fault: Fault, reason: str
) -> None:
    """Asking again would not help; the next source may, and one line says why it was taken."""
    told = Told()
    server.serve("/other", BODY)
    wanted = at(server.serve("/file", BODY, always=fault), server.serve("/good", BODY))

    assert fetch(wanted, tmp_path, told.means()).read_bytes() == BODY

    (line,) = told.lines
    assert f"{server.url}/file" in line
    assert reason in line
    assert "next source" in line


def test_a_source_that_cannot_be_reached_falls_through_with_one_line(server: FaultyServer, tmp_path: Path) -> None:
    """Half of the hubs cannot be reached from half of the world."""
    told, url = Told(), unreachable_url()

    path = fetch(at(url, server.serve("/file", BODY)), tmp_path, told.means())

    assert path.read_bytes() == BODY
    (line,) = told.lines
    assert line.startswith(f"{url}: cannot connect")


def test_a_corrupted_byte_is_never_installed(server: FaultyServer, tmp_path: Path) -> None:
    """The digest is what makes any mirror safe to use."""
    told = Told()
    wanted = at(server.serve("/bad", BODY, Fault(corrupt_at=123)), server.serve("/good", BODY))

    path = fetch(wanted, tmp_path, told.means())

    assert path.read_bytes() == BODY
    (line,) = told.lines
    assert "SHA-256" in line
    assert DIGEST[:12] in line
    assert server.sent_bytes("/good") == len(BODY)


def test_corrupted_bytes_leave_nothing_behind(server: FaultyServer, tmp_path: Path) -> None:
    """The next run starts from nothing, not from bytes that are known to be wrong."""
    url = server.serve("/file", BODY, Fault(corrupt_at=123))

    with pytest.raises(NoSource, match="SHA-256"):
        fetch(at(url), tmp_path, Told().means())
    assert find(tmp_path, DIGEST) is None
    assert not list(tmp_path.rglob("data"))

    assert fetch(at(url), tmp_path, Told().means()).read_bytes() == BODY


def test_another_source_goes_on_where_the_first_one_stopped(server: FaultyServer, tmp_path: Path) -> None:
    """The bytes are the same everywhere, so what came from a source that broke is not fetched again."""
    wanted = at(
        server.serve("/breaks", BODY, Fault(drop_after=200_000), always=Fault(status=503)), server.serve("/good", BODY)
    )

    assert fetch(wanted, tmp_path, Told().means()).read_bytes() == BODY
    assert server.sent_bytes("/good") == 100_000


def test_a_good_source_is_not_blamed_for_what_another_one_corrupted(server: FaultyServer, tmp_path: Path) -> None:
    """Otherwise a mirror that corrupts and breaks off would spoil every source after it."""
    told = Told()
    wanted = at(
        server.serve("/bad", BODY, Fault(corrupt_at=5, drop_after=200_000), always=Fault(status=503)),
        server.serve("/good", BODY),
    )

    assert fetch(wanted, tmp_path, told.means()).read_bytes() == BODY
    assert [request.headers.get("range") for request in server.asked("/good")] == ["bytes=200000-", None]
    assert "starting over" in told.lines[-1]


def test_more_than_the_file_is_never_taken(server: FaultyServer, tmp_path: Path) -> None:
    """A server that does not stop must not fill the disk."""
    told = Told()
    endless = server.serve("/endless", BODY * 3, always=Fault(no_length=True))

    path = fetch(at(endless, server.serve("/good", BODY)), tmp_path, told.means())

    assert path.read_bytes() == BODY
    assert "300,000" in told.lines[0]


def test_when_every_source_failed_the_error_lists_them_all(server: FaultyServer, tmp_path: Path) -> None:
    """The reader needs each reason once, and what to do."""
    url = unreachable_url()
    told = Told()

    with pytest.raises(NoSource) as caught:
        fetch(at(server.serve("/gone", BODY, always=Fault(status=410)), url), tmp_path, told.means())

    assert "HTTP 410" in caught.value.message
    assert url in caught.value.message
    assert "run the same command again" in caught.value.message
    assert len(told.lines) == 1


def test_secrets_of_an_address_are_not_shown(server: FaultyServer, tmp_path: Path) -> None:
    """Mirrors are configured with passwords, storage is reached by signed addresses."""
    told = Told()
    secret = server.serve("/file?signature=hush", BODY, always=Fault(status=404)).replace("//", "//me:hunter2@")

    with pytest.raises(NoSource) as caught:
        fetch(at(secret, secret), tmp_path, told.means())

    shown = "\n".join([caught.value.message, *told.lines])
    assert "hunter2" not in shown
    assert "hush" not in shown


def test_damaged_weights_on_the_disk_are_fetched_anew(server: FaultyServer, tmp_path: Path) -> None:
    """A disk that lost a sector is repaired by running the same command."""
    told = Told()
    wanted = at(server.serve("/file", BODY))
    fetch(wanted, tmp_path)
    (tmp_path / DIGEST).write_bytes(BODY[:-1] + b"?")

    assert fetch(wanted, tmp_path, told.means()).read_bytes() == BODY
    assert "damaged" in told.lines[0]
    assert len(server.requests) == 2


def test_a_complete_file_that_was_not_yet_named_is_not_fetched_again(server: FaultyServer, tmp_path: Path) -> None:
    """A kill between the last byte and the rename must not cost the download."""
    unfinished = tmp_path / "partial" / DIGEST / "data"
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(BODY)

    assert fetch(at(server.serve("/file", BODY)), tmp_path).read_bytes() == BODY
    assert server.requests == []


def test_a_cancelled_fetch_keeps_what_it_has(server: FaultyServer, tmp_path: Path) -> None:
    """Ctrl-C on a long download is for continuing later."""
    url = server.serve("/file", BODY)

    def cancel(done_bytes: int, total_bytes: int, text: str) -> None:
        if done_bytes > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(at(url), tmp_path, Means(patience=PATIENT, progress=cancel))

    kept_bytes = (tmp_path / "partial" / DIGEST / "data").stat().st_size
    assert kept_bytes > 100_000
    assert fetch(at(url), tmp_path, Told().means()).read_bytes() == BODY
    assert server.requests[-1].headers["range"] == f"bytes={kept_bytes}-"


def test_a_local_file_is_copied_and_checked(tmp_path: Path) -> None:
    """An air-gapped machine gets its weights on a stick; the digest is checked all the same."""
    told = Told()
    good, bad, short = tmp_path / "good", tmp_path / "bad", tmp_path / "short"
    good.write_bytes(BODY)
    bad.write_bytes(BODY[:-1] + b"?")
    short.write_bytes(BODY[:-1])
    paths = (tmp_path / "missing", short, bad, good)
    wanted = Wanted("tiny", len(BODY), DIGEST, tuple(Source("file", path=str(path)) for path in paths))

    path = fetch(wanted, tmp_path / "models", told.means())

    assert path.read_bytes() == BODY
    assert good.read_bytes() == BODY
    assert [line.partition(":")[0] for line in told.lines] == [str(path) for path in paths[:3]]


def test_the_pause_between_attempts_is_bounded(server: FaultyServer, tmp_path: Path) -> None:
    """A server that asks for an hour of patience is left for the next source instead."""
    url = server.serve("/file", BODY, Fault(status=503, headers={"Retry-After": "3600"}))
    begun = time.monotonic()

    fetch(at(url), tmp_path, Told().means())

    assert time.monotonic() - begun < 60
