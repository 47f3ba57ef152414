"""What contract tests run against. A back end that this machine lacks is announced, never left out in silence."""

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from hanlin.store.database import open_store
from tests.postgres import POSTGRES_LACKS, POSTGRES_PROGRAMS, Postgres

NewDatabase = Callable[[], Path | str]
"""Makes an empty database and returns what `open_store` takes."""

Databases = dict[str, Path | str]

BACK_ENDS = ["sqlite"] if POSTGRES_LACKS else ["sqlite", "postgresql"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if POSTGRES_LACKS:
        terminalreporter.section("NOT TESTED: PostgreSQL", sep="!", yellow=True, bold=True)
        terminalreporter.line(f"The store was tested on SQLite alone. Missing here: {' and '.join(POSTGRES_LACKS)}.")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    assert POSTGRES_PROGRAMS is not None
    with Postgres(POSTGRES_PROGRAMS) as server:
        yield server


@pytest.fixture(scope="session")
def made_once() -> Databases:
    """Databases with all of today's tables, by their back end, to make others like them: steps take half a second."""
    return {}


@pytest.fixture(params=BACK_ENDS)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Every back end in turn."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: tmp_path / f"hanlin-{next(numbers)}.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database


@pytest.fixture(params=BACK_ENDS)
async def ready_database(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, made_once: Databases
) -> Path | str:
    """A database of every back end in turn, with all of today's tables, as `open_store` makes it."""
    kind: str = request.param
    server: Postgres | None = None if kind == "sqlite" else request.getfixturevalue("postgres")
    if kind not in made_once:
        made_once[kind] = tmp_path_factory.mktemp("ready") / "hanlin.db" if server is None else server.database()
        async with await open_store(made_once[kind]):
            pass
    if server is not None:
        return server.database(like=str(made_once[kind]))
    return Path(shutil.copy(made_once[kind], tmp_path / "hanlin-ready.db"))
