"""Where the `hanlin` command begins.

A service runs for weeks, and would keep in memory what only reads command lines: Typer and what it is made of, 9 MB of
a gateway's 120. So a plain `hanlin serve` is read here, and everything else by Typer: other commands, help, and
whatever is not understood, because Typer says best what is wrong with it.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from hanlin.cli import serve, show
from hanlin.engines.weights import WeightsError
from hanlin.errors import HanlinError, StartupError
from hanlin.home import Home
from hanlin.settings import FLAGS, FlagKind, default_home, flag_of

_ACTIONS: Mapping[FlagKind, Any] = {
    "store": "store",
    "append": "append",
    "switch": "store_true",
    "either": argparse.BooleanOptionalAction,
}


class Order(NamedTuple):
    """What a plain `hanlin serve` asks for, as `serve.run` takes it."""

    home: Home
    config: Path | None
    flags: dict[str, Any]


class _NotPlainError(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise _NotPlainError(message)


def plain(arguments: Sequence[str]) -> Order | None:
    """Return what a command line orders that is a plain `hanlin serve`, None for any other."""
    if not arguments or arguments[0] != "serve":
        return None
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--config", type=Path, default=os.environ.get("HANLIN_CONFIG") or None)
    for name, kind in FLAGS.items():
        parser.add_argument(flag_of(name), dest=name, default=None, action=_ACTIONS[kind])
    try:
        given = vars(parser.parse_args(arguments[1:]))
    except _NotPlainError:
        return None
    home, config = given.pop("home"), given.pop("config")
    return Order(Home(home or default_home()), config, {name: one for name, one in given.items() if one is not None})


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows few characters gets question marks, not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        order = plain(sys.argv[1:])
        if order is None:
            sys.exit(import_module("hanlin.cli.main").command())
        serve.run(*order)
    except (show.Failed, StartupError, WeightsError, HanlinError) as error:
        show.fail(error)
        sys.exit(2 if isinstance(error, show.Misused) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
