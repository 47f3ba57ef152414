"""Rows as CSV that a spreadsheet can open without harm. Values in, text out."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hanlin.service.administration.values import CallView, UsageRow, Word
from hanlin.service.administration.views import Names, usage_row
from hanlin.store.rows import Total
from hanlin.types import Usage

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")

CALL_HEAD = tuple(field.name for field in msgspec.structs.fields(CallView))
"""The names of the columns that calls have."""


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


def table(rows: Iterable[CallView | UsageRow], columns: Sequence[str], *, head: bool = True) -> str:
    """Return rows as CSV, with their head unless they go on where others ended."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if head:
        writer.writerow(columns)
    for row in rows:
        fields = msgspec.to_builtins(row)
        writer.writerow([cell(fields[name]) for name in columns])
    return text.getvalue()


def cell(value: Any) -> Any:
    """Return what stands in a cell. Text that a spreadsheet would take for a formula is marked as text."""
    if isinstance(value, dict | bool):
        return msgspec.json.encode(value).decode()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
