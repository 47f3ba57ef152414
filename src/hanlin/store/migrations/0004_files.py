"""Files that callers upload, and what the caller of a recipe was told of its usage."""

import sqlalchemy as sa
from alembic import op

revision = "0004_files"
down_revision = "0003_models_and_content"

_TOLD = ("told_prompt_tokens", "told_completion_tokens")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Text, primary_key=True),
        *_words("workspace_id", "key_id", "purpose", "filename"),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        *_words("digest", "kind", "status", "reason", "details"),
        *_counts("pages_done", "pages_total", "pages", "characters", "tokens"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("claimed_by", sa.Text, nullable=False),
        sa.Column("claimed_until", sa.DateTime(timezone=True)),
    )
    op.create_index("files_by_workspace", "files", ["workspace_id", "created_at"])
    op.create_index("files_by_digest", "files", ["digest"])
    pending = sa.text("status = 'processing'")
    op.create_index("files_to_read", "files", ["created_at"], sqlite_where=pending, postgresql_where=pending)
    for name in _TOLD:
        op.add_column("ledger", sa.Column(name, sa.BigInteger))


def downgrade() -> None:
    for name in reversed(_TOLD):
        op.drop_column("ledger", name)
    op.drop_table("files")


def _words(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]
