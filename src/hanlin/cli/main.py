"""The `hanlin` command."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hanlin import __version__
from hanlin.cli import serve as serving
from hanlin.cli import show
from hanlin.cli.options import with_settings
from hanlin.engines.weights import WeightsError
from hanlin.errors import StartupError
from hanlin.home import Home
from hanlin.settings import default_home
from hanlin.words import say

TEACHING = say(
    "翰林 Hanlin: your own Model Studio. Start with `hanlin serve`.",
    "翰林 Hanlin：你自己的百炼。从 `hanlin serve` 开始。",
)

app = typer.Typer(
    name="hanlin",
    help=TEACHING,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help=say("Folder of all state [~/.hanlin].", "状态目录 [~/.hanlin]。")),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help=say("Settings file [HOME/hanlin.toml].", "设置文件 [HOME/hanlin.toml]。")
    ),
]


def _version(asked: bool) -> None:
    if asked:
        show.out.print(f"hanlin {__version__}")
        raise typer.Exit


@app.callback(help=TEACHING)
def hanlin(
    _version_asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help=say("Show the version.", "显示版本。"))
    ] = False,
) -> None:
    pass


def home_of(given: Path | None) -> Home:
    """Return the home that a command works on."""
    return Home(given or default_home())


@app.command(help=say("Start the service.", "启动服务。"))
@with_settings
def serve(home: HomeOption = None, config: ConfigOption = None, flags: dict[str, Any] | None = None) -> None:
    serving.run(home_of(home), config, flags or {})


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except (StartupError, WeightsError) as error:
        show.fail(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
