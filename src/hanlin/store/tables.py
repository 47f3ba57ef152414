"""The tables as the newest migration leaves them, for the statements of this room. A test holds the two together."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeDecorator, TypeEngine


class _SqliteTime(sqlite.DATETIME):
    """A moment as SQLite's text, which sorts as moments do. `UtcTime` writes and reads it, at a fifth of the price."""

    def bind_processor(self, dialect: Dialect) -> None:
        pass

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        pass


class UtcTime(TypeDecorator[datetime]):
    """A moment. SQLite keeps no time zone, so every moment is stored in UTC and comes back with it.

    Raises ValueError for a time without a zone: it could be any moment of a day.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_SqliteTime())  # type: ignore[no-untyped-call]
        return dialect.type_descriptor(DateTime(timezone=True))

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], datetime | str | None]:
        return _utc_text if dialect.name == "sqlite" else _utc

    def process_result_value(self, value: datetime | str | None, _dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return None if value is None else value.astimezone(UTC)


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return moment.astimezone(UTC)


def _utc_text(moment: datetime | None) -> str | None:
    utc = moment if moment is not None and moment.tzinfo is UTC else _utc(moment)
    if utc is None:
        return None
    text = msgspec.to_builtins(utc)  # a tenth of what `isoformat` takes
    if len(text) == len("2026-11-26T12:00:00.123456Z"):
        return f"{text[:10]} {text[11:26]}"
    return utc.replace(tzinfo=None).isoformat(" ", "microseconds")


class JsonText(TypeDecorator[Any]):
    """A value of one Python type, stored as JSON text: nothing in a statement looks into it."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind

    def bind_processor(self, _dialect: Dialect) -> Callable[[Any], str | None]:
        return _json_text

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value, type=self.kind)


def _json_text(value: Any) -> str | None:
    if value == {}:  # as in nearly every row of the ledger
        return "{}"
    return None if value is None else msgspec.json.encode(value).decode()


WORDS = JsonText(tuple[str, ...])

metadata = MetaData()


def _limits() -> list[Column[Any]]:
    return [
        Column("rpm", BigInteger),
        Column("tpm", BigInteger),
        Column("concurrency", BigInteger),
        Column("budget_nanos", BigInteger),
        Column("budget_currency", Text),
        Column("budget_period", Text),
    ]


def _counts(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _words(*names: str) -> list[Column[str]]:
    return [Column(name, Text, nullable=False) for name in names]


TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cache_created_tokens")
COSTS = ("cost_nanos", "list_cost_nanos")

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    *_limits(),
    Column("keeps_content", Boolean, nullable=False),
)

model_limits = Table(
    "model_limits",
    metadata,
    Column("pattern", Text, primary_key=True),
    Column("made_at", UtcTime, nullable=False),
    *_limits(),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime, nullable=True),
    *_words("workspace_id", "role"),
    Column("models", WORDS, nullable=False),
    Column("surfaces", WORDS, nullable=False),
    Column("addresses", WORDS, nullable=False),
    *_limits(),
    Column("expires_at", UtcTime, nullable=True),
    *_words("replaces_id", "origin_id"),
)

# Keys and workspaces are not referred to by foreign keys: a row must be written also when its key is long forgotten.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("parent_id", Text, nullable=False),
    Column("began_at", UtcTime, nullable=False),
    *_words("key_id", "workspace_id", "surface", "model", "deployment", "served"),
    Column("stream", Boolean, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer, nullable=False),
    *_words("code", "finish_reason"),
    *_counts(*TOKENS),
    Column("media", JsonText(dict[str, int]), nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("queue_ms", Double),
    Column("first_token_ms", Double),
    Column("total_ms", Double),
    *_words("price_version", "currency"),
    *_counts(*COSTS),
    # What the caller of a recipe was told, which is not what its inner calls used.
    Column("told_prompt_tokens", BigInteger),
    Column("told_completion_tokens", BigInteger),
)
UNUSUAL = text("outcome <> 'answered'")
"""What the index of outcomes covers. Planners use it only for a condition that says this in so many words."""

Index("ledger_by_time", ledger.c.began_at)
Index("ledger_by_key", ledger.c.key_id, ledger.c.began_at)
Index("ledger_by_workspace", ledger.c.workspace_id, ledger.c.began_at)
Index("ledger_by_model", ledger.c.model, ledger.c.began_at)
# The few calls that somebody looks for; an entry for each of the others would only cost. PostgreSQL's has the same
# condition, in its migration: named here, it would load that dialect at every start on SQLite.
Index("ledger_by_outcome", ledger.c.outcome, ledger.c.began_at, sqlite_where=UNUSUAL)

# Beside the ledger, not in it: rows of calls stay small for everybody who keeps nothing more.
contents = Table(
    "contents",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("began_at", UtcTime, nullable=False),
    *_words("workspace_id", "prompt", "answer"),
)
Index("contents_by_time", contents.c.began_at)

ledger_days = Table(
    "ledger_days",
    metadata,
    Column("day", Date, primary_key=True),
    *(
        Column(name, Text, primary_key=True)
        for name in ("currency", "key_id", "workspace_id", "model", "deployment", "surface")
    ),
    *_counts("calls", "failed", "estimated", *TOKENS, *COSTS),
    sqlite_with_rowid=False,
)
Index("ledger_days_by_key", ledger_days.c.key_id, ledger_days.c.day)
Index("ledger_days_by_workspace", ledger_days.c.workspace_id, ledger_days.c.day)

prices = Table(
    "prices",
    metadata,
    Column("version", Text, primary_key=True),
    Column("made_at", UtcTime, nullable=False),
    Column("text", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    # SQLite numbers rows by itself only in a column of exactly this type.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    *_words("who", "what", "subject", "before", "after"),
)

# A row outlives its file: what was deleted is told from what never was.
files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    *_words("workspace_id", "key_id", "purpose", "filename"),
    Column("size_bytes", BigInteger, nullable=False),
    *_words("digest", "kind", "status", "reason", "details"),
    *_counts("pages_done", "pages_total", "pages", "characters", "tokens"),
    Column("created_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    Column("attempts", Integer, nullable=False),
    Column("claimed_by", Text, nullable=False),
    Column("claimed_until", UtcTime),
    # Later than the others: rows from before have neither.
    *(Column(name, Text, nullable=False, server_default="") for name in ("description", "md5")),
)
PENDING = text("status = 'processing'")
"""What the index of jobs covers; a condition must say this in so many words, as with UNUSUAL."""

Index("files_by_workspace", files.c.workspace_id, files.c.created_at)
Index("files_by_digest", files.c.digest)
Index("files_to_read", files.c.created_at, sqlite_where=PENDING)  # and on PostgreSQL, as above
