"""Putting the service together: the first key, the servers of `hanlin.toml`, and the embedded engine's socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanlin.engines.llama import Machine
from hanlin.errors import StartupError
from hanlin.home import Home, prepare
from hanlin.keys import hash_key
from hanlin.service import start
from hanlin.settings import Secret, Settings
from hanlin.store.database import Store, open_store
from tests.values import catalogue_of, model

SECRET = b"secret"
OURS, THEIRS = "sk-from-HANLIN_API_KEY", "sk-from-DASHSCOPE_API_KEY"


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store(tmp_path / "hanlin.db") as store:
        yield store


# --- the first key ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "variable", "taken", "source"),
    [
        (OURS, THEIRS, OURS, "HANLIN_API_KEY"),
        (OURS, None, OURS, "HANLIN_API_KEY"),
        ("", THEIRS, THEIRS, "DASHSCOPE_API_KEY"),
        ("", f"  {THEIRS}\n", THEIRS, "DASHSCOPE_API_KEY"),
    ],
)
async def test_a_key_that_the_user_has_is_taken_over_and_not_shown(
    store: Store, setting: str, variable: str | None, taken: str, source: str
) -> None:
    """Programs that export DASHSCOPE_API_KEY need no edit. Ours goes first, and only the hash is kept."""
    environment = {"DASHSCOPE_API_KEY": variable} if variable is not None else {}

    first = await start.first_key(store, SECRET, Settings(api_key=Secret(setting)), environment)

    assert first is not None
    assert (first.source, first.hint, first.shown.reveal()) == (source, taken[-4:], "")
    assert await store.keys.find(hash_key(SECRET, taken)) is not None


@pytest.mark.parametrize("environment", [{}, {"DASHSCOPE_API_KEY": ""}, {"DASHSCOPE_API_KEY": "  "}])
async def test_without_one_a_key_is_made_and_shown_this_once(store: Store, environment: dict[str, str]) -> None:
    """It works, and its text is nowhere but in the banner."""
    first = await start.first_key(store, SECRET, Settings(), environment)

    assert first is not None
    key = first.shown.reveal()
    assert (first.source, first.hint) == ("made", key[-4:])
    assert key.startswith("sk-")
    assert key not in repr(first)
    assert await store.keys.find(hash_key(SECRET, key)) is not None


async def test_a_second_start_makes_and_takes_nothing(store: Store) -> None:
    """Also when its key was revoked: a new one must not appear by itself."""
    await start.first_key(store, SECRET, Settings(), {})
    (row,) = await store.keys.all()
    await store.keys.revoke(row.id)

    assert await start.first_key(store, SECRET, Settings(api_key=Secret(OURS)), {"DASHSCOPE_API_KEY": THEIRS}) is None
    assert len(await store.keys.all()) == 1


@pytest.mark.parametrize("key", ["密钥", "sk-\x00", "x" * 513])
async def test_a_key_that_could_not_travel_stops_the_start_without_being_shown(store: Store, key: str) -> None:
    """The variable is named, its value is not."""
    with pytest.raises(StartupError, match="DASHSCOPE_API_KEY: cannot be taken as a key") as problem:
        await start.first_key(store, SECRET, Settings(), {"DASHSCOPE_API_KEY": key})

    assert key not in str(problem.value)
    assert await store.keys.all() == ()


# --- the embedded engine ---------------------------------------------------------------------------------------------


def test_without_the_embedded_engine_no_weights_are_chosen(tmp_path: Path) -> None:
    """Nothing is downloaded for a service that only stands in front of others."""
    settings = Settings(embedded=False)

    assert start.choose_weights(settings, catalogue_of(), Home(tmp_path), Machine(2**40, 2)) == []


def test_weights_are_chosen_by_the_settings_or_by_memory(tmp_path: Path) -> None:
    """In the order in which they are named; a catalogue name stands for the weights published under it."""
    catalogue = catalogue_of(model("coder", open_weights="Qwen/Qwen2.5-Coder-1.5B-Instruct"))
    named = Settings(weights=("coder", "qwen2.5-coder-0.5b-instruct"))
    home = Home(tmp_path)

    by_name = start.choose_weights(named, catalogue, home, Machine(2**40, 2))
    by_memory = start.choose_weights(Settings(), catalogue, home, Machine(2**30, 2))

    assert [choice.wanted.name for choice in by_name] == ["qwen2.5-coder-1.5b-instruct", "qwen2.5-coder-0.5b-instruct"]
    assert [choice.wanted.name for choice in by_memory] == ["qwen2.5-coder-0.5b-instruct"]


def test_a_socket_lies_in_the_home_unless_its_path_would_be_too_long(tmp_path: Path) -> None:
    """The system cuts such paths at 108 bytes; a home may lie deep."""
    short, deep = Home(Path("/tmp/home")), Home(tmp_path / ("深" * 30) / "home")

    assert start.socket(short, "0123456789ab") == Path("/tmp/home/run/0123456789ab.sock")
    elsewhere = start.socket(deep, "0123456789ab")
    assert not elsewhere.is_relative_to(deep.path)
    assert len(str(elsewhere).encode()) <= 100
    assert elsewhere.parent.stat().st_mode & 0o077 == 0
    assert start.socket(deep, "0123456789ab") == elsewhere  # folders must not pile up with the starts
    elsewhere.parent.chmod(0o755)
    with pytest.raises(StartupError, match="not ours alone"):
        start.socket(deep, "0123456789ab")
    elsewhere.parent.rmdir()


async def test_a_home_is_opened_without_deployments(tmp_path: Path) -> None:
    """They come step by step, while the port already answers."""
    home = Home(tmp_path / "home")
    prepare(home)

    studio = await start.open_studio(home, Settings())

    assert studio.deployments == ()
    assert studio.starting == "starting"
    assert studio.catalogue.find("qwen-plus") is not None
    await studio.close()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Machine(64 * 2**30, 8)),
        ({"memory.max": "max\n", "memory.current": "1\n", "cpu.max": "max 100000\n"}, Machine(64 * 2**30, 8)),
        ({"memory.max": f"{2 * 2**30}\n", "memory.current": f"{2**30}\n"}, Machine(2**30, 8)),
        ({"memory.max": "1\n", "memory.current": "2\n", "cpu.max": "150000 100000\n"}, Machine(0, 2)),
        ({"cpu.max": "1000 100000\n"}, Machine(64 * 2**30, 1)),
    ],
)
def test_a_containers_limits_are_the_machine(tmp_path: Path, files: dict[str, str], expected: Machine) -> None:
    """What the host has is of no use to a process that is killed for touching it."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert start.within_limits(Machine(64 * 2**30, 8), tmp_path) == expected
