"""Who pays, what a key may, what calls cost, who changed what: workspaces, scopes of keys, ledger, prices, audit."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002_accounts"
down_revision = "0001_keys"

_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cache_created_tokens")
_COSTS = ("cost_nanos", "list_cost_nanos")


def upgrade() -> None:
    workspaces = op.create_table(
        "workspaces",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        *_limits(),
        sa.Column("keeps_content", sa.Boolean, nullable=False),
    )
    op.bulk_insert(
        workspaces, [{"id": "default", "name": "default", "created_at": datetime.now(UTC), "keeps_content": False}]
    )
    for column in _of_keys():
        op.add_column("keys", column)
    _make_ledger()
    op.create_table(
        "prices",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *_words("who", "what", "subject", "before", "after"),
    )


def downgrade() -> None:
    # The older release knows no end of a key: one that has ended would work again.
    keys = sa.table("keys", sa.column("expires_at"), sa.column("revoked_at"))
    ended = sa.and_(keys.c.revoked_at.is_(None), keys.c.expires_at <= sa.func.current_timestamp())
    op.execute(keys.update().where(ended).values(revoked_at=keys.c.expires_at))
    for table in ("audit", "prices", "ledger_days", "ledger", "workspaces"):
        op.drop_table(table)
    for column in reversed(_of_keys()):
        op.drop_column("keys", column.name)


def _make_ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        *_words("key_id", "workspace_id", "surface", "model", "deployment", "served"),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        *_words("code", "finish_reason"),
        *_counts(*_TOKENS),
        sa.Column("media", sa.Text, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("queue_ms", sa.Double),
        sa.Column("first_token_ms", sa.Double),
        sa.Column("total_ms", sa.Double),
        *_words("price_version", "currency"),
        *_counts(*_COSTS),
    )
    op.create_index("ledger_by_time", "ledger", ["began_at"])
    op.create_index("ledger_by_key", "ledger", ["key_id", "began_at"])
    op.create_index("ledger_by_workspace", "ledger", ["workspace_id", "began_at"])
    op.create_index("ledger_by_model", "ledger", ["model", "began_at"])
    unusual = sa.text("outcome <> 'answered'")
    op.create_index(
        "ledger_by_outcome", "ledger", ["outcome", "began_at"], sqlite_where=unusual, postgresql_where=unusual
    )
    op.create_table(
        "ledger_days",
        sa.Column("day", sa.Date, primary_key=True),
        *(
            sa.Column(name, sa.Text, primary_key=True)
            for name in ("currency", "key_id", "workspace_id", "model", "deployment", "surface")
        ),
        *_counts("calls", "failed", "estimated", *_TOKENS, *_COSTS),
        # Rows are found by their long key only, and in the order of it: SQLite keeps them there, not a second time.
        sqlite_with_rowid=False,
    )
    op.create_index("ledger_days_by_key", "ledger_days", ["key_id", "day"])
    op.create_index("ledger_days_by_workspace", "ledger_days", ["workspace_id", "day"])


def _of_keys() -> list[sa.Column[Any]]:
    """What keys have from now on. The keys of before belong to the default workspace and may what they might."""
    return [
        sa.Column("workspace_id", sa.Text, nullable=False, server_default="default"),
        sa.Column("role", sa.Text, nullable=False, server_default=""),
        *(
            sa.Column(name, sa.Text, nullable=False, server_default="[]")
            for name in ("models", "surfaces", "addresses")
        ),
        *_limits(),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("replaces_id", sa.Text, nullable=False, server_default=""),
        sa.Column("origin_id", sa.Text, nullable=False, server_default=""),
    ]


def _limits() -> list[sa.Column[Any]]:
    return [
        sa.Column("rpm", sa.BigInteger),
        sa.Column("tpm", sa.BigInteger),
        sa.Column("concurrency", sa.BigInteger),
        sa.Column("budget_nanos", sa.BigInteger),
        sa.Column("budget_currency", sa.Text),
        sa.Column("budget_period", sa.Text),
    ]


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
