"""What the native Files API tells of a file beyond the compatible one: its description and its MD5."""

import sqlalchemy as sa
from alembic import op

revision = "0005_files_told"
down_revision = "0004_files"

_WORDS = ("description", "md5")


def upgrade() -> None:
    for name in _WORDS:
        op.add_column("files", sa.Column(name, sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    for name in reversed(_WORDS):
        op.drop_column("files", name)
