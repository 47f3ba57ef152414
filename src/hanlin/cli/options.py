"""Options that several commands share; those of `serve` come from the table in `settings`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hanlin import settings
from hanlin.home import Home
from hanlin.settings import Effective, config_file, default_home, load
from hanlin.words import say

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help=say("Folder of all state [$HANLIN_HOME, ~/.hanlin].", "状态目录 [$HANLIN_HOME，~/.hanlin]。"),
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="HANLIN_CONFIG",
        help=say(
            "Settings file [$HANLIN_CONFIG, hanlin.toml of the home].",
            "设置文件 [$HANLIN_CONFIG，主目录的 hanlin.toml]。",
        ),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help=say("Print JSON, for scripts.", "输出 JSON，便于脚本使用。"))]
CsvOption = Annotated[bool, typer.Option("--csv", help=say("Print CSV.", "输出 CSV。"))]
KeyVariableOption = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        help=say(
            "Variable that holds the key [HANLIN_API_KEY, DASHSCOPE_API_KEY].",
            "存放密钥的环境变量 [HANLIN_API_KEY，DASHSCOPE_API_KEY]。",
        ),
    ),
]
SystemOption = Annotated[str, typer.Option("--system", "-s", metavar="TEXT", help=say("System message.", "系统消息。"))]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        *("--base-url", "--url"),
        metavar="URL",
        help=say("Another service, up to /v1.", "其他服务的地址，到 /v1 为止。"),
    ),
]


def model_option(who: str, default: str) -> Any:
    """Return the option that names a model; `who` says what for, and the default is shown behind it."""
    return typer.Option("--model", "-m", metavar="NAME", help=f"{who.rstrip('.。')} [{default}]{who[-1]}")


def home_of(given: Path | None) -> Home:
    """Return the home that a command works on."""
    return Home(given or default_home())


def effective(home: Home, config: Path | None) -> Effective:
    """Return the settings that `serve` would start with. Raises StartupError."""
    return load(config_file(home.config_file, config))


Command = Callable[..., None]


def with_settings(command: Command) -> Command:
    """Give a command an option for every setting; those that were given reach it as one dictionary, `flags`."""
    options = [_parameter(name) for name in settings.FLAGS]

    def given(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value not in (None, [])}

    return with_options(command, "flags", options, given)


def with_options(
    command: Command,
    argument: str,
    options: Sequence[inspect.Parameter],
    read: Callable[[Mapping[str, Any]], Any],
    *,
    first: bool = False,
) -> Command:
    """Give a command further options; what `read` makes of their values reaches it as one argument.

    They stand behind its own in the help page, or before them.
    """
    own = [one for name, one in inspect.signature(command).parameters.items() if name != argument]

    def run(**arguments: Any) -> None:
        values = {option.name: arguments.pop(option.name) for option in options}
        command(**arguments, **{argument: read(values)})

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    all_of_them = (*options, *own) if first else (*own, *options)
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in all_of_them]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameter(name: str) -> inspect.Parameter:
    field, kind = settings.FIELDS[name], settings.FLAGS[name]
    flag = settings.flag_of(name)
    text = say(field.metadata["en"], field.metadata["zh"])
    if kind in ("switch", "either"):
        declaration = flag if kind == "switch" else f"{flag}/--no-{flag.removeprefix('--')}"
        annotation: Any = Annotated[bool | None, typer.Option(declaration, help=text, show_default=False)]
    elif kind == "append":
        annotation = Annotated[list[str] | None, typer.Option(flag, help=text, metavar="NAME", show_default=False)]
    else:
        unit = {"int": "N", "float": "SECONDS"}.get(settings.type_name(name), "TEXT")
        # The value stays text here: `settings.load` converts and checks it, for all sources alike.
        annotation = Annotated[
            str | None, typer.Option(flag, help=f"{text} [{field.default}]", metavar=unit, show_default=False)
        ]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
