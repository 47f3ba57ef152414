"""How the `hanlin` command begins: a plain `hanlin serve` is read without Typer, and says the same as with it."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from hanlin.cli.entry import Order, plain
from hanlin.cli.main import command
from hanlin.home import Home
from hanlin.settings import FLAGS, FlagKind, default_home, flag_of


def by_typer(*arguments: str) -> Order:
    """Return what Typer would have had the service started with."""
    started: list[Order] = []

    def run(home: Home, config: Path | None, flags: dict[str, Any]) -> None:
        started.append(Order(home, config, flags))

    with mock.patch("hanlin.cli.main.serving.run", run), mock.patch.object(sys, "argv", ["hanlin", *arguments]):
        assert command() == 0
    return started[0]


@pytest.mark.parametrize("name", FLAGS)
def test_every_setting_is_read_as_typer_reads_it(name: str) -> None:
    """There is one command, whoever reads it."""
    flag = flag_of(name)
    ways: dict[FlagKind, list[tuple[str, ...]]] = {
        "switch": [(flag,)],
        "either": [(flag,), (f"--no-{flag.removeprefix('--')}",)],
        "append": [(flag, "a"), (flag, "a", f"{flag}=b")],
        "store": [(flag, "9"), (f"{flag}=9",), (flag, "9", flag, "10")],
    }
    for way in ways[FLAGS[name]]:
        read = plain(("serve", *way))

        assert read is not None
        assert read == by_typer("serve", *way)
        assert set(read.flags) == {name}


@pytest.mark.parametrize(
    "arguments",
    [("serve",), ("serve", "--home", "somewhere"), ("serve", "--config", "of.toml", "--small", "--home=somewhere")],
)
def test_the_places_are_read_as_typer_reads_them(arguments: tuple[str, ...]) -> None:
    """With their defaults."""
    assert plain(arguments) == by_typer(*arguments)


def test_a_settings_file_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in every other command."""
    monkeypatch.setenv("HANLIN_CONFIG", "/etc/hanlin.toml")

    assert plain(("serve",)) == by_typer("serve") == Order(Home(default_home()), Path("/etc/hanlin.toml"), {})


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--version",),
        ("chat", "你好"),
        ("serve", "--help"),
        ("serve", "-h"),
        ("serve", "--por", "1"),
        ("serve", "--port"),
        ("serve", "--small=yes"),
        ("serve", "--redis", "redis://secret"),
        ("serve", "more"),
        ("--home", "somewhere", "serve"),
    ],
)
def test_whatever_needs_an_explanation_is_left_to_typer(arguments: tuple[str, ...]) -> None:
    """It has the help pages, and the words for mistakes."""
    assert plain(arguments) is None


def test_a_service_keeps_no_reader_of_command_lines_in_memory() -> None:
    """It runs for weeks, and they were 9 MB of a gateway's 120."""
    program = "import sys, hanlin.cli.entry; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"typer", "pydantic", "hanlin.cli.main"} & set(loaded)
