"""Questions about what calls came to, as statements: daily sums for whole days, rows for what is left of a time."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Date, FromClause, RowMapping, Select, and_, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from hanlin.store import columns
from hanlin.store.rollups import DIMENSIONS, FAILED, SUMS, Span, span
from hanlin.store.rows import Filters, Outcome, Total
from hanlin.store.tables import COSTS, TOKENS, UNUSUAL, ledger, ledger_days

Query = Select[tuple[Any, ...]]

_SCOPES: tuple[Literal["key_id", "workspace_id", "model"], ...] = ("key_id", "workspace_id", "model")
"""The filters that daily sums have a column for."""

_HEAD = frozenset({"day", "currency", "key_id", "workspace_id"})
"""The dimensions at the beginning of DIMENSIONS that have few values a day."""


class _UtcDay(FunctionElement[Any]):
    """The day of a moment. SQLite has no zones, and its moments are stored in UTC."""

    type = Date()
    inherit_cache = True


@compiles(_UtcDay, "sqlite")
def _sqlite_day(element: _UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"date({compiler.process(element.clauses, **options)})"


@compiles(_UtcDay, "postgresql")
def _postgresql_day(element: _UtcDay, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AT TIME ZONE 'UTC' AS date)"


def conditions(filters: Filters) -> list[ColumnElement[bool]]:
    """Return what rows of the ledger must meet."""
    found: list[ColumnElement[bool]] = [
        ledger.c[name] == value for name in _SCOPES if (value := getattr(filters, name))
    ]
    if filters.outcome is not None:
        found.append(ledger.c.outcome == filters.outcome.value)
        if filters.outcome is not Outcome.ANSWERED:
            found.append(and_(UNUSUAL))
    if filters.since is not None:
        found.append(ledger.c.began_at >= filters.since)
    if filters.until is not None:
        found.append(ledger.c.began_at < filters.until)
    return found


def totals_queries(filters: Filters, apart: Sequence[str]) -> list[Query]:
    """Return queries whose results, added up, are the totals. Their columns are `apart`, then SUMS."""
    if filters.outcome is not None:
        return [_of_rows(filters, apart)]
    time = span(filters.since, filters.until)
    rows = [
        _of_rows(msgspec.structs.replace(filters, since=part.since, until=part.until), apart, part.sign)
        for part in time.parts
    ]
    return [*([_of_days(filters, time, apart)] if time.whole else []), *rows]


def spent_queries(
    scope: Literal["key_id", "workspace_id", "model"], ids: Collection[str], currency: str, since: datetime | None
) -> list[Query]:
    """Return queries whose results, added up, are the nanos that were charged."""
    time = span(since, None)
    days, rows = ledger_days.c, ledger.c
    return [
        select(func.sum(days.cost_nanos)).where(days[scope].in_(ids), days.currency == currency, *_within(time)),
        *(
            select(part.sign * func.sum(rows.cost_nanos)).where(
                rows[scope].in_(ids), rows.currency == currency, rows.began_at >= part.since, rows.began_at < part.until
            )
            for part in time.parts
        ),
    ]


def added_up(found: Iterable[RowMapping], apart: Sequence[str]) -> tuple[Total, ...]:
    """Return the totals that the results of the queries come to, in the order of what they are told apart by."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in found:
        total = sums.setdefault(tuple(row[name] for name in apart), [0] * len(SUMS))
        for number, name in enumerate(SUMS):
            total[number] += int(row[name])
    # A guess that was replaced by the real row of another model leaves sums of nothing behind.
    return tuple(_total(dict(zip(apart, key, strict=True)), sums[key]) for key in sorted(sums) if any(sums[key]))


def _total(dimensions: dict[str, Any], sums: Sequence[int]) -> Total:
    values: dict[str, Any] = dict(zip(SUMS, sums, strict=True))
    others = {name: values[name] for name in ("calls", "failed", "estimated", *COSTS)}
    return Total(**dimensions, **others, usage=columns.usage(values), cache_created=values["cache_created_tokens"])


def _of_days(filters: Filters, time: Span, apart: Sequence[str]) -> Query:
    scopes = [ledger_days.c[name] == value for name in _SCOPES if (value := getattr(filters, name))]
    if not _HEAD.issuperset(apart):
        return _grouped(ledger_days, apart).where(*scopes, *_within(time))
    # SQLite sorts what it groups, unless it lies in that order: what is left to be sorted is far less.
    last = max(map(DIMENSIONS.index, apart))
    in_order = _grouped(ledger_days, DIMENSIONS[: last + 1]).where(*scopes, *_within(time))
    return _grouped(in_order.subquery(), apart)


def _grouped(source: FromClause, apart: Sequence[str]) -> Query:
    dimensions = [source.c[name] for name in apart]
    return select(*dimensions, *(func.sum(source.c[name]).label(name) for name in SUMS)).group_by(*dimensions)


def _within(time: Span) -> list[ColumnElement[bool]]:
    found = []
    if time.first is not None:
        found.append(ledger_days.c.day >= time.first)
    if time.last is not None:
        found.append(ledger_days.c.day <= time.last)
    return found


def _of_rows(filters: Filters, apart: Sequence[str], sign: int = 1) -> Query:
    """Return the query that counts as `rollups.sums_of` does, or takes away. A test holds the two together."""
    rows = ledger.c
    dimensions = [_UtcDay(rows.began_at) if name == "day" else rows[name] for name in apart]
    asked = rows.parent_id == ""
    counted = {
        "calls": asked,
        "failed": and_(asked, rows.outcome.in_(FAILED)),
        "estimated": and_(asked, rows.estimated),
    }
    sums = [func.sum(case((condition, sign), else_=0)).label(name) for name, condition in counted.items()]
    sums += [(sign * func.sum(rows[name])).label(name) for name in (*TOKENS, *COSTS)]
    labelled = [dimension.label(name) for dimension, name in zip(dimensions, apart, strict=True)]
    return select(*labelled, *sums).where(*conditions(filters)).group_by(*dimensions)
