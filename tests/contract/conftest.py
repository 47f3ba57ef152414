"""What contract tests run against. A back end that this machine lacks is announced, never left out in silence."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

NewDatabase = Callable[[], Path | str]
"""Makes an empty database and returns what `open_store` takes."""


def _postgres_programs() -> Path | None:
    """Return the folder of a PostgreSQL server on this machine: Debian keeps them out of PATH."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]
    return next((Path(program).resolve().parent for program in found if program is not None), None)


POSTGRES_PROGRAMS = _postgres_programs()
POSTGRES_LACKS = [
    *(["a PostgreSQL server (Debian: apt install postgresql)"] if POSTGRES_PROGRAMS is None else []),
    *(["the driver asyncpg (pip install asyncpg)"] if importlib.util.find_spec("asyncpg") is None else []),
]
BACK_ENDS = ["sqlite"] if POSTGRES_LACKS else ["sqlite", "postgresql"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if POSTGRES_LACKS:
        terminalreporter.section("NOT TESTED: PostgreSQL", sep="!", yellow=True, bold=True)
        terminalreporter.line(f"The store was tested on SQLite alone. Missing here: {' and '.join(POSTGRES_LACKS)}.")


class Postgres:
    """A PostgreSQL server of our own, reachable through a socket in its folder, gone when the tests are."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._names = (f"hanlin_{number}" for number in count())
        # Not below pytest's own folder, whose path may be longer than a socket's may be.
        self._folder = Path(tempfile.mkdtemp(prefix="hanlin-postgres-", dir="/tmp"))
        self._user: str | None = None
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            self._user = "nobody"
            os.chown(self._folder, pwd.getpwnam("nobody").pw_uid, -1)
        self._do(
            "initdb", "--username=hanlin", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", self._data
        )
        settings = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "fsync": "off"}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = str(self._folder / "log")
        self._do("pg_ctl", "start", "--wait", f"--pgdata={self._data}", f"--log={log}", f"--options={options}")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _do(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, user=self._user, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = next(self._names)
        self._do("createdb", f"--host={self._folder}", "--username=hanlin", name)
        return f"postgresql://hanlin@/{name}?host={self._folder}"

    def stop(self) -> None:
        self._do("pg_ctl", "stop", "--mode=immediate", "--wait", f"--pgdata={self._data}")
        shutil.rmtree(self._folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    assert POSTGRES_PROGRAMS is not None
    server = Postgres(POSTGRES_PROGRAMS)
    yield server
    server.stop()


@pytest.fixture(params=BACK_ENDS)
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Every back end in turn."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: tmp_path / f"hanlin-{next(numbers)}.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database
