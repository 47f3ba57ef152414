"""The main process' end of a service with several workers, and lines to it, inside a test's own process."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hanlin.catalogue import load
from hanlin.service.crew.channel import Channel, connect
from hanlin.service.crew.coordinator import Coordinator
from hanlin.service.crew.counting import Counter
from hanlin.service.crew.line import Line
from hanlin.service.crew.messages import Hello, Pulse, Roster, encode_first
from hanlin.service.fleet import Fleet
from hanlin.service.studio import Studio


@dataclass
class Stage:
    """What a coordinator needs of a studio, without a database."""

    deployments: Sequence[Any] = ()
    embedding_deployments: Sequence[Any] = ()
    fleet: Fleet = field(default_factory=Fleet)
    starting: str | None = None
    vectors_coming: str = ""
    accounting: Any = field(default_factory=lambda: SimpleNamespace(has_left=False))
    catalogue: Any = field(default_factory=load)


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.rosters: list[Roster] = []
        self.pulses: list[Pulse] = []
        self.pages_wanted: list[int] = []
        self.drained = asyncio.Event()

    def roster(self, roster: Roster) -> None:
        self.rosters.append(roster)

    def pulse(self, pulse: Pulse) -> None:
        self.pulses.append(pulse)

    def page_wanted(self, number: int) -> None:
        self.pages_wanted.append(number)

    def drain(self) -> None:
        self.drained.set()


class Main:
    """A coordinator on a socket. `join` makes a worker's line, which lives until the block ends or it `hangs_up`."""

    def __init__(self, coordinator: Coordinator, counter: Counter, socket: Path) -> None:
        self.coordinator = coordinator
        self.counter = counter
        self.socket = socket
        self._workers = itertools.count(1)
        self._channels: dict[Line, Channel] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._pushes = coordinator.push

    async def join(
        self, listener: Listener | None = None, *, beat_s: float = 1.0, hears: asyncio.Event | None = None
    ) -> Line:
        """Return a new worker's line; what it is told reaches it from when it `hears`."""
        channel = await connect(self.socket)
        if hears is not None:
            receive = channel.receive

            async def late() -> bytes | None:
                await hears.wait()
                return await receive()

            channel.receive = late  # type: ignore[method-assign]
        channel.send(encode_first(Hello(next(self._workers), 0)))
        line = Line(channel, beat_s=beat_s)
        self._channels[line] = channel
        self._tasks.append(asyncio.create_task(line.run(listener or Listener())))
        return line

    def hangs_up(self, line: Line) -> None:
        """End a line as the death of its worker does."""
        self._channels[line].close()

    def stands_still(self) -> None:
        """Say nothing any more by itself."""
        self._pushes, self.coordinator.push = self.coordinator.push, lambda **_: None  # type: ignore[method-assign]

    def goes_on(self) -> None:
        self.coordinator.push = self._pushes  # type: ignore[method-assign]

    async def close(self) -> None:
        for line in self._channels:
            self.hangs_up(line)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.coordinator.close()


@asynccontextmanager
async def main_process(
    stage: Stage | None = None, counter: Counter | None = None, workers: int = 1
) -> AsyncIterator[Main]:
    """Have a coordinator within the block."""
    # Not below pytest's own folder, whose path may be longer than a socket's may be.
    folder = Path(tempfile.mkdtemp(prefix="hanlin-crew-", dir="/tmp"))
    counter = counter or Counter()
    coordinator = Coordinator(cast(Studio, stage or Stage()), counter, workers, tuple, _page)
    main = Main(coordinator, counter, folder / "workers.sock")
    await coordinator.start(main.socket)
    try:
        yield main
    finally:
        await main.close()
        shutil.rmtree(folder, ignore_errors=True)


async def _page() -> bytes:
    return b"\x90"


async def until(condition: Any, what: str) -> None:
    """Wait until a condition holds in this process."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what the other side of a socket does sets no event here)
            await asyncio.sleep(0.005)
    assert condition(), what
