"""The main process of `hanlin serve --workers N`: what is one of a kind, and the workers that answer."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from hanlin.cli import show
from hanlin.cli.rising import LAST_WORDS_S, Start, reloader, rise, until_told, url_of
from hanlin.home import Home, HomeLock
from hanlin.http.app import accounts_of, gauges
from hanlin.http.gathering import packed
from hanlin.http.metrics import DeploymentState, Metrics
from hanlin.http.server import free_address, reserved
from hanlin.metering.memory import MemoryStore
from hanlin.service import start
from hanlin.service.accounting import ALONE, Sharing
from hanlin.service.backends import pace_of
from hanlin.service.crew.coordinator import Coordinator
from hanlin.service.crew.counting import Counter
from hanlin.service.crew.processes import Crew, Orders
from hanlin.service.studio import Studio
from hanlin.settings import Settings, told
from hanlin.words import say

_COUNTED_S = 0.5
_ENDING_S = 15.0
"""How much longer than its calls a worker may take to end: its rows go into the database meanwhile."""


async def serve_crew(home: Home, settings: Settings, held: HomeLock, file: Path, read: Callable[[], Settings]) -> None:
    """Serve with several workers until a signal ends it. Raises StartupError and WeightsError."""
    began = time.monotonic()
    counter = Counter(MemoryStore(pace_of(settings)))
    # A Redis counts for all of them, and is asked by each.
    sharing = ALONE if settings.redis.reveal() else Sharing(counter.store, found=counter.found)
    studio = await start.open_studio(home, settings, sharing)
    key = await start.first_key(studio.store, studio.keyring.secret, settings)
    address, port = free_address(settings.host, settings.port)
    url, path = url_of(settings, port), start.socket(home, "workers")
    crew = Crew(settings.workers, _orders(home, settings, path, address, port), studio.accounting.take_over)
    coordinator = Coordinator(studio, counter, settings.workers, crew.states, _page_of(studio))

    def tell(text: str) -> None:
        coordinator.push()  # before anybody can read that it is in force
        show.note(text)

    following = reloader(home, studio, file, read, tell)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, following.ask)
    watching: list[asyncio.Task[None]] = []

    def watch() -> None:
        watched = (following.run(), studio.retention.run(), studio.run_files(reads=False))
        watching.extend(map(asyncio.create_task, watched))

    async def announce() -> None:
        await crew.listening(coordinator)
        held.announce(url)

    async def all_know() -> None:
        while not coordinator.is_up:
            coordinator.changed.clear()
            await coordinator.changed.wait()
        coordinator.push()

    with reserved(address, port):
        try:
            await coordinator.start(path)
            keeping = asyncio.create_task(crew.run(coordinator))
            rising = asyncio.create_task(rise(home, studio, Start(url, key, began, watch, all_know)))
            announcing = asyncio.create_task(announce())
            watching.extend((keeping, rising, announcing))
            await until_told(rising, announcing, keeping)
            rising.cancel()
            await _drain(studio, crew, coordinator)
        finally:
            await crew.end(0)
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            await coordinator.close()
            await studio.close()


def _orders(home: Home, settings: Settings, path: Path, address: str, port: int) -> Callable[[int], Orders]:
    def orders(worker: int) -> Orders:
        return Orders(
            worker=worker,
            workers=settings.workers,
            parent_pid=os.getpid(),
            home=str(home.path),
            socket=str(path),
            host=address,
            port=port,
            settings=told(settings),
        )

    return orders


async def _drain(studio: Studio, crew: Crew, coordinator: Coordinator) -> None:
    """Have the workers finish their calls, while the engines and limits that these need are still here."""
    studio.stopping = True
    limit_s = studio.settings.shutdown_s
    coordinator.drain()
    ending = asyncio.create_task(crew.end(limit_s + LAST_WORDS_S + _ENDING_S))
    if calls := await coordinator.draining_calls(_COUNTED_S):
        show.note(
            say(
                f"finishing {calls} open calls, at most {limit_s:g} s",
                f"正在完成 {calls} 个未结束的调用，最多 {limit_s:g} 秒",
            )
        )
    await ending


def _page_of(studio: Studio) -> Callable[[], Awaitable[bytes]]:
    """Return what makes the main process' page of metrics: it answers no calls, and tells of what it runs itself."""

    def own() -> list[DeploymentState]:
        rows = {member.row.name for member in studio.fleet.members if not member.row.engine}
        return [gauges(studio, one) for one in studio.deployments if one.name not in rows]

    metrics = Metrics(lambda _: False, own, accounts=lambda: accounts_of(studio))

    async def page() -> bytes:
        return await asyncio.to_thread(packed, metrics.registry)

    return page
