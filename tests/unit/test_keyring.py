"""Whose key a call brings: who is believed, for how long, and what a silent database changes."""

import asyncio
from datetime import UTC, datetime

import pytest

from hanlin.errors import InvalidApiKey, StoreFailed
from hanlin.keys import hash_key
from hanlin.service import keyring as keyring_module
from hanlin.service.keyring import BELIEVED_S, KNOWN_KEYS, RENEWED_S, Keyring
from hanlin.store.rows import KeyRow

KEY = "sk-a-key-of-this-test"
SECRET = b"secret"
HEADER = b"Bearer " + KEY.encode()


def row_of(key: str, name: str = "test") -> KeyRow:
    return KeyRow(id=f"key-{name}", name=name, hash=hash_key(SECRET, key), hint="test", created_at=datetime.now(UTC))


class Shelf:
    """The keys of a database that can be slow or fail."""

    def __init__(self, *rows: KeyRow) -> None:
        self.rows = {row.hash: row for row in rows}
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.fails = False

    async def find(self, key_hash: str) -> KeyRow | None:
        self.asked += 1
        await self.answers.wait()
        if self.fails:
            raise StoreFailed
        return self.rows.get(key_hash)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(row_of(KEY))


@pytest.fixture
def keyring(shelf: Shelf, clock: Clock) -> Keyring:
    return Keyring(shelf, SECRET, clock)  # type: ignore[arg-type]  # all that is asked of it


async def settled() -> None:
    """Let what was begun beside come to its end."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_stored_key_is_its_owners(keyring: Keyring) -> None:
    """What a call is counted for later is the row, not the text."""
    assert (await keyring.authenticate(KEY)).name == "test"


@pytest.mark.parametrize("key", [None, ""])
async def test_a_call_without_a_key_is_told_which_line_is_missing(keyring: Keyring, key: str | None) -> None:
    """The vendor's words first, because clients match on them; then the command to run."""
    with pytest.raises(InvalidApiKey) as problem:
        await keyring.authenticate(key)

    assert problem.value.message.startswith(
        "Incorrect API key provided. No key was sent: run `export DASHSCOPE_API_KEY="
    )


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk-somebody-elses", "…lses is not"),
        ("short", "The key that was sent is not"),
        ("\udcff" * 9, "The key that was sent is not"),
    ],
)
async def test_a_wrong_key_is_refused_without_being_repeated(keyring: Keyring, key: str, shown: str) -> None:
    """Four characters tell a person which of their keys it was; the whole text would end up in logs."""
    with pytest.raises(InvalidApiKey) as problem:
        await keyring.authenticate(key)

    assert shown in problem.value.message
    assert key not in problem.value.message


async def test_a_key_of_another_secret_is_none_of_ours(shelf: Shelf) -> None:
    """A copied database is worth nothing without its server's secret."""
    with pytest.raises(InvalidApiKey):
        await Keyring(shelf, b"another").authenticate(KEY)  # type: ignore[arg-type]


async def test_an_answer_of_the_database_is_believed_for_a_while(keyring: Keyring, shelf: Shelf, clock: Clock) -> None:
    """Thousands of calls a second must not each ask the database."""
    row = await keyring.authenticate(KEY, HEADER)
    shelf.rows.clear()
    clock.now += RENEWED_S / 2

    assert keyring.known(HEADER) == row
    assert await keyring.authenticate(KEY) == row
    assert shelf.asked == 1


async def test_a_key_that_was_revoked_elsewhere_stops_working_soon(
    keyring: Keyring, shelf: Shelf, clock: Clock
) -> None:
    """Another process may revoke it, and the operator expects it to be over."""
    await keyring.authenticate(KEY, HEADER)
    shelf.rows.clear()
    clock.now += BELIEVED_S

    assert keyring.known(HEADER) is None
    with pytest.raises(InvalidApiKey):
        await keyring.authenticate(KEY, HEADER)


async def test_a_key_that_rested_is_not_believed_while_it_is_looked_up(
    keyring: Keyring, shelf: Shelf, clock: Clock
) -> None:
    """It may have been revoked an hour ago: all of a burst of calls wait for the answer, not only the first."""
    await keyring.authenticate(KEY, HEADER)
    shelf.rows.clear()
    shelf.answers.clear()
    clock.now += 3600

    asking = [asyncio.create_task(keyring.authenticate(KEY, HEADER)) for _ in range(3)]
    await settled()

    assert keyring.known(HEADER) is None
    shelf.answers.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in found] == [InvalidApiKey] * 3


async def test_a_key_in_use_is_believed_for_as_long_as_the_database_hangs(
    keyring: Keyring, shelf: Shelf, clock: Clock
) -> None:
    """Its renewal began in time, and calls must not wait for a database."""
    row = await keyring.authenticate(KEY, HEADER)
    shelf.answers.clear()
    clock.now += RENEWED_S
    assert keyring.known(HEADER) == row

    clock.now += 60

    assert keyring.known(HEADER) == row
    shelf.answers.set()
    await settled()


def test_soon_is_a_second() -> None:
    """Longer, and a revoked key would be a danger; shorter, and it would save nothing."""
    assert BELIEVED_S == 1.0


async def test_a_key_in_use_is_asked_after_beside_its_calls(keyring: Keyring, shelf: Shelf, clock: Clock) -> None:
    """Nobody waits for the database once a second, and it is asked once, not by every call of that moment."""
    await keyring.authenticate(KEY, HEADER)
    clock.now += RENEWED_S

    assert all(keyring.known(HEADER) is not None for _ in range(50))
    await settled()

    assert shelf.asked == 2
    clock.now += RENEWED_S
    assert keyring.known(HEADER) is not None, "it was seen again half a second ago"


async def test_a_renewal_that_finds_the_key_revoked_ends_it_at_once(
    keyring: Keyring, shelf: Shelf, clock: Clock
) -> None:
    """Its second is not over yet, but now it is known."""
    await keyring.authenticate(KEY, HEADER)
    shelf.rows.clear()
    clock.now += RENEWED_S

    keyring.known(HEADER)
    await settled()

    assert keyring.known(HEADER) is None


async def test_calls_at_the_same_moment_share_a_look_up(keyring: Keyring, shelf: Shelf) -> None:
    """A program that starts with a hundred calls asks the database once."""
    rows = await asyncio.gather(*(keyring.authenticate(KEY) for _ in range(100)))

    assert {row.name for row in rows} == {"test"}
    assert shelf.asked == 1


async def test_a_new_key_is_not_kept_out_by_an_older_no(keyring: Keyring, shelf: Shelf) -> None:
    """A wrong key that is then created works at once."""
    with pytest.raises(InvalidApiKey):
        await keyring.authenticate("sk-the-next-one")

    new = row_of("sk-the-next-one", "new")
    shelf.rows[new.hash] = new

    assert await keyring.authenticate("sk-the-next-one") == new


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_known_keys_work_while_the_database_does_not(
    keyring: Keyring, shelf: Shelf, clock: Clock, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is being restarted must not end everybody's calls; an unknown key has to wait for it."""
    monkeypatch.setattr(keyring_module, "ANSWER_S", 0.01)
    row = await keyring.authenticate(KEY, HEADER)
    shelf.fails = how == "fails"
    if how == "hangs":
        shelf.answers.clear()
    clock.now += 60

    assert await keyring.authenticate(KEY, HEADER) == row

    shelf.fails = True
    shelf.answers.set()
    with pytest.raises(StoreFailed):
        await keyring.authenticate("sk-unknown")
    await keyring.close()


async def test_a_database_that_refuses_is_not_asked_by_every_call(
    keyring: Keyring, shelf: Shelf, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand calls a second would be a thousand connections that fail, and as many lines in the log."""
    row = await keyring.authenticate(KEY, HEADER)
    shelf.fails = True
    clock.now += 60

    assert await keyring.authenticate(KEY, HEADER) == row
    asked = shelf.asked
    for _ in range(50):
        assert keyring.known(HEADER) == row
        assert await keyring.authenticate(KEY, HEADER) == row
    assert shelf.asked == asked

    clock.now += BELIEVED_S
    assert keyring.known(HEADER) is None
    assert await keyring.authenticate(KEY, HEADER) == row
    assert shelf.asked == asked + 1
    assert len([line for line in caplog.messages if "goes on" in line]) == 1

    shelf.fails = False
    shelf.rows.clear()
    clock.now += BELIEVED_S
    with pytest.raises(InvalidApiKey):
        await keyring.authenticate(KEY, HEADER)


async def test_keys_do_not_fill_the_memory(shelf: Shelf, clock: Clock) -> None:
    """Those that work are remembered, never more of them than there is room for; guesses are not."""
    keyring = Keyring(shelf, SECRET, clock)  # type: ignore[arg-type]
    for number in range(KNOWN_KEYS + 10):
        row = row_of(f"sk-{number}", str(number))
        shelf.rows[row.hash] = row
        await keyring.authenticate(f"sk-{number}", f"Bearer sk-{number}".encode())
    with pytest.raises(InvalidApiKey):
        await keyring.authenticate("sk-guess", b"Bearer sk-guess")

    assert len(keyring._known) == 10
    assert len(keyring._by_header) == 10
