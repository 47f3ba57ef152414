"""Rows as CSV that a spreadsheet can open without harm. Values in, text out."""

import csv
import io
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hanlin.service.administration.values import AuditPage, CallPage, KeyPage, ModelLimitsPage, Word, WorkspacePage
from hanlin.service.administration.views import Names, usage_row
from hanlin.store.rows import Total
from hanlin.types import Usage

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def head_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the columns of rows of a type. A field of several parts has a column for each of them."""
    names: list[str] = []
    for field in msgspec.structs.fields(kind):
        inner = _plain(field.type)
        parts = msgspec.structs.fields(inner) if _is_struct(inner) else ()
        names += [f"{field.name}_{part.name}" for part in parts] or [field.name]
    return tuple(names)


def page_head(page: CallPage | KeyPage | WorkspacePage | AuditPage | ModelLimitsPage) -> tuple[str, ...]:
    """Return the names of the columns of a page's rows, also where there are none."""
    rows = typing.get_type_hints(type(page))["data"]
    return head_of(typing.get_args(rows)[0])


def usage_head(by: Iterable[Word]) -> tuple[str, ...]:
    """Return the names of the columns that totals have, also where there are none."""
    nothing = Total(
        day=None,
        key_id="",
        workspace_id="",
        currency="",
        calls=0,
        failed=0,
        estimated=0,
        usage=Usage(),
        cache_created=0,
        cost_nanos=0,
        list_cost_nanos=0,
    )
    return tuple(msgspec.to_builtins(usage_row(nothing, by, Names())))


def table(rows: Iterable[msgspec.Struct], columns: Sequence[str], *, head: bool = True) -> str:
    """Return rows as CSV, with their head unless they go on where others ended."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if head:
        writer.writerow(columns)
    for row in rows:
        cells = _cells(row)
        writer.writerow([cell(cells[name]) for name in columns])
    return text.getvalue()


def _cells(row: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(row).items():
        parts = value.items() if isinstance(getattr(row, name), msgspec.Struct) else ()
        found |= {f"{name}_{part}": inner for part, inner in parts} or {name: value}
    return found


def cell(value: Any) -> Any:
    """Return what stands in a cell. Text that a spreadsheet would take for a formula is marked as text."""
    if isinstance(value, dict | list | tuple | bool):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _plain(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
