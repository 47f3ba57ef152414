"""Settings as command-line options: every option of `serve` comes from the table in `settings`."""

import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hanlin import settings
from hanlin.words import say

# A key on the command line can be read by every user of the machine; tables belong into the file.
_NOT_FLAGS = {"api_key", "deployment"}

Command = Callable[..., None]


def with_settings(command: Command) -> Command:
    """Give a command an option for every setting; those that were given reach it as one dictionary, `flags`."""
    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "flags"]
    extra = [_parameter(name) for name in settings.FIELDS if name not in _NOT_FLAGS]

    def run(**arguments: Any) -> None:
        flags = {parameter.name: arguments.pop(parameter.name) for parameter in extra}
        command(**arguments, flags={name: value for name, value in flags.items() if value not in (None, [])})

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *extra)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str) -> inspect.Parameter:
    field = settings.FIELDS[name]
    wanted = typing.get_type_hints(settings.Settings)[name]
    flag = f"--{name.replace('_', '-')}"
    default = field.default
    text = say(field.metadata["en"], field.metadata["zh"])
    if wanted is bool:
        declaration = flag if not default else f"{flag}/--no-{name.replace('_', '-')}"
        annotation: Any = Annotated[bool | None, typer.Option(declaration, help=text, show_default=False)]
    elif typing.get_origin(wanted) is tuple:
        annotation = Annotated[list[str] | None, typer.Option(flag, help=text, metavar="NAME", show_default=False)]
    else:
        kind = {"int": "N", "float": "SECONDS"}.get(settings.type_name(name), "TEXT")
        # The value stays text here: `settings.load` converts and checks it, for all sources alike.
        annotation = Annotated[
            str | None, typer.Option(flag, help=f"{text} [{default}]", metavar=kind, show_default=False)
        ]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
