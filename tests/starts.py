"""Calls under way as the journal knows them, made from the rows that they would leave."""

from typing import Any

from hanlin.metering.journal_calls import Start
from hanlin.store.rows import LedgerRow

_MILLION = 1_000_000


def start_of(row: LedgerRow, **more: Any) -> Start:
    """Return the start of a call that leaves this row, but for its outcome, if nothing comes of it."""
    prompt_tokens = row.usage.prompt
    return Start(
        id=row.id,
        began_unix_s=row.began_at.timestamp(),
        key_id=row.key_id,
        workspace_id=row.workspace_id,
        surface=row.surface,
        model=row.model,
        deployment=row.deployment,
        served=row.served,
        stream=row.stream,
        parent_id=row.parent_id,
        prompt_tokens=prompt_tokens,
        price_version=row.price_version,
        currency=row.currency,
        prompt_nanos=row.cost_nanos * _MILLION // max(prompt_tokens, 1),
        list_prompt_nanos=row.list_cost_nanos * _MILLION // max(prompt_tokens, 1),
        **more,
    )
