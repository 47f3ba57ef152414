"""What calls came to, as flat rows for programs: of totals, and of single calls. Values in, values of JSON out."""

import csv
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from hanlin.cli import money
from hanlin.store.rows import Dimension, KeyRow, LedgerRow, Mark, Total
from hanlin.types import Usage
from hanlin.words import say

Row = dict[str, Any]

COLUMNS: Mapping[str, Dimension] = {
    "day": "day",
    "key": "key_id",
    "workspace": "workspace_id",
    "model": "model",
    "deployment": "deployment",
    "surface": "surface",
}
"""The dimensions by the words of `--by`."""


class Names(msgspec.Struct, frozen=True):
    """What people call keys and workspaces, by their ids."""

    keys: Mapping[str, KeyRow] = {}
    workspaces: Mapping[str, str] = {}

    def name(self, dimension: str, value: str) -> str:
        """Return the name of a key or a workspace, "" where it has none."""
        if dimension == "key_id":
            return self.keys[value].name if value in self.keys else ""
        return self.workspaces.get(value, "")

    def shown(self, dimension: str, value: str) -> str:
        """Return what stands for a value in a table: several keys may have one name."""
        if dimension == "workspace_id":
            return self.workspaces.get(value, value)
        key = self.keys.get(value) if dimension == "key_id" else None
        return value if key is None or not key.name else f"{key.name} …{key.hint}"


def total_row(total: Total, by: Sequence[Dimension], names: Names) -> Row:
    """Return a total with the dimensions that it is told apart by, and the names of their ids."""
    row: Row = {}
    for dimension in by:
        value = getattr(total, dimension)
        row[dimension] = None if value is None else str(value)
        if dimension in ("key_id", "workspace_id"):
            row[f"{dimension.removesuffix('_id')}_name"] = names.name(dimension, str(value))
    counts = {"calls": total.calls, "failed": total.failed, "estimated": total.estimated}
    costs = _costs(total.cost_nanos, total.list_cost_nanos)
    return {**row, **counts, **_tokens(total.usage, total.cache_created), "currency": total.currency, **costs}


def call_row(call: LedgerRow) -> Row:
    """Return a call's row of the ledger; every token and time by its own name."""
    row: Row = msgspec.to_builtins(call)
    row |= _tokens(call.usage, row.pop("cache_created"))
    del row["usage"]
    return {**row, **_costs(call.cost_nanos, call.list_cost_nanos)}


def csv_table(rows: Sequence[Row], head: Sequence[str]) -> None:
    """Print rows as CSV, with a head also where there are none."""
    writer = csv.DictWriter(sys.stdout, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in head} for row in rows)


def total_head(by: Sequence[Dimension]) -> tuple[str, ...]:
    """Return the names of the columns that totals have."""
    nothing = Total(
        currency="", calls=0, failed=0, estimated=0, usage=Usage(), cache_created=0, cost_nanos=0, list_cost_nanos=0
    )
    return tuple(total_row(nothing, by, Names()))


def call_head() -> tuple[str, ...]:
    """Return the names of the columns that calls have."""
    nothing = LedgerRow(id="", began_at=datetime.now(UTC), key_id="", workspace_id="", surface="", model="")
    return tuple(call_row(nothing))


def written(mark: Mark | None) -> str | None:
    """Return a mark as one word that a shell leaves alone."""
    return None if mark is None else f"{mark.began_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}/{mark.id}"


def mark_of(text: str) -> Mark:
    """Read a mark that `written` wrote. Raises ValueError that says where one comes from."""
    time, found, call_id = text.partition("/")
    try:
        began_at = datetime.fromisoformat(time)
        if not (found and call_id and began_at.tzinfo):
            raise ValueError(text)
        return Mark(began_at, call_id)
    except ValueError as error:
        raise ValueError(
            say("is no mark; the end of a page names the next one", "不是有效的标记；每页末尾会给出下一页的标记")
        ) from error


def _tokens(usage: Usage, cache_created: int) -> Row:
    return {
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "cache_created_tokens": cache_created,
        "completion_tokens": usage.completion,
        "reasoning_tokens": usage.reasoning,
    }


def _costs(cost: int, list_cost: int) -> Row:
    """Return both costs, as nanos and as exact decimals: a float would lose some."""
    return {
        "cost_nanos": cost,
        "cost": money.exact(cost),
        "list_cost_nanos": list_cost,
        "list_cost": money.exact(list_cost),
    }


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | bool) else value
