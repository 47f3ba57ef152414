"""Values as columns and back, where a value and its table are not of one shape."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from hanlin.store.rows import Budget, KeyRow, LedgerRow, Limits, ModelLimits, Outcome, Workspace
from hanlin.store.tables import ledger
from hanlin.types import Usage

Columns = dict[str, Any]

_TEXTS = tuple(field.name for field in msgspec.structs.fields(LedgerRow) if field.type is str)

_ELSEWHERE = {
    "prompt_tokens": "usage.prompt",
    "completion_tokens": "usage.completion",
    "cached_tokens": "usage.cached",
    "reasoning_tokens": "usage.reasoning",
    "cache_created_tokens": "cache_created",
    "told_prompt_tokens": "told_prompt",
    "told_completion_tokens": "told_completion",
}
"""Where a row has what it does not call as its column is called."""

CALL = tuple(ledger.columns.keys())
"""The columns of a call."""

_USAGE = tuple(f"usage.{name}" for name in Usage.__struct_fields__)


def of_workspace(row: Workspace) -> Columns:
    return {**_without_limits(row), **_of_limits(row.limits)}


def workspace(columns: RowMapping) -> Workspace:
    return Workspace(**_with_limits(columns))


def of_key(row: KeyRow) -> Columns:
    return {**_without_limits(row), **_of_limits(row.limits)}


def key(columns: RowMapping) -> KeyRow:
    return KeyRow(**_with_limits(columns))


def of_model_limits(row: ModelLimits) -> Columns:
    return {**_without_limits(row), **_of_limits(row.limits)}


def model_limits(columns: RowMapping) -> ModelLimits:
    return ModelLimits(**_with_limits(columns))


def of_calls(rows: Sequence[LedgerRow]) -> list[tuple[Any, ...]]:
    """Return the values of rows in the order of CALL.

    All rows' values of a field at once: asking each row for each of its fields takes ten times as long.
    """
    if not rows:
        return []
    fields = _fields_of(rows, LedgerRow.__struct_fields__)
    fields |= _fields_of(fields["usage"], _USAGE)
    fields["outcome"] = tuple(map(str, fields["outcome"]))
    return list(zip(*[fields[_ELSEWHERE.get(name, name)] for name in CALL], strict=True))


def _fields_of(structs: Sequence[msgspec.Struct], names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    return dict(zip(names, zip(*map(msgspec.structs.astuple, structs), strict=True), strict=True))


def call(columns: RowMapping) -> LedgerRow:
    fields: Columns = dict(columns)
    used = usage(fields)
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
        del fields[name]
    return LedgerRow(
        usage=used,
        cache_created=fields.pop("cache_created_tokens"),
        outcome=Outcome(fields.pop("outcome")),
        told_prompt=fields.pop("told_prompt_tokens"),
        told_completion=fields.pop("told_completion_tokens"),
        **fields,
    )


def usage(columns: Mapping[str, Any]) -> Usage:
    return Usage(
        prompt=columns["prompt_tokens"],
        completion=columns["completion_tokens"],
        cached=columns["cached_tokens"],
        reasoning=columns["reasoning_tokens"],
    )


def storable(rows: Sequence[LedgerRow]) -> Sequence[LedgerRow]:
    """Return rows without zero bytes, which PostgreSQL refuses, and halves of characters, which nothing can encode.

    An engine's odd word in one row must not keep a whole batch of bills from being written.
    """
    fields = _fields_of(rows, LedgerRow.__struct_fields__)
    text = "".join(chain.from_iterable([fields[name] for name in _TEXTS]))  # one look at all, as nearly always
    if "\0" not in text and _encodes(text):
        return rows
    return list(map(_storable, rows))


def _storable(row: LedgerRow) -> LedgerRow:
    cleaned = {name: getattr(row, name).replace("\0", "\ufffd").encode("utf-8", "replace").decode() for name in _TEXTS}
    return msgspec.structs.replace(row, **cleaned)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_limits(row: KeyRow | Workspace | ModelLimits) -> Columns:
    fields = msgspec.structs.asdict(row)
    del fields["limits"]
    return fields


def _of_limits(limits: Limits) -> Columns:
    budget = limits.budget
    return {
        "rpm": limits.rpm,
        "tpm": limits.tpm,
        "concurrency": limits.concurrency,
        "budget_nanos": None if budget is None else budget.nanos,
        "budget_currency": None if budget is None else budget.currency,
        "budget_period": None if budget is None else budget.period,
    }


def _with_limits(columns: RowMapping) -> Columns:
    fields: Columns = dict(columns)
    nanos, currency, period = (fields.pop(f"budget_{name}") for name in ("nanos", "currency", "period"))
    budget = None if nanos is None else Budget(nanos, currency, period)
    limits = Limits(fields.pop("rpm"), fields.pop("tpm"), fields.pop("concurrency"), budget)
    return {**fields, "limits": limits}
