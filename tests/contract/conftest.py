"""What contract tests run against. A back end that this machine lacks is announced, never left out in silence."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.postgres import POSTGRES_LACKS, POSTGRES_PROGRAMS, Postgres

NewDatabase = Callable[[], Path | str]
"""Makes an empty database and returns what `open_store` takes."""

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


@pytest.fixture(params=BACK_ENDS)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Every back end in turn."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: tmp_path / f"hanlin-{next(numbers)}.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database
