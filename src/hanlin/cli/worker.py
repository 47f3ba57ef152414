"""A worker of `hanlin serve --workers N`: it answers on the shared port, and asks the main process for the rest.

Started by `service.crew.processes` as `python -m hanlin.cli.worker`, with its orders as a line of JSON on stdin. It
dies with the main process, however that ends: what it had written is in its journal.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from hanlin import logs
from hanlin.cli.rising import LAST_WORDS_S, spare_the_collector
from hanlin.engines.parent import when_the_parent_dies
from hanlin.errors import HanlinError, StartupError
from hanlin.home import Home
from hanlin.http.app import App
from hanlin.http.gathering import Pages as PagesOfOthers
from hanlin.http.gathering import packed
from hanlin.http.server import Server
from hanlin.http.traces import make_tracer
from hanlin.service import start
from hanlin.service.accounting import Sharing
from hanlin.service.backends import pace_of
from hanlin.service.crew.channel import connect
from hanlin.service.crew.limits import CoordinatedStore
from hanlin.service.crew.line import Away, Line
from hanlin.service.crew.messages import (
    Alive,
    Draining,
    Hello,
    Listening,
    Page,
    Pages,
    PagesAsked,
    Pulse,
    Roster,
    encode_first,
)
from hanlin.service.crew.processes import Orders
from hanlin.service.crew.roster import Adopter
from hanlin.service.probing import Prober
from hanlin.settings import Settings, heard

log = logging.getLogger("hanlin.service")

_FIRST_ROSTER_S = 60.0
_PAGES_S = 5.0


def main() -> None:
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    when_the_parent_dies(signal.SIGKILL)
    if os.getppid() != orders.parent_pid:
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to everybody: the main process decides
        signal.signal(number, signal.SIG_IGN)
    settings = heard(orders.settings)
    logs.set_up(settings.log_format, settings.log_level)
    try:
        uvloop.run(_work(orders, settings))
    except (StartupError, HanlinError, OSError) as problem:
        log.error("worker %d: %s", orders.worker, str(problem) or type(problem).__name__)
        sys.exit(1)


async def _work(orders: Orders, settings: Settings) -> None:
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    socket = Path(orders.socket)
    channel = await connect(socket)
    line = Line(channel)
    limits = None if settings.redis.reveal() else CoordinatedStore(line, pace_of(settings))
    studio = await start.open_studio(Home(Path(orders.home)), settings, Sharing(limits, takes_over=False))
    tracer = make_tracer()
    app = App(studio, tracer, _Others(line, str(orders.worker)))
    adopter = Adopter(studio, line, socket, orders.worker, orders.workers)
    listener = _Listener(app, line, adopter, told_to_end)
    server = Server(app, orders.host, orders.port, shared=True)
    channel.send(encode_first(Hello(orders.worker, os.getpid())))
    dying = asyncio.create_task(_die_after(line))
    tasks = [asyncio.create_task(line.run(listener)), dying]
    try:
        async with asyncio.timeout(_FIRST_ROSTER_S):
            await adopter.adopted.wait()
        await studio.load_recipes()
        await server.start()
        line.tell(Listening())
        tasks.extend(map(asyncio.create_task, (Prober(studio).run(), studio.run_files(tidies=False))))
        spare_the_collector()
        await told_to_end.wait()
        studio.stopping = True
        line.tell(Draining(app.open_calls))
        if await server.drain(settings.shutdown_s):
            app.cut()
            await server.drain(LAST_WORDS_S)
        dying.cancel()
    finally:
        await server.stop()
        await listener.close()
        await adopter.close()
        await studio.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tracer is not None:
            await asyncio.to_thread(tracer.close, LAST_WORDS_S)


async def _die_after(line: Line) -> None:
    """End as a service of one process ends that is killed: what is under way is in the journal, as interrupted."""
    await line.over.wait()
    os._exit(1)


class _Listener:
    """Does what the main process says."""

    def __init__(self, app: App, line: Line, adopter: Adopter, told_to_end: asyncio.Event) -> None:
        self._app = app
        self._line = line
        self._adopter = adopter
        self._told_to_end = told_to_end
        self._tasks: set[asyncio.Task[None]] = set()

    def roster(self, roster: Roster) -> None:
        self._adopter.roster(roster)

    def pulse(self, pulse: Pulse) -> None:
        self._adopter.pulse(pulse)
        self._line.tell(Alive())

    def page_wanted(self, number: int) -> None:
        task = asyncio.create_task(self._send_page(number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drain(self) -> None:
        self._told_to_end.set()

    async def _send_page(self, number: int) -> None:
        metrics = self._app.metrics
        metrics.read()
        self._line.tell(Page(number, await asyncio.to_thread(packed, metrics.registry)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Others:
    """The other processes of the service, asked by way of the main one."""

    def __init__(self, line: Line, here: str) -> None:
        self.here = here
        self._line = line

    async def pages(self) -> PagesOfOthers:
        """Return what they count; only that the main process is silent, when it is."""
        try:
            answer = await self._line.ask(PagesAsked(self._line.number()), _PAGES_S)
        except Away:
            return {"main": None}
        assert isinstance(answer, Pages)
        return answer.pages


if __name__ == "__main__":
    main()
