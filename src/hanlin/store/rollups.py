"""What calls come to a day: the arithmetic of daily sums, and which days a question can be answered from by them.

Pure: rows and times in, sums and spans out. A day begins at 0:00 UTC.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from operator import add, attrgetter, sub
from typing import Literal

import msgspec

from hanlin.store.rows import LedgerRow, Outcome
from hanlin.store.tables import COSTS, TOKENS

DIMENSIONS = ("day", "currency", "key_id", "workspace_id", "model", "deployment", "surface")
"""What sums are told apart by, in the order of the table's key."""

SUMS = ("calls", "failed", "estimated", *TOKENS, *COSTS)

_NOTHING = (0,) * len(SUMS)

_used_by = attrgetter(
    "usage.prompt",
    "usage.completion",
    "usage.cached",
    "usage.reasoning",
    "cache_created",
    "cost_nanos",
    "list_cost_nanos",
)

FAILED = (Outcome.FAILED, Outcome.INTERRUPTED)

_DAY = timedelta(days=1)

Key = tuple[date, str, str, str, str, str, str]
"""The values of DIMENSIONS."""


class Part(msgspec.Struct, frozen=True, gc=False):
    """Some time within one day, `until` not included. `sign` -1: it is taken away from its day, which is counted."""

    since: datetime
    until: datetime
    sign: Literal[1, -1] = 1


class Span(msgspec.Struct, frozen=True, gc=False):
    """A time as days, and what is to be added or taken away at its two ends: whichever is less of the day.

    `first` and `last` are days whose sums count, both included; None is as far back, or ahead, as there are any.
    `whole` is False when no full day is part of it.
    """

    parts: tuple[Part, ...] = ()
    whole: bool = True
    first: date | None = None
    last: date | None = None


def key_of(row: LedgerRow) -> Key:
    """Return which sums a row is part of."""
    moment = row.began_at
    day = moment.date() if moment.tzinfo is UTC else moment.astimezone(UTC).date()
    return (day, row.currency, row.key_id, row.workspace_id, row.model, row.deployment, row.surface)


def sums_of(*rows: LedgerRow) -> tuple[int, ...]:
    """Return what rows add together, in the order of SUMS.

    A call that a recipe made adds its tokens and its cost; it is not another call of the caller's.
    """
    asked = [row for row in rows if not row.parent_id]
    return (
        len(asked),
        sum([row.outcome in FAILED for row in asked]),
        sum([row.estimated for row in asked]),
        *map(sum, zip(*map(_used_by, rows), strict=True)),
    )


def changes(added: Iterable[LedgerRow], removed: Iterable[LedgerRow] = ()) -> list[tuple[Key, tuple[int, ...]]]:
    """Return by how much each sum changes, in one order for all writers: two that change the same never cross."""
    found: dict[Key, tuple[int, ...]] = {}
    for rows, combined in ((added, add), (removed, sub)):
        alike: dict[Key, list[LedgerRow]] = {}
        for row in rows:
            alike.setdefault(key_of(row), []).append(row)
        for key, several in alike.items():
            found[key] = tuple(map(combined, found.get(key, _NOTHING), sums_of(*several)))
    return [(key, found[key]) for key in sorted(found)]


def span(since: datetime | None, until: datetime | None) -> Span:
    """Take a time apart, `until` not included; None is as far as there are rows."""
    if since is not None and until is not None and until <= since:
        return Span(whole=False)
    first = None if since is None else _midnight_from(since)
    end = None if until is None else _midnight_before(until)
    if first is not None and end is not None and first > end:
        assert since is not None
        assert until is not None
        return Span((Part(since, until),), whole=False)
    parts = []
    if since is not None and first is not None and since < first:
        if first - since > _DAY / 2:
            first -= _DAY
            parts.append(Part(first, since, -1))
        else:
            parts.append(Part(since, first))
    if until is not None and end is not None and end < until:
        if until - end > _DAY / 2:
            end += _DAY
            parts.append(Part(until, end, -1))
        else:
            parts.append(Part(end, until))
    return Span(
        tuple(parts),
        whole=first is None or end is None or first < end,
        first=None if first is None else first.date(),
        last=None if end is None else end.date() - _DAY,
    )


def _midnight_before(time: datetime) -> datetime:
    """Return the last midnight that is not after a time."""
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _midnight_from(time: datetime) -> datetime:
    """Return the first midnight that is not before a time."""
    midnight = _midnight_before(time)
    return midnight if midnight == time else midnight + _DAY
