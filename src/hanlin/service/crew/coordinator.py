"""The main process' end: answers what workers ask, runs engines for them, and tells them what is going on."""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from hanlin.errors import HanlinError
from hanlin.home import cannot_use
from hanlin.routing.capacity import Capacity
from hanlin.service.crew import roster
from hanlin.service.crew.answering import deployment, gone, serve_call
from hanlin.service.crew.channel import Channel
from hanlin.service.crew.counting import Counter
from hanlin.service.crew.failures import failure_of
from hanlin.service.crew.messages import (
    Adopted,
    Alive,
    Begin,
    Charge,
    Drain,
    Draining,
    Heard,
    Hello,
    Leave,
    Listening,
    Page,
    Pages,
    PagesAsked,
    PageWanted,
    Place,
    Placed,
    ProcessState,
    Pulse,
    Refused,
    Roster,
    Settle,
    Surface,
    Take,
    Told,
    decode_first,
    decode_told,
    encode,
)
from hanlin.service.studio import Studio
from hanlin.words import say

log = logging.getLogger("hanlin.service")

MAIN = "main"
"""What the main process is called among those who count."""

_PUSH_EVERY_S = 0.1
_LOOKS_A_BEAT = 10
_STUCK_BEATS = 30
_PAGE_S = 2.0
_UNREAD_BYTES = 1024 * 1024
"""A worker that stands still is told nothing new while so much waits for it; once it goes on, it hears the latest."""

_BACKLOG = 1024


class Desk:
    """One worker's line, and the places that its calls have or wait for. `life` tells it from those before it."""

    def __init__(self, worker: int, life: int, channel: Channel) -> None:
        self.worker = worker
        self.life = life
        self.adopted = -1
        self.listens = False
        self.draining: int | None = None
        self.unanswered = 0
        self.pages: dict[int, asyncio.Future[bytes]] = {}
        self._channel = channel
        self._told: dict[type[Heard], Heard] = {}
        self._held: dict[int, Capacity] = {}
        self._waiting: dict[int, asyncio.Task[None]] = {}

    def tell(self, message: Heard) -> None:
        self._channel.send(encode(message))

    def tell_news(self, news: Roster | Pulse, *, anyway: bool = False) -> None:
        """Say what the worker does not know yet, or `anyway`."""
        if (anyway or self._told.get(type(news)) != news) and self._channel.unsent_bytes < _UNREAD_BYTES:
            self._told[type(news)] = news
            self.tell(news)

    def place(self, asked: Place, capacity: Capacity | None) -> None:
        """Give a call its place, now or when its turn has come."""
        if capacity is None:
            self.tell(Refused(asked.number, failure_of(gone(asked.deployment))))
        elif capacity.try_acquire():
            self._held[asked.number] = capacity
            self.tell(Placed(asked.number))
        else:
            waiting = asyncio.create_task(self._wait(asked, capacity))
            self._waiting[asked.number] = waiting
            waiting.add_done_callback(lambda _: self._waiting.pop(asked.number, None))

    async def _wait(self, asked: Place, capacity: Capacity) -> None:
        try:
            await capacity.acquire(asked.who)
        except HanlinError as problem:
            self.tell(Refused(asked.number, failure_of(problem)))
        else:
            del self._waiting[asked.number]  # now, not when the task's end is told: its caller may leave in between
            self._held[asked.number] = capacity
            self.tell(Placed(asked.number))

    def leave(self, number: int) -> None:
        """Take a place back, or its caller out of the line."""
        if (waiting := self._waiting.get(number)) is not None:
            waiting.cancel()
        elif (capacity := self._held.pop(number, None)) is not None:
            capacity.release()

    def close(self) -> None:
        """Take everything back: the worker is gone."""
        for number in (*self._held, *self._waiting):
            self.leave(number)
        for page in self.pages.values():
            page.cancel()
        self._channel.close()


class Coordinator:
    """Serves the workers of one service on a socket, from `start` to `close`.

    `page` returns what the main process counts itself. `expected` is how many workers there are to be; until all of
    them have adopted what answers, the service says that it starts. `changed` is set whenever a worker comes, begins to
    take calls, or goes.
    """

    def __init__(
        self,
        studio: Studio,
        counter: Counter,
        expected: int,
        processes: Callable[[], Sequence[ProcessState]],
        page: Callable[[], Awaitable[bytes]],
    ) -> None:
        self.changed = asyncio.Event()
        self._studio = studio
        self._counter = counter
        self._expected = expected
        self._processes = processes
        self._page = page
        self._desks: dict[int, Desk] = {}
        self._roster = roster.roster(studio)
        self._is_up = False
        self._served: set[int] = set()
        self._draining = False
        self._numbers = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._path: Path | None = None

    @property
    def is_up(self) -> bool:
        """Whether every worker has had what answers, once, so that the service may say that it is ready."""
        return self._is_up

    def has_served(self, worker: int) -> bool:
        """Whether a worker, or one before it in its place, has ever taken calls."""
        return worker in self._served

    def is_stuck(self, worker: int) -> bool:
        """Whether a worker has given no sign of life for half a minute. What counts are signs that it was asked for."""
        desk = self._desks.get(worker)
        return desk is not None and desk.unanswered >= _STUCK_BEATS

    def listens(self, worker: int) -> bool:
        """Whether a worker takes calls."""
        desk = self._desks.get(worker)
        return desk is not None and desk.listens

    async def start(self, path: Path) -> None:
        """Listen at a path, for this user alone. Raises StartupError."""
        self._path, listening = path, _bound(path)
        self._server = await asyncio.start_unix_server(self._connected, sock=listening, backlog=_BACKLOG)
        self._tasks.add(asyncio.create_task(self._keep_telling()))

    async def close(self) -> None:
        """End every call and every line."""
        if self._server is not None:
            self._server.close()
        tasks = (*self._tasks, *self._calls)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._path is not None:
            _remove(self._path)

    def drain(self) -> None:
        """Have every worker finish its calls and end."""
        self._draining = True
        for desk in self._desks.values():
            desk.tell(Drain())

    async def draining_calls(self, within_s: float) -> int:
        """Return how many calls the workers finish, of those that say so in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while any(desk.draining is None for desk in self._desks.values()):
                    self.changed.clear()
                    await self.changed.wait()
        return sum(desk.draining or 0 for desk in self._desks.values())

    def push(self, *, beat: bool = False) -> None:
        """Tell the workers what has changed; with a `beat` also what has not."""
        studio = self._studio
        now = roster.roster(studio, self._roster.version)
        if now != self._roster:
            self._roster = msgspec.structs.replace(now, version=self._roster.version + 1)
        for desk in self._desks.values():
            desk.tell_news(self._roster)
        self._is_up = self._is_up or self._all_have_adopted()
        starting = studio.starting if self._is_up else studio.starting or say("starting", "正在启动")
        pulse = roster.pulse(studio, self._processes(), starting)
        for desk in self._desks.values():
            desk.unanswered += beat
            desk.tell_news(pulse, anyway=beat)

    def _all_have_adopted(self) -> bool:
        version = self._roster.version
        ready = [desk for desk in self._desks.values() if desk.listens and desk.adopted == version]
        return self._studio.starting is None and len(ready) == self._expected

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    async def _keep_telling(self) -> None:
        for look in itertools.count():
            try:
                self.push(beat=look % _LOOKS_A_BEAT == 0)
                self._counter.tidy(all_read=not self._studio.accounting.has_left)
            except Exception:  # a mistake of ours must not make the workers believe that nobody is here
                log.exception("the workers could not be told what is going on")
            await asyncio.sleep(_PUSH_EVERY_S)

    # --- connections

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        channel = Channel(reader, writer)
        try:
            data = await channel.receive()
            if data is None:
                return
            first = decode_first(data)
            if isinstance(first, Hello):
                await self._line(first, channel)
            else:
                await serve_call(self._studio, first, channel)
        except asyncio.CancelledError:
            pass  # the service ends
        except Exception:  # the end of a connection: whatever it was, the others go on
            log.exception("a worker's connection failed")
        finally:
            self._calls.discard(task)
            channel.close()

    async def _line(self, hello: Hello, channel: Channel) -> None:
        desk = self._desks[hello.worker] = Desk(hello.worker, self._number(), channel)
        self.push()
        if self._draining:
            desk.tell(Drain())
        self.changed.set()
        try:
            while (data := await channel.receive()) is not None:
                desk.unanswered = 0
                self._hear(desk, decode_told(data))
        finally:
            if self._desks.get(hello.worker) is desk:
                del self._desks[hello.worker]
            desk.close()
            self._counter.lost(desk.life)
            self.changed.set()

    def _hear(self, desk: Desk, told: Told) -> None:
        """Do what nearly all messages are about; decisions in the order in which they are asked for."""
        match told:
            case Take():
                desk.tell(self._counter.take(desk.life, told))
            case Settle():
                self._counter.settle(desk.life, told)
            case Place():
                desk.place(told, self._capacity(told.surface, told.deployment))
            case Leave():
                desk.leave(told.number)
            case Begin():
                self._counter.begin(told)
            case Charge():
                self._counter.charge(told)
            case _:
                self._note(desk, told)

    def _note(self, desk: Desk, told: Adopted | Listening | Alive | Draining | PagesAsked | Page) -> None:
        match told:
            case Alive():
                return
            case Adopted():
                desk.adopted = told.version
                self.push()
            case Listening():
                desk.listens = True
                self._served.add(desk.worker)
                self.push()
            case Draining():
                desk.draining = told.calls
            case PagesAsked():
                self._gather_soon(desk, told.number)
            case Page():
                if (page := desk.pages.get(told.number)) is not None and not page.done():
                    page.set_result(told.page)
        self.changed.set()

    # --- metrics

    def _gather_soon(self, desk: Desk, number: int) -> None:
        task = asyncio.create_task(self._gather(desk, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gather(self, asking: Desk, number: int) -> None:
        others = {str(worker): desk for worker, desk in self._desks.items() if desk is not asking}
        found = await asyncio.gather(self._page(), *map(self._page_of, others.values()))
        asking.tell(Pages(number, dict(zip((MAIN, *others), found, strict=True))))

    async def _page_of(self, desk: Desk) -> bytes | None:
        number = self._number()
        page = desk.pages[number] = asyncio.get_running_loop().create_future()
        desk.tell(PageWanted(number))
        try:
            await asyncio.wait((page,), timeout=_PAGE_S)
            return page.result() if page.done() and not page.cancelled() else None
        finally:
            del desk.pages[number]

    def _capacity(self, surface: Surface, name: str) -> Capacity | None:
        found = deployment(self._studio, surface, name)
        return None if found is None else found.capacity


def _bound(path: Path) -> socket.socket:
    try:
        _remove(path)  # of a service that was killed
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)
        listening.bind(os.fspath(path))
        path.chmod(0o600)  # before anybody can connect
    except OSError as error:
        raise cannot_use(path, error) from error
    return listening


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
