"""Read the catalogue's TOML files and turn their rows into values, with errors that name file and row.

What a row means, and what rows must agree on, belongs to `models` and `weights`.
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

import msgspec

from hanlin.errors import StartupError
from hanlin.words import say

Value = TypeVar("Value")


def own_folder() -> Traversable:
    """The data files that come with Hanlin, wherever it is installed."""
    return resources.files("hanlin.catalogue")


def read(file: Traversable) -> dict[str, Any]:
    """Return a file's table. Raises StartupError when it cannot be read or is not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise problem(
            str(file),
            f"cannot be read ({error.strerror}). Restore the file, or install Hanlin again",
            f"无法读取（{error.strerror}）。请恢复该文件，或重新安装 Hanlin",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise problem(
            str(file), f"is not TOML: {error}. Correct that line", f"不是有效的 TOML：{error}。请更正该行"
        ) from error


def problem(place: str, en: str, zh: str) -> StartupError:
    """Make the error for something wrong at `place` (a file, or a row of it); both sentences say what to do."""
    return StartupError(say(f"{place}: {en}", f"{place}：{zh}"))


def row_place(file: Traversable, table: str, number: int, row: object) -> str:
    """Name a row as an editor would look for it: file, `[[table]]`, its number from 1, and the name it gives itself."""
    name = row.get("name") if isinstance(row, Mapping) else None
    named = f" {name!r}" if isinstance(name, str) else ""
    return f"{file}: [[{table}]] {number}{named}"


def only(table: Mapping[str, Any], allowed: tuple[str, ...], file: Traversable) -> None:
    """Refuse a file that holds anything but the `allowed` tables and values at its top."""
    for name in table:
        if name not in allowed:
            known = ", ".join(allowed)
            raise problem(
                str(file), f"unknown entry {name!r}; known are {known}", f"未知条目 {name!r}；可用的有 {known}"
            )


def rows(table: Mapping[str, Any], name: str, kind: type[Value], file: Traversable) -> list[tuple[str, Value]]:
    """Return the values of the array `[[name]]`, each with its place for later errors."""
    found = table.get(name, [])
    if not isinstance(found, list):
        raise problem(str(file), f"{name} must be written as [[{name}]] rows", f"{name} 必须写成 [[{name}]] 行")
    places = [row_place(file, name, number, row) for number, row in enumerate(found, start=1)]
    return [(place, convert(row, kind, place)) for place, row in zip(places, found, strict=True)]


def convert(value: object, kind: type[Value], place: str) -> Value:
    """Return `value` as `kind`. Raises StartupError naming the place and the field that does not fit."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise problem(place, f"{error}. Correct or remove that field", f"{error}。请更正或删除该字段") from error


__all__ = ["Value", "convert", "only", "own_folder", "problem", "read", "row_place", "rows"]
