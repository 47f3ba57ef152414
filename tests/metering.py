"""What tests of limits share: a Redis of their own, and a way to look at a state without changing it."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from types import TracebackType

import pytest

from hanlin.metering.limits import Admitted, Demand, Refused, State
from hanlin.metering.reserving import LimitStore, Reservation, decided
from hanlin.testing import free_port, wait_until

PROGRAM = shutil.which("redis-server") or "/usr/bin/redis-server"
LACKS = [
    *([] if os.access(PROGRAM, os.X_OK) else ["a Redis server (Debian: apt install redis-server)"]),
    *([] if importlib.util.find_spec("redis") else ["the package redis (pip install 'redis>=7')"]),
]


class RedisServer:
    """A Redis that keeps nothing on disk, on a port of its own, gone when its block ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.mkdtemp(prefix="hanlin-redis-")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self.process = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.DEVNULL)
        wait_until(self._answers, "Redis answers", 20)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def need_redis(request: pytest.FixtureRequest) -> None:
    """Skip what needs a Redis where there is none, and say so where nobody can miss it."""
    if LACKS:
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.section("NOT TESTED: limits in Redis", sep="!", yellow=True, bold=True)
        pytest.skip(f"missing here: {' and '.join(LACKS)}")


async def take(store: LimitStore, reservation: Reservation, demand: Demand) -> Admitted | Refused:
    """Return a store's decision, as the meter gets it; of budgets nothing was spent before."""
    verdict = await decided(store.take(reservation, demand))
    if not isinstance(verdict, Admitted | Refused):
        for index in verdict.indices:
            store.begin(reservation.subjects[index], reservation.spans[index], 0)
        verdict = await decided(store.take(reservation, demand))
    assert isinstance(verdict, Admitted | Refused)
    if isinstance(verdict, Admitted):
        reservation.holds(verdict, demand)
    return verdict


async def states(store: LimitStore, like: Reservation) -> list[State]:
    """Return the states of a reservation's subjects: of one that asks for far too much of everything."""
    other = Reservation(like.subjects, like.spans)
    verdict = await take(store, other, Demand(10**6, 1, 10**17))
    assert isinstance(verdict, Refused)
    return list(verdict.states)
