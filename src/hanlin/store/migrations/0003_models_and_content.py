"""Limits of models, and the prompts and answers of workspaces that keep them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003_models_and_content"
down_revision = "0002_accounts"


def upgrade() -> None:
    op.create_table(
        "model_limits",
        sa.Column("pattern", sa.Text, primary_key=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        *_limits(),
    )
    op.create_table(
        "contents",
        sa.Column("call_id", sa.Text, primary_key=True),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("workspace_id", "prompt", "answer")),
    )
    op.create_index("contents_by_time", "contents", ["began_at"])


def downgrade() -> None:
    for table in ("contents", "model_limits"):
        op.drop_table(table)


def _limits() -> list[sa.Column[Any]]:
    return [
        sa.Column("rpm", sa.BigInteger),
        sa.Column("tpm", sa.BigInteger),
        sa.Column("concurrency", sa.BigInteger),
        sa.Column("budget_nanos", sa.BigInteger),
        sa.Column("budget_currency", sa.Text),
        sa.Column("budget_period", sa.Text),
    ]
