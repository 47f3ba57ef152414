"""The crew of worker processes by itself: who dies is replaced, who is stuck is killed, and nobody is left over."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from hanlin.errors import StartupError
from hanlin.service.crew.coordinator import Coordinator
from hanlin.service.crew.processes import Crew, Orders
from hanlin.settings import Settings, told
from tests.crew import until


class Stub:
    """What a crew asks of a coordinator."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.served = True
        self.stuck = False

    def listens(self, _worker: int) -> bool:
        return self.served

    def has_served(self, _worker: int) -> bool:
        return self.served

    def is_stuck(self, _worker: int) -> bool:
        return self.stuck


@pytest.fixture
async def socket() -> AsyncIterator[Path]:
    """Somebody takes the workers' connections, and never says a word."""
    folder = Path(tempfile.mkdtemp(prefix="hanlin-crew-", dir="/tmp"))
    silent = asyncio.Event()

    async def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_unix_server(take, folder / "workers.sock")
    yield folder / "workers.sock"
    server.close()
    silent.set()
    await asyncio.sleep(0)
    shutil.rmtree(folder, ignore_errors=True)


def crew_of(socket: Path, home: Path, deaths: list[int]) -> Crew:
    (home / "journal").mkdir(parents=True, exist_ok=True)
    (home / "run").mkdir(exist_ok=True)

    def orders(worker: int) -> Orders:
        return Orders(
            worker=worker,
            workers=2,
            parent_pid=os.getpid(),
            home=str(home),
            socket=str(socket),
            host="127.0.0.1",
            port=0,
            settings=told(Settings()),
        )

    return Crew(2, orders, lambda: deaths.append(1))


async def ended(crew: Crew, running: "asyncio.Task[None]", found: set[int]) -> None:
    """End a crew, and see that none of its processes is left."""
    await crew.end(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    pids = found | {state.pid for state in crew.states()}
    await until(lambda: not any(map(psutil.pid_exists, pids)), "all are gone")


async def test_a_process_that_dies_or_is_stuck_is_replaced(socket: Path, tmp_path: Path) -> None:
    """A frozen one holds its part of the port: its callers would wait for ever."""
    stub, deaths = Stub(), list[int]()
    crew = crew_of(socket, tmp_path / "home", deaths)
    running = asyncio.create_task(crew.run(cast(Coordinator, stub)))
    await until(lambda: all(state.pid for state in crew.states()), "both are started")
    first = {state.pid for state in crew.states()}

    psutil.Process(crew.states()[0].pid).kill()
    await until(lambda: crew.states()[0].restarts == 1, "the dead one is replaced")
    assert crew.states()[1].restarts == 0
    stub.stuck = True
    await until(lambda: crew.states()[1].restarts >= 1, "the stuck one is replaced")

    assert len(deaths) >= 2
    await ended(crew, running, first)


async def test_those_that_can_never_start_end_the_start(tmp_path: Path) -> None:
    """With three tries; the log has what they said."""
    stub: Any = Stub()
    stub.served = False
    crew = crew_of(tmp_path / "nobody.sock", tmp_path / "home", [])

    with pytest.raises(StartupError, match="cannot start"):
        await crew.run(stub)
    await crew.end(0)
