"""Temporary keys: nobody can forge one, change one, or use it after its time or for more than the key behind it may."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hanlin.errors import InvalidApiKey, StoreFailed
from hanlin.keys import hash_key
from hanlin.service.keyring import BELIEVED_S, KNOWN_KEYS, Keyring
from hanlin.service.temporary import PREFIX, Temporary, read, sealing_key, temporary_key
from hanlin.store.rows import KeyRow, Limits

SECRET = b"secret"
SEALED_WITH = sealing_key(SECRET)
START = 1_800_000_000.0

ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
times = st.integers(0, 2**40 - 1)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


# The text


@given(ids, times)
def test_what_was_made_is_read_as_it_was_made(key_id: str, expires: int) -> None:
    """It holds all that there is to know, so that every process knows it."""
    text = temporary_key(SEALED_WITH, key_id, expires)

    assert read(SEALED_WITH, text) == Temporary(key_id, expires)
    assert text.startswith("st-")
    assert text.isascii()
    assert " " not in text


@given(st.data(), times)
def test_a_character_that_is_changed_added_or_taken_away_makes_it_nothing(data: Any, expires: int) -> None:
    """Neither its end nor its owner can be moved, and there is one way to write it."""
    text = temporary_key(SEALED_WITH, "key-0123456789abcdef", expires)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda one: one != text[place]))

    assert read(SEALED_WITH, text[:place] + other + text[place + 1 :]) is None
    assert read(SEALED_WITH, text[:place] + text[place + 1 :]) is None
    assert read(SEALED_WITH, text + other) is None


@given(st.one_of(st.text(max_size=600), st.binary(max_size=300).map(lambda noise: PREFIX + noise.hex())))
def test_noise_is_nothing(text: str) -> None:
    """Whatever comes over the wire."""
    assert read(SEALED_WITH, text) is None
    assert read(SEALED_WITH, PREFIX + text) is None


def test_a_seal_of_another_secret_is_none() -> None:
    """Only the server's secret makes them: neither another server nor a copy of the database."""
    text = temporary_key(sealing_key(b"another"), "key-1", int(START))

    assert read(SEALED_WITH, text) is None
    assert read(SEALED_WITH, temporary_key(SECRET, "key-1", int(START))) is None


def test_two_of_one_second_are_two() -> None:
    """So that whoever finds one in a log knows which it was."""
    assert temporary_key(SEALED_WITH, "key-1", 1) != temporary_key(SEALED_WITH, "key-1", 1)


# Its use


class Clock:
    """The time of day and the age of things, as a test sets them."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A database with one key."""

    def __init__(self, row: KeyRow) -> None:
        self.row: KeyRow | None = row
        self.asked = 0
        self.fails = False

    async def find(self, key_hash: str) -> KeyRow | None:
        self.asked += 1
        return self.row if self.row is not None and self.row.hash == key_hash else None

    async def find_by_id(self, key_id: str) -> KeyRow | None:
        self.asked += 1
        if self.fails:
            raise StoreFailed
        return self.row if self.row is not None and self.row.id == key_id else None


ROW = KeyRow(
    id="key-1",
    name="app",
    hash=hash_key(SECRET, "sk-parent"),
    hint="rent",
    created_at=datetime.now(UTC),
    role="owner",
    models=("qwen-*",),
    limits=Limits(rpm=5),
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(ROW)


@pytest.fixture
def keyring(shelf: Shelf, clock: Clock) -> Keyring:
    return Keyring(shelf, SECRET, clock, clock)  # type: ignore[arg-type]  # all that is asked of it


async def test_it_is_its_key_without_the_role(keyring: Keyring) -> None:
    """Permissions and limits are the same, counted for the same; nobody administers from a browser."""
    text, _ = keyring.make_temporary(ROW, 60)

    row = await keyring.authenticate(text)

    assert row == replace(ROW, role="")
    assert row.counted_as == ROW.counted_as
    assert keyring.is_temporary(text)
    assert not keyring.is_temporary("sk-parent")
    assert not keyring.is_temporary(None)


async def test_it_works_to_the_second_that_was_promised(keyring: Keyring, clock: Clock) -> None:
    """And not a moment longer."""
    text, expires = keyring.make_temporary(ROW, 60)

    assert expires == START + 60
    clock.now = START + 59.999
    assert (await keyring.authenticate(text)).id == ROW.id
    clock.now = START + 60
    with pytest.raises(InvalidApiKey, match="has expired"):
        await keyring.authenticate(text)


@given(lasting=st.integers(1, 1800), later=st.floats(0, 4000))
async def test_its_time_is_all_that_counts(lasting: int, later: float) -> None:
    """Whenever it is used, however long it was to last."""
    clock = Clock()
    keyring = Keyring(Shelf(ROW), SECRET, clock, clock)  # type: ignore[arg-type]
    text, _ = keyring.make_temporary(ROW, lasting)
    clock.now += later

    try:
        await keyring.authenticate(text)
        works = True
    except InvalidApiKey:
        works = False

    assert works == (clock.now < START + lasting)


async def test_it_ends_with_its_key_at_the_latest(keyring: Keyring) -> None:
    """What is said is what holds."""
    ending = replace(ROW, expires_at=datetime.fromtimestamp(START, UTC) + timedelta(seconds=10))

    _, expires = keyring.make_temporary(ending, 600)

    assert expires == START + 10


async def test_it_stops_when_its_key_is_revoked(keyring: Keyring, shelf: Shelf, clock: Clock) -> None:
    """Within the second that a key is believed; it cannot be stopped by itself."""
    text, _ = keyring.make_temporary(ROW, 600)
    await keyring.authenticate(text)
    shelf.row = None
    clock.now += BELIEVED_S

    with pytest.raises(InvalidApiKey):
        await keyring.authenticate(text)


async def test_the_database_is_asked_once_for_many_of_one_key(keyring: Keyring, shelf: Shelf) -> None:
    """A page that hands one to each visitor must not cost a look-up each, nor memory."""
    for _ in range(KNOWN_KEYS * 2):
        await keyring.authenticate(keyring.make_temporary(ROW, 60)[0], b"Bearer of one")

    assert shelf.asked == 1
    assert keyring.known(b"Bearer of one") is None


async def test_it_goes_on_while_the_database_is_away(keyring: Keyring, shelf: Shelf, clock: Clock) -> None:
    """As its key does."""
    text, _ = keyring.make_temporary(ROW, 600)
    await keyring.authenticate(text)
    shelf.fails = True
    clock.now += BELIEVED_S

    assert (await keyring.authenticate(text)).id == ROW.id


async def test_a_key_that_was_brought_along_may_look_like_one(shelf: Shelf, clock: Clock) -> None:
    """Users take over keys of any text."""
    brought = "st-a-key-of-my-own"
    shelf.row = replace(ROW, hash=hash_key(SECRET, brought))
    keyring = Keyring(shelf, SECRET, clock, clock)  # type: ignore[arg-type]

    assert (await keyring.authenticate(brought)).role == "owner"
