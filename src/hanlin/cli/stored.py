"""Steps on the database of a home's service."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from hanlin.cli.options import effective
from hanlin.home import Home
from hanlin.service.backends import database_of, open_database, secret_of
from hanlin.store.database import Store, open_store

Result = TypeVar("Result")


def in_store(home: Home, act: Callable[[Store], Awaitable[Result]]) -> Result:
    """Run one step on the database that the settings name. Raises what opening and the step raise."""
    where = database_of(home, effective(home, None).settings)

    async def run() -> Result:
        async with await open_store(where) as store:
            return await act(store)

    return asyncio.run(run())


def with_secret(home: Home, act: Callable[[Store, bytes], Awaitable[Result]]) -> Result:
    """Run one step that hashes a key. Raises as `in_store`, and StartupError where others hash with another secret."""
    settings = effective(home, None).settings
    secret = secret_of(home, settings)

    async def run() -> Result:
        async with await open_database(home, settings, secret) as store:
            return await act(store, secret)

    return asyncio.run(run())


def looked_up(home: Home, act: Callable[[Store], Awaitable[Result]], otherwise: Result) -> Result:
    """Run a step that only looks; `otherwise` for a home without a database: looking at it must not make one."""
    where = database_of(home, effective(home, None).settings)
    return otherwise if isinstance(where, Path) and not where.exists() else in_store(home, act)
