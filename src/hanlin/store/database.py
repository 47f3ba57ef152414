"""Open a database, at the tables of this release, and close it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine

from hanlin.errors import StartupError
from hanlin.home import cannot_use
from hanlin.store.audit import Audit
from hanlin.store.contents import Contents
from hanlin.store.engine import FAILURES, connect_file, connect_server, manners, reason, shown
from hanlin.store.files import Files
from hanlin.store.keys import Keys
from hanlin.store.ledger import Ledger
from hanlin.store.migrate import MIGRATIONS, bring_to, bring_up_to_date
from hanlin.store.model_limits import LimitsOfModels
from hanlin.store.prices import Prices
from hanlin.store.secret import SecretMark
from hanlin.store.workspaces import Workspaces
from hanlin.words import say


class Store:
    """An open database and what is kept in it. Its connections end with `close` or the `async with` block."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.keys = Keys(engine)
        self.workspaces = Workspaces(engine)
        self.limits = LimitsOfModels(engine)
        self.ledger = Ledger(engine)
        self.contents = Contents(engine)
        self.files = Files(engine)
        self.prices = Prices(engine)
        self.audit = Audit(engine)
        self.secret = SecretMark(engine)

    @property
    def failures(self) -> int:
        """How often the database did not do what it was asked, or not in time."""
        return manners(self._engine).failures

    async def close(self) -> None:
        await self._engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def open_store(where: Path | str, migrations: Path = MIGRATIONS) -> Store:
    """Open a SQLite file (a path) or a PostgreSQL database (a URL), made or migrated to the tables of this release.

    A SQLite file is made for its owner only. Before it is migrated it is copied to `<file>.before-<revision>`. Raises
    StartupError when the database cannot be reached or read, is damaged, or was migrated by a newer release.
    """
    async with _connected(where) as (engine, name, file):
        await bring_up_to_date(engine, name, file, migrations)
        return Store(engine)


async def migrate(where: Path | str, revision: str, migrations: Path = MIGRATIONS) -> None:
    """Bring a database to the tables of a revision, forward or back: an older release runs on those of its own.

    What was there at that revision stays; what came after it goes, a SQLite file being copied before. Nobody else may
    have the database open. Raises StartupError as `open_store` does, and for a revision that is not known.
    """
    async with _connected(where) as (engine, name, file):
        await bring_to(engine, name, file, migrations, revision)
        await engine.dispose()


@asynccontextmanager
async def _connected(where: Path | str) -> AsyncIterator[tuple[AsyncEngine, str, Path | None]]:
    """Yield an engine, the database's name for messages, and its file. The engine is disposed of after a failure.

    What the database raises becomes a StartupError.
    """
    if isinstance(where, Path):
        _make(where)
        engine, name, file = connect_file(where), str(where), where
    else:
        url = _url(where)
        engine, name, file = connect_server(url), shown(url), None
    try:
        yield engine, name, file
    except FAILURES as error:
        await engine.dispose()
        raise _unusable(name, file, error) from error
    except BaseException:
        await engine.dispose()
        raise


def _url(where: str) -> URL:
    try:
        if where.count("@") > 1:  # what follows the first would be taken for a host, and shown
            raise ValueError
        return make_url(where)
    except (ArgumentError, ValueError):
        # The text itself is not repeated, nor what the library says of it: it may hold a password.
        raise StartupError(
            say(
                "the database's address is not a URL. Give postgresql://USER:PASSWORD@HOST/DATABASE; in a password, "
                "characters such as / @ # are written as %2F %40 %23",
                "数据库地址不是有效的 URL。格式为 postgresql://用户:密码@主机/数据库；"
                "密码中的 / @ # 等字符须写作 %2F %40 %23",
            )
        ) from None


def _make(file: Path) -> None:
    """Make an empty file before SQLite does: it would let others read it."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise cannot_use(file, error) from error


def _unusable(where: str, file: Path | None, error: Exception) -> StartupError:
    why = reason(error)
    if file is None:
        return StartupError(
            say(
                f"{where}: the database cannot be used: {why}. See that the server runs and takes this user",
                f"{where}：无法使用数据库：{why}。请确认数据库服务正在运行且允许该用户访问",
            )
        )
    return StartupError(
        say(
            f"{where}: the database cannot be used: {why}. Restore it from a backup (before a migration one is made: "
            f"{file.name}.before-*), or move it away: a new one is made, and keys must be added again",
            f"{where}：无法使用数据库：{why}。请从备份恢复（迁移前的备份为 {file.name}.before-*），"
            "或将其移走：会新建数据库，需重新添加密钥",
        )
    )
