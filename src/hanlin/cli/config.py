"""`hanlin config`: the settings in force and where each comes from, secrets masked."""

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hanlin.cli import show
from hanlin.cli.options import ConfigOption, HomeOption, JsonOption, home_of
from hanlin.cli.prose import Prose
from hanlin.settings import FIELDS, VARIABLE, Effective, config_file, is_secret, load, type_name
from hanlin.words import say

_KEY_WORDS = ("key", "token", "secret", "password")


def config(home: HomeOption = None, file: ConfigOption = None, as_json: JsonOption = False) -> None:
    place = home_of(home)
    found = config_file(place.config_file, file)
    rows = described(load(found))
    if as_json:
        show.data({"home": str(place.path), "file": str(found) if found else None, "settings": rows})
        return
    show.page(view(str(place.path), str(found or ""), rows))


def described(effective: Effective) -> list[dict[str, Any]]:
    """Return a row for every setting: name, type, value (a secret's is masked), origin, and its sentence."""
    return [
        {
            "name": name,
            "type": type_name(name),
            "value": _value(name, getattr(effective.settings, name)),
            "origin": effective.origin[name],
            "meaning": say(field.metadata["en"], field.metadata["zh"]),
        }
        for name, field in FIELDS.items()
    ]


def _value(name: str, value: Any) -> Any:
    if is_secret(name):
        return "••••" if value else ""
    shown = msgspec.to_builtins(value)
    return [_without_keys(row) for row in shown] if name == "deployment" else shown


def _without_keys(row: dict[str, Any]) -> dict[str, Any]:
    """Return a deployment without what stands where a key may have been put, though none belongs there."""
    scheme, mark, place = row["url"].partition("://")
    address, ask, _ = place.rpartition("@")[2].partition("?")
    hidden = "••••@" if "@" in place else ""
    arguments = row["arguments"]
    return {
        **row,
        "url": f"{scheme}{mark}{hidden}{address}{ask}{'••••' if ask else ''}",
        "key_env": row["key_env"] if VARIABLE.fullmatch(row["key_env"]) else "••••" if row["key_env"] else "",
        "arguments": [
            _argument(before, argument) for before, argument in zip(("", *arguments), arguments, strict=False)
        ],
    }


def _argument(before: str, argument: str) -> str:
    """Return an argument as it may be shown, by the one before it."""
    if any(word in before for word in _KEY_WORDS) and not argument.startswith("-"):
        return "••••"
    option, is_set, _ = argument.partition("=")
    return f"{option}=••••" if is_set and any(word in option for word in _KEY_WORDS) else argument


def view(home: str, file: str, rows: list[dict[str, Any]]) -> RenderableType:
    """Return the page: where settings come from, then each with its sentence; what was changed stands out."""
    places = Table.grid(padding=(0, 2))
    places.add_column(style="bold")
    places.add_column(overflow="fold")
    places.add_row(say("home", "主目录"), Text(home))
    places.add_row(
        say("file", "文件"),
        Text(file or say("none (hanlin.toml of the home, or --config)", "无（主目录的 hanlin.toml，或 --config）")),
    )
    settings = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    settings.add_column(say("name", "名称"), no_wrap=True)
    settings.add_column(say("value", "值"), overflow="fold")
    settings.add_column(say("from", "来源"), overflow="fold")
    settings.add_column(say("meaning", "含义"), overflow="fold", style="dim")
    for row in rows:
        changed = row["origin"] != "default"
        settings.add_row(
            Text(row["name"], "bold cyan" if changed else ""),
            Text(_shown(row["value"])),
            Text(_origin(row["origin"], file), "" if changed else "dim"),
            Prose(row["meaning"]),
        )
    return Group(places, Text(""), settings)


def _origin(origin: str, file: str) -> str:
    if origin == "default":
        return say("default", "默认")
    return say("file", "文件") if origin == file else origin


def _shown(value: Any) -> str:
    match value:
        case str():
            return value
        case tuple() | list():
            return "\n".join(_row(item) if isinstance(item, dict) else item for item in value)
        case _:
            return msgspec.json.encode(value).decode()


def _row(item: dict[str, Any]) -> str:
    """Return a table of the file as a line: a deployment by what runs it, a route by its names, else what it says."""
    if "names" in item and "deployments" in item:
        return f"{', '.join(item['names'])}: {', '.join((*item['deployments'], *item['fallbacks']))}"
    if "serves" in item:
        return f"{item['name']}: {item['url'] or item['upstream'] or item['engine'] + ' ' + item['weights']}"
    said = {name: value for name, value in item.items() if value not in (None, "", (), [], {})}
    return msgspec.json.encode(said).decode()


__all__ = ["config", "described", "view"]
