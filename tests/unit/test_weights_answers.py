"""What an HTTP answer means while a file is being fetched."""

from pathlib import Path

import pytest

from hanlin.engines.weights.download import Later, Refuse, StartOver, Take, Verdict, judge
from hanlin.engines.weights.errors import DiskFull, SourceUnreachable, mask, size

WANTED = 1000


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def verdict(status: int, have_bytes: int = 0, etag: str = "", **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return judge(status, named, have_bytes=have_bytes, wanted_bytes=WANTED, etag=etag)


def test_the_whole_file_is_taken_from_the_start() -> None:
    """Also when a part was here: a server without ranges sends everything again."""
    assert verdict(200, content_length="1000") == Take(0)
    assert verdict(200) == Take(0)
    assert verdict(200, have_bytes=400, content_length="1000") == Take(0)


def test_the_range_that_was_asked_for_goes_on_where_the_file_ends() -> None:
    """Resuming is the point of asking for a range."""
    assert verdict(206, have_bytes=400, content_range="bytes 400-999/1000") == Take(400)
    assert verdict(206, have_bytes=400, content_range="bytes 400-999/*", etag='"a"') == Take(400)


@pytest.mark.parametrize("content_range", ["bytes 401-999/1000", "bytes */1000", "nonsense", ""])
def test_another_range_than_the_one_asked_for_starts_over(content_range: str) -> None:
    """Joining it would give bytes that nobody published."""
    assert isinstance(verdict(206, have_bytes=400, content_range=content_range), StartOver)


def test_a_file_that_changed_meanwhile_starts_over() -> None:
    """Not every server honours If-Range, so its name for the version is compared here too."""
    changed = verdict(206, have_bytes=400, etag='"old"', content_range="bytes 400-999/1000") == Take(400)
    renamed = judge(
        206,
        {"content-range": "bytes 400-999/1000", "etag": '"new"'},
        have_bytes=400,
        wanted_bytes=WANTED,
        etag='"old"',
    )

    assert changed
    assert isinstance(renamed, StartOver)


def test_a_file_of_another_length_is_refused_before_it_is_fetched() -> None:
    """It cannot have the digest, so its gigabytes need not come."""
    assert isinstance(verdict(200, content_length="999"), Refuse)
    assert isinstance(verdict(206, have_bytes=400, content_range="bytes 400-998/999"), Refuse)
    assert isinstance(verdict(416, have_bytes=400, content_range="bytes */300"), Refuse)


def test_a_range_that_cannot_be_satisfied_starts_over() -> None:
    """Some servers say so when the file is merely another version."""
    assert isinstance(verdict(416, have_bytes=400, content_range="bytes */1000"), StartOver)
    assert isinstance(verdict(416, have_bytes=400), StartOver)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_errors_that_pass_are_tried_again_later(status: int) -> None:
    """A busy hub is not a hub without the file."""
    assert isinstance(verdict(status), Later)


def test_the_pause_that_a_server_asks_for_is_kept() -> None:
    """Asking sooner earns another refusal; a date instead of seconds counts as no wish."""
    assert verdict(429, retry_after="7") == Later("HTTP 429", 7.0)
    assert verdict(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT") == Later("HTTP 429", 0.0)


@pytest.mark.parametrize("status", [204, 301, 400, 401, 403, 404, 410, 416])
def test_other_statuses_are_final(status: int) -> None:
    """Asking again would give the same answer."""
    assert isinstance(verdict(status), Refuse)


def test_a_web_page_is_never_taken_for_weights() -> None:
    """Captive portals and login pages answer 200 to anything."""
    assert isinstance(verdict(200, content_type="text/html; charset=utf-8"), Refuse)
    assert isinstance(verdict(200, content_encoding="gzip", content_length="1000"), Refuse)


def test_addresses_lose_their_secrets_before_anybody_reads_them() -> None:
    """Indexes are configured with passwords in the address, and storage is reached by signed ones."""
    text = "GET https://me:hunter2@mirror.example/simple/ and https://cdn.example/f?X-Signature=abc&e=1 failed"

    assert mask(text) == "GET https://••••@mirror.example/simple/ and https://cdn.example/f?… failed"
    assert "hunter2" not in SourceUnreachable("mirror", text).message
    assert "abc" not in SourceUnreachable("mirror", text).why


def test_sizes_are_written_as_people_read_them() -> None:
    """The same figures stand on the hubs' pages."""
    assert [size(number) for number in (999, 491_400_064, 1_117_320_768, 12_345_678_901)] == [
        "999 B",
        "491 MB",
        "1.12 GB",
        "12.3 GB",
    ]


def test_errors_speak_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sentence, with the same figures, for readers of Chinese."""
    monkeypatch.setenv("HANLIN_LANG", "zh")

    message = DiskFull(Path("/home/models"), 491_400_064, 1_000_000).message

    assert message.startswith("/home/models：还需要 491 MB，可用 1 MB。")
