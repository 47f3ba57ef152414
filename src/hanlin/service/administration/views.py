"""Rows of the store as administrators are told them: flat, by the names of their fields, and never with a hash."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec

from hanlin.catalogue.models import Catalogue
from hanlin.service.administration.values import (
    AuditView,
    CallView,
    KeyView,
    LimitTerms,
    ModelLimitsView,
    UsageRow,
    Word,
    WorkspaceView,
)
from hanlin.service.model_limits import names_of
from hanlin.store.rows import NANOS, AuditRow, Dimension, KeyRow, LedgerRow, Limits, ModelLimits, Total, Workspace
from hanlin.types import Usage

DIMENSIONS: Mapping[Word, Dimension] = {
    "day": "day",
    "key": "key_id",
    "workspace": "workspace_id",
    "model": "model",
    "deployment": "deployment",
    "surface": "surface",
}
"""What usage can be told apart by, by the words for it."""


class Names(msgspec.Struct, frozen=True):
    """What people call keys and workspaces, by their ids."""

    keys: Mapping[str, KeyRow] = {}
    workspaces: Mapping[str, str] = {}

    def of_key(self, key_id: str) -> dict[str, str]:
        """Return a key's id, its name and its hint; the latter are empty where it is not known."""
        row = self.keys.get(key_id)
        name, hint = ("", "") if row is None else (row.name, row.hint)
        return {"key_id": key_id, "key_name": name, "key_hint": hint}

    def of_workspace(self, workspace_id: str) -> dict[str, str]:
        """Return a workspace's id and its name, empty where it is not known."""
        return {"workspace_id": workspace_id, "workspace_name": self.workspaces.get(workspace_id, "")}


def key_view(row: KeyRow, now: datetime) -> KeyView:
    """Return a key with its state in a word."""
    state = "revoked" if row.revoked_at is not None else "works" if row.works(now) else "expired"
    return msgspec.convert({**row.shown(), "state": state}, KeyView)


def workspace_view(row: Workspace) -> WorkspaceView:
    return msgspec.convert(row, WorkspaceView, from_attributes=True)


def limits_of(terms: LimitTerms) -> Limits:
    """Return limits as the store has them."""
    return msgspec.convert(terms, Limits, from_attributes=True)


def usage_row(total: Total, by: Iterable[Word], names: Names) -> UsageRow:
    """Return a total with the dimensions that it is told apart by, and the names of their ids."""
    apart: dict[str, Any] = {}
    for word in by:
        dimension = DIMENSIONS[word]
        value = getattr(total, dimension)
        if dimension == "key_id":
            apart |= names.of_key(value)
        elif dimension == "workspace_id":
            apart |= names.of_workspace(value)
        else:
            apart[dimension] = value
    return UsageRow(
        **apart,
        calls=total.calls,
        failed=total.failed,
        estimated=total.estimated,
        **_counted(total.usage, total.cache_created),
        **_costs(total.currency, total.cost_nanos, total.list_cost_nanos),
    )


def call_view(call: LedgerRow, names: Names) -> CallView:
    """Return a call; every token and time by its own name."""
    fields = msgspec.structs.asdict(call)
    del fields["usage"], fields["cache_created"]
    fields["told_prompt_tokens"] = fields.pop("told_prompt")
    fields["told_completion_tokens"] = fields.pop("told_completion")
    fields |= _counted(call.usage, call.cache_created)
    fields |= _costs(call.currency, call.cost_nanos, call.list_cost_nanos)
    fields |= names.of_key(call.key_id) | names.of_workspace(call.workspace_id)
    return CallView(**fields)


def model_limits_view(row: ModelLimits, catalogue: Catalogue) -> ModelLimitsView:
    """Return the limits of a name or pattern, with the names that it stands for."""
    limits = msgspec.convert(row.limits, LimitTerms, from_attributes=True)
    return ModelLimitsView(pattern=row.pattern, limits=limits, names=names_of(row.pattern, catalogue))


def audit_view(row: AuditRow) -> AuditView:
    fields = {**msgspec.structs.asdict(row), "before": _read(row.before), "after": _read(row.after)}
    return AuditView(**fields)


def in_order(totals: Iterable[Total]) -> Sequence[Total]:
    """Return totals as people look for them: days in their order, then the costliest first, then the most tokens."""

    def place(total: Total) -> tuple[date, int, int, int]:
        return total.day or date.min, -total.cost_nanos, -total.usage.total, -total.calls

    return sorted(totals, key=place)


def exact(nanos: int) -> str:
    """Write nanos as units, to the last digit and no further: `10`, `2.50`, `0.000000001`."""
    sign, (units, rest) = "-" if nanos < 0 else "", divmod(abs(nanos), NANOS)
    decimals = f"{rest:09}".rstrip("0")
    return f"{sign}{units}.{decimals:0<2}" if decimals else f"{sign}{units}"


def _counted(usage: Usage, cache_created: int) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "cache_created_tokens": cache_created,
        "completion_tokens": usage.completion,
        "reasoning_tokens": usage.reasoning,
    }


def _costs(currency: str, cost: int, list_cost: int) -> dict[str, Any]:
    """Return both costs, as nanos and as exact decimals: a float would lose some."""
    return {
        "currency": currency,
        "cost_nanos": cost,
        "cost": exact(cost),
        "list_cost_nanos": list_cost,
        "list_cost": exact(list_cost),
    }


def _read(text: str) -> Any:
    return msgspec.json.decode(text) if text else None
