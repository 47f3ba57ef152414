"""Bring a database to the tables of this release, or of another one, or say why that cannot be.

All steps that lead there run in one transaction: a process that dies on the way leaves the database as it was.
"""

import logging
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from hanlin.errors import StartupError
from hanlin.store.engine import ANSWER_S, MIGRATION_S, changing, manners
from hanlin.store.tables import metadata
from hanlin.words import say

MIGRATIONS = Path(__file__).parent / "migrations"

_VERSION_TABLE = "alembic_version"

# Any number will do, as long as every release of ours takes the same.
_POSTGRES_TURN = "SELECT pg_advisory_xact_lock(7236218641)"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """What a database holds: the revision of its tables (None before the first), and the names of ours that exist."""

    revision: str | None
    tables: frozenset[str]


@dataclass(frozen=True)
class Steps:
    """Revisions to make, oldest first, or to undo, newest first."""

    forward: tuple[str, ...] = ()
    back: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.forward or self.back)


def revisions(folder: Path) -> tuple[str, ...]:
    """Return the names of all packaged revisions, oldest first."""
    return tuple(sorted(file.stem for file in folder.glob("[0-9][0-9][0-9][0-9]_*.py")))


def lacking(contents: Contents, known: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the revisions that a database lacks, oldest first.

    Raises StartupError for a database that a newer release has migrated, and for one with tables of our names that
    are not ours.
    """
    if contents.revision in known:
        return tuple(known[known.index(contents.revision) + 1 :])
    if contents.revision is not None:
        raise StartupError(
            say(
                f"{where}: the database is newer than this Hanlin: it is at {contents.revision!r}, and the newest "
                f"known here is {known[-1]!r}. Install the newer Hanlin again, or restore the backup that it made",
                f"{where}：数据库比当前 Hanlin 更新：数据库版本为 {contents.revision!r}，"
                f"当前已知的最新版本为 {known[-1]!r}。请重新安装较新的 Hanlin，或恢复其升级前所做的备份",
            )
        )
    if contents.tables:
        names = ", ".join(sorted(contents.tables))
        raise StartupError(
            say(
                f"{where}: holds tables that Hanlin did not make ({names}). Give Hanlin a database of its own",
                f"{where}：其中有并非由 Hanlin 创建的表（{names}）。请为 Hanlin 提供独立的数据库",
            )
        )
    return tuple(known)


def steps_to(revision: str, contents: Contents, known: Sequence[str], where: str) -> Steps:
    """Return the steps that lead a database to a revision, or back to it.

    Raises StartupError as `lacking` does, and for a revision that is not known.
    """
    if revision not in known:
        raise StartupError(
            say(
                f"{revision}: no such revision. This Hanlin knows {', '.join(known)}",
                f"{revision}：没有此版本。当前 Hanlin 支持的版本为 {', '.join(known)}",
            )
        )
    missing = lacking(contents, known, where)
    wanted = known.index(revision)
    there = len(known) - len(missing) - 1
    if wanted >= there:
        return Steps(forward=tuple(known[there + 1 : wanted + 1]))
    return Steps(back=tuple(reversed(known[wanted + 1 : there + 1])))


async def bring_up_to_date(engine: AsyncEngine, where: str, file: Path | None, folder: Path) -> None:
    """Run the steps that the database lacks. A SQLite `file` that has tables is copied beside itself before.

    `where` names the database in messages. Raises StartupError, and what a database that is down raises.
    """
    await bring_to(engine, where, file, folder, revisions(folder)[-1])


async def bring_to(engine: AsyncEngine, where: str, file: Path | None, folder: Path, revision: str) -> None:
    """Run the steps that lead to a revision, forward or back, as `bring_up_to_date` does."""
    known = revisions(folder)
    async with manners(engine).deadline(ANSWER_S), engine.connect() as connection:
        if not steps_to(revision, await connection.run_sync(_contents), known, where):
            return
    async with changing(engine, MIGRATION_S) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text(_POSTGRES_TURN))
        # Looked at again, because another process may have had its turn before us.
        contents = await connection.run_sync(_contents)
        steps = steps_to(revision, contents, known, where)
        if not steps:
            return
        if contents.revision is not None and file is not None:
            copy = _back_up(file, revision)
            _log.info("%s: migrating from %s to %s, the old state is in %s", where, contents.revision, revision, copy)
        await connection.run_sync(run, folder, steps)


def _contents(connection: Connection) -> Contents:
    names = set(inspect(connection).get_table_names())
    revision = None
    if _VERSION_TABLE in names:
        revision = connection.scalar(text(f"SELECT version_num FROM {_VERSION_TABLE}"))  # noqa: S608 - a constant
    return Contents(revision, frozenset(names & metadata.tables.keys()))


def _back_up(file: Path, revision: str) -> Path:
    """Copy a database, with what is still in its write-ahead log, to `<file>.before-<revision>`.

    Called while we hold the right to write: readers see the last state before ours. A copy of an earlier attempt is
    replaced.
    """
    copy = file.with_name(f"{file.name}.before-{revision}")
    unfinished = copy.with_name(f"{copy.name}.tmp")
    try:
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(unfinished)) as target:
                source.backup(target)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        unfinished.replace(copy)
    except (OSError, sqlite3.Error) as error:
        raise StartupError(
            say(
                f"{copy}: the backup before the migration cannot be written: {error}. Free some space and start again",
                f"{copy}：无法写入迁移前的备份：{error}。请释放空间后重新启动",
            )
        ) from error
    return copy


def run(connection: Connection, folder: Path, steps: Steps) -> None:
    """Take steps inside the connection's transaction."""
    # Alembic takes about 100 ms and 11 MB, which a start with an up-to-date database does not have to pay.
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    known = revisions(folder)
    scripts = ScriptDirectory(folder, version_locations=[folder])
    context = MigrationContext.configure(connection)
    with Operations.context(context):
        for step in steps.forward:
            scripts.get_revision(step).module.upgrade()
            context.stamp(scripts, step)
        for step in steps.back:
            scripts.get_revision(step).module.downgrade()
            older = known.index(step) - 1
            context.stamp(scripts, known[older] if older >= 0 else "base")
