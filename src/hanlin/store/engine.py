"""Connections to the database, and the kinds of transaction that the rest of this room uses.

Nothing waits for ever on a server that hangs, be it stopped, overloaded or behind a network that swallows: each
transaction has a deadline, the connection of one that missed it is cut, and whoever asked gets StoreFailed. A file is
on this machine; SQLite has its own deadline for the right to write.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection, IsolationLevel
from sqlalchemy.exc import DBAPIError, IntegrityError, MissingGreenlet
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from hanlin.errors import StartupError, StoreFailed
from hanlin.words import say

FAILURES = (DBAPIError, NoConnectionLeft, OSError)
"""What a database that is down, locked, full or damaged raises. Anything else is a mistake of ours."""

# The timeout comes first: turning the write-ahead log on needs a lock, too.
_PRAGMAS = ("PRAGMA busy_timeout = 10000", "PRAGMA journal_mode = WAL", "PRAGMA foreign_keys = ON")

ANSWER_S = 5.0
"""How long a transaction may take that reads or writes a few rows: milliseconds on a server that is well."""

BULK_S = 10.0
LONG_S = 60.0
"""The same for one that writes many, and for a question about all of them."""

MIGRATION_S = 3600.0

_CLOSE_S = 0.5
_IDLE_S = 30
"""After how long the server ends a transaction in which nothing happens: a service that was stopped in the middle of
one must not keep the others from the rows that it holds."""

_CONNECTIONS = 4
_MANNERS = "manners"
_SAID_AGAIN_S = 10.0

_OPTIONS = frozenset({"host", "port", "ssl"})

_log = logging.getLogger(__name__)


class Manners:
    """How one database is treated, and how often it failed.

    `turn` is what writers of this process wait for, `snapshot` the isolation in which several statements read one state
    (None: any does).
    """

    def __init__(
        self, turn: AbstractAsyncContextManager[Any], *, has_deadlines: bool, snapshot: IsolationLevel | None = None
    ) -> None:
        self.turn = turn
        self.snapshot = snapshot
        self.failures = 0
        self._has_deadlines = has_deadlines
        self._said = ""
        self._said_at = 0.0

    def deadline(self, limit_s: float) -> asyncio.Timeout:
        return asyncio.timeout(limit_s if self._has_deadlines else None)

    def failed(self, error: Exception) -> StoreFailed:
        """Return what the caller learns. The operator learns why, in the log, but not for each of a thousand calls."""
        self.failures += 1
        why, now = reason(error), time.monotonic()
        if why != self._said or now - self._said_at >= _SAID_AGAIN_S:
            _log.error("database: %s", why)
            self._said, self._said_at = why, now
        return StoreFailed()


def manners(engine: AsyncEngine) -> Manners:
    """Return how an engine's database is treated."""
    found: Manners = engine.get_execution_options()[_MANNERS]
    return found


def now_utc() -> datetime:
    return datetime.now(UTC)


def connect_file(path: Path) -> AsyncEngine:
    """Return an engine on a SQLite file. Nothing is opened yet."""
    # A URL object, because a path may hold characters that mean something in a URL's text.
    url = URL.create("sqlite+aiosqlite", database=str(path))
    # One writes at a time. Processes ask in ever longer intervals whether it is their turn; in here we stand in line.
    options = {_MANNERS: Manners(asyncio.Lock(), has_deadlines=False)}
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
                f"{shown(url)}: not a database that is supported. Give a postgresql:// URL",
                f"{shown(url)}：不支持的数据库。请使用 postgresql:// 地址",
            )
        )
    options = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
    if unknown := sorted(options.keys() - _OPTIONS):
        raise StartupError(
            say(
                f"{shown(url)}: {unknown[0]!r} is not an option that is known: host, port, sslmode",
                f"{shown(url)}：未知选项 {unknown[0]!r}，可用：host、port、sslmode",
            )
        )
    kind = _connection_class()
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=options),
        pool_pre_ping=True,  # a server may restart between two calls
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        execution_options={_MANNERS: Manners(nullcontext(), has_deadlines=True, snapshot="REPEATABLE READ")},
        # What ends a transaction is outside of its deadline, and has this one.
        connect_args={"connection_class": kind, "timeout": ANSWER_S, "command_timeout": MIGRATION_S},
    )
    event.listen(engine.sync_engine, "connect", _greet)
    return engine


def _connection_class() -> type[Any]:
    try:
        from asyncpg import Connection  # an extra: most services are alone
    except ModuleNotFoundError as error:
        raise StartupError(
            say(
                "PostgreSQL needs a driver that is not installed: pip install 'hanlin[postgres]'",
                "使用 PostgreSQL 需要安装驱动：pip install 'hanlin[postgres]'",
            )
        ) from error

    class Cut(Connection):  # type: ignore[misc]  # the driver has no types
        """One that is closed within a time, whatever its server does: the driver would wait for a cancelled query."""

        async def close(self, *, timeout: float | None = None) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await super().close(timeout=timeout)

    return Cut


def shown(url: URL) -> str:
    """Return a database's address for messages: no password, wherever it stands."""
    host = url.query.get("host")
    return url.set(query={} if host is None else {"host": host}).render_as_string()


@asynccontextmanager
async def reading(engine: AsyncEngine, limit_s: float = ANSWER_S) -> AsyncIterator[AsyncConnection]:
    """Read one consistent state. Raises StoreFailed when the database cannot be read, or not in time."""
    its = manners(engine)
    try:
        async with its.deadline(limit_s), engine.connect() as connection:
            yield await connection.execution_options(isolation_level=its.snapshot) if its.snapshot else connection
    except FAILURES as error:
        raise its.failed(error) from error


@asynccontextmanager
async def writing(engine: AsyncEngine, limit_s: float = ANSWER_S) -> AsyncIterator[AsyncConnection]:
    """Write all or nothing. Lets IntegrityError through.

    Raises StoreFailed when the database cannot be written, or says so too late: then nobody knows whether it was.
    """
    try:
        async with changing(engine, limit_s) as connection:
            yield connection
    except IntegrityError:
        raise
    except FAILURES as error:
        raise manners(engine).failed(error) from error


@asynccontextmanager
async def changing(engine: AsyncEngine, limit_s: float) -> AsyncIterator[AsyncConnection]:
    """Write all or nothing, tables included. Raises what the database raises: for the time before the service runs."""
    its = manners(engine)
    async with its.turn, its.deadline(limit_s), engine.connect() as plain:
        connection = await plain.execution_options(writes=True)
        async with connection.begin():
            yield connection


def reason(error: Exception) -> str:
    """Return what the database said, without the statement and its values."""
    if isinstance(error, TimeoutError | NoConnectionLeft):
        return say("no answer in time", "未及时响应")
    if isinstance(error, DBAPIError) and error.orig is not None:
        # The asynchronous PostgreSQL driver's own error is one layer deeper.
        return str(error.orig.__cause__ or error.orig)
    return str(error)


def _greet(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # By a statement, because a pooler in between would refuse it among the parameters of a connection.
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_S}s'")
    cursor.close()
    connection.commit()


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
