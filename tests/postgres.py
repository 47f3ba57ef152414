"""A PostgreSQL server of the tests' own, which can be stopped, hung and started again."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pytest


def _postgres_programs() -> Path | None:
    """Return the folder of a PostgreSQL server on this machine: Debian keeps them out of PATH."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]
    return next((Path(program).resolve().parent for program in found if program is not None), None)


POSTGRES_PROGRAMS = _postgres_programs()
POSTGRES_LACKS = [
    *(["a PostgreSQL server (Debian: apt install postgresql)"] if POSTGRES_PROGRAMS is None else []),
    *(["the driver asyncpg (pip install asyncpg)"] if importlib.util.find_spec("asyncpg") is None else []),
]


class Postgres:
    """A PostgreSQL server, reachable through a socket in its folder, gone when the tests are."""

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
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _do(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, user=self._user, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def database(self, like: str = "") -> str:
        """Make an empty database, or one that is `like` that of a URL, and return its URL."""
        name = next(self._names)
        template = [f"--template={like.partition('@/')[2].partition('?')[0]}"] if like else []
        self._do("createdb", f"--host={self._folder}", "--username=hanlin", *template, name)
        return f"postgresql://hanlin@/{name}?host={self._folder}"

    def start(self) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": str(self._folder), "fsync": "off"}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        log = str(self._folder / "log")
        self._do("pg_ctl", "start", "--wait", f"--pgdata={self._data}", f"--log={log}", f"--options={options}")

    def stop(self) -> None:
        """End it as a crash would; what is stored stays."""
        self._do("pg_ctl", "stop", "--mode=immediate", "--wait", f"--pgdata={self._data}")

    def hang(self) -> None:
        """Have all of it do nothing, with its sockets open, until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        server = psutil.Process(int((self._folder / "data/postmaster.pid").read_text().split()[0]))
        for process in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def remove(self) -> None:
        if (self._folder / "data/postmaster.pid").exists():
            self.go_on()
            self.stop()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def need_postgres(request: pytest.FixtureRequest) -> None:
    """Skip what needs a PostgreSQL where there is none, and say so where nobody can miss it."""
    if POSTGRES_LACKS:
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.section("NOT TESTED: PostgreSQL", sep="!", yellow=True, bold=True)
        pytest.skip(f"missing here: {' and '.join(POSTGRES_LACKS)}")
