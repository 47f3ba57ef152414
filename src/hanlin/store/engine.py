"""Connections to the database, and the kinds of transaction that the rest of this room uses."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, MissingGreenlet
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from hanlin.errors import StartupError, StoreFailed
from hanlin.words import say

FAILURES = (DBAPIError, NoConnectionLeft, OSError)
"""What a database that is down, locked, full or damaged raises. Anything else is a mistake of ours."""

# The timeout comes first: turning the write-ahead log on needs a lock, too.
_PRAGMAS = ("PRAGMA busy_timeout = 10000", "PRAGMA journal_mode = WAL", "PRAGMA foreign_keys = ON")

_CONNECTIONS = 4
_TURN = "turn"

_log = logging.getLogger(__name__)


def now_utc() -> datetime:
    return datetime.now(UTC)


def connect_file(path: Path) -> AsyncEngine:
    """Return an engine on a SQLite file. Nothing is opened yet."""
    # A URL object, because a path may hold characters that mean something in a URL's text.
    url = URL.create("sqlite+aiosqlite", database=str(path))
    # One writes at a time. Processes ask in ever longer intervals whether it is their turn; in here we stand in line.
    options = {_TURN: asyncio.Lock()}
    engine = create_async_engine(url, pool_size=_CONNECTIONS, max_overflow=_CONNECTIONS, execution_options=options)
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine, "invalidate", _let_go)
    return engine


def connect_server(url: URL) -> AsyncEngine:
    """Return an engine on a PostgreSQL database. Nothing is opened yet. Raises StartupError when it could not be."""
    if url.get_backend_name() != "postgresql":
        raise StartupError(
            say(
                f"{url.render_as_string()}: not a database that is supported. Give a postgresql:// URL",
                f"{url.render_as_string()}：不支持的数据库。请使用 postgresql:// 地址",
            )
        )
    try:
        # Pinged before use, because a server may restart between two calls.
        return create_async_engine(url.set(drivername="postgresql+asyncpg"), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StartupError(
            say(
                "PostgreSQL needs a driver that is not installed: pip install 'hanlin[postgres]'",
                "使用 PostgreSQL 需要安装驱动：pip install 'hanlin[postgres]'",
            )
        ) from error
    except (ArgumentError, TypeError) as error:
        raise StartupError(f"{url.render_as_string()}: {error}") from error


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Read one consistent state. Raises StoreFailed when the database cannot be read."""
    try:
        async with engine.connect() as connection:
            yield connection
    except FAILURES as error:
        raise _failed(error) from error


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Write all or nothing. Raises StoreFailed when the database cannot be written, and lets IntegrityError through."""
    try:
        async with changing(engine) as connection:
            yield connection
    except IntegrityError:
        raise
    except FAILURES as error:
        raise _failed(error) from error


@asynccontextmanager
async def changing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Write all or nothing, tables included. Raises what the database raises: for the time before the service runs."""
    turn = engine.get_execution_options().get(_TURN) or nullcontext()
    async with turn, engine.connect() as plain:
        connection = await plain.execution_options(writes=True)
        async with connection.begin():
            yield connection


def reason(error: Exception) -> str:
    """Return what the database said, without the statement and its values."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        # The asynchronous PostgreSQL driver's own error is one layer deeper.
        return str(error.orig.__cause__ or error.orig)
    return str(error)


def _failed(error: Exception) -> StoreFailed:
    # The caller learns that it failed, the operator why: the reason may name addresses inside the operator's network.
    _log.error("database: %s", reason(error))
    return StoreFailed()


def _set_up(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver would begin transactions before some statements only, and leave changes of tables outside.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _let_go(connection: DBAPIConnection, _record: ConnectionPoolEntry, _error: BaseException | None) -> None:
    # Called for whoever was cancelled while a statement ran. SQLite keeps a closed connection, and its lock, as long as
    # anybody refers to a statement of it; tracebacks do.
    with suppress(MissingGreenlet, sqlite3.Error, ValueError):
        connection.rollback()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes then fails at once if another wrote in between; one that says so at
    # its beginning waits for its turn.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
