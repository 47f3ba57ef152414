"""Where a service keeps what it may share, by its settings, and what is said of settings that do not fit."""

import sys
from pathlib import Path

import pytest

from hanlin.errors import StartupError
from hanlin.home import Home, prepare
from hanlin.metering.limits import Pace
from hanlin.metering.memory import MemoryStore
from hanlin.metering.outage import SharedStore
from hanlin.service.backends import database_of, open_limits, pace_of, secret_of
from hanlin.settings import Secret, Settings
from hanlin.store.database import open_store
from tests.metering import LACKS

SECRET = bytes(range(32))


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    prepare(home)
    return home


def test_the_database_is_a_file_of_the_home_unless_an_address_is_given(home: Home) -> None:
    """A laptop needs no server; a cluster needs one."""
    assert database_of(home, Settings()) == home.database
    assert database_of(home, Settings(database=Secret("postgresql://db/hanlin"))) == "postgresql://db/hanlin"


def test_the_secret_is_the_settings_or_the_homes(home: Home) -> None:
    """The homes of services that share a database have nothing else in common."""
    assert secret_of(home, Settings(secret=Secret(f" {SECRET.hex().upper()}\n"))) == SECRET
    assert not home.secret_file.exists()

    assert secret_of(home, Settings()) == home.secret_file.read_bytes()


@pytest.mark.parametrize("text", ["geheim", SECRET.hex()[:-2], SECRET.hex() + "00", SECRET.hex()[:-1] + "g"])
def test_a_secret_that_is_none_stops_the_start_and_is_not_shown(home: Home, text: str) -> None:
    """A short one could be guessed, and a slip of the pen would lock every key out."""
    with pytest.raises(StartupError, match=r"HANLIN_SECRET\): 64 hex digits are wanted, as `openssl rand") as refusal:
        secret_of(home, Settings(secret=Secret(text)))

    assert text not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "pace"),
    [
        (Settings(), Pace(60.0, None)),
        (Settings(limit_pace="second"), Pace(1.0, None)),
        (Settings(limit_burst=3), Pace(60.0, 3)),
    ],
)
async def test_the_pace_of_limits_is_the_operators_to_choose(settings: Settings, pace: Pace) -> None:
    """The vendor enforces a sixtieth of a minute's limit within a second."""
    assert pace_of(settings) == pace
    limits = await open_limits(settings, SECRET)
    assert isinstance(limits, MemoryStore)
    assert limits.pace == pace


@pytest.mark.skipif(bool(LACKS), reason=f"missing here: {LACKS}")
@pytest.mark.parametrize(
    "address",
    [
        "geheim",
        "http://localhost",
        "redis://hanlin:ge/heim@localhost",
        "redis://localhost:geheim",
        "redis://localhost?geheim=1",
    ],
)
async def test_an_address_of_redis_that_is_none_stops_the_start_and_is_not_shown(address: str) -> None:
    """It may hold a password, and half of one is too much for a log."""
    with pytest.raises(StartupError, match=r"the address of Redis is not one\. Give redis://") as refusal:
        await open_limits(Settings(redis=Secret(address)), SECRET)

    assert "heim" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.skipif(bool(LACKS), reason=f"missing here: {LACKS}")
@pytest.mark.parametrize(("policy", "words"), [("closed", "are refused"), ("open", "is divided by 3")])
async def test_a_redis_that_is_away_is_told_of_and_no_reason_not_to_start(
    policy: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be started later; until then the policy holds."""
    settings = Settings(redis=Secret("redis://:geheim@127.0.0.1:1"), redis_policy=policy, redis_services=3)  # type: ignore[arg-type]

    limits = await open_limits(settings, SECRET)

    assert isinstance(limits, SharedStore)
    assert limits.standing().away_since is not None
    assert words in caplog.messages[-1]
    assert "geheim" not in caplog.text
    await limits.close()


@pytest.mark.parametrize(("module", "extra"), [("redis.asyncio.connection", "redis"), ("asyncpg", "postgres")])
async def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most services need neither."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(StartupError, match=rf"pip install 'hanlin\[{extra}\]'"):
        await (
            open_limits(Settings(redis=Secret("redis://localhost")), SECRET)
            if extra == "redis"
            else open_store("postgresql://localhost/hanlin")
        )
