"""The connections of a client: how many there may be, who waits for one, which are kept, and for how long."""

import asyncio
from collections import deque
from dataclasses import dataclass

from hanlin.engines.wire.connection import Connection
from hanlin.engines.wire.deadlines import Watch
from hanlin.engines.wire.dialling import Dialler
from hanlin.errors import EngineUnavailable


@dataclass(frozen=True)
class Limits:
    """`connections` at once, of which `idle` are kept between calls, each for at most `idle_s`."""

    connections: int = 256
    idle: int = 64
    idle_s: float = 30.0


class Pool:
    """Every connection is either lent to a call or idle. A call that finds all of them lent waits for its turn."""

    def __init__(self, dialler: Dialler, limits: Limits) -> None:
        self.watch = Watch()
        self._dialler = dialler
        self._limits = limits
        self._lent: set[Connection] = set()
        self._idle: list[Connection] = []  # the last one used is the first to be used again
        self._opening = 0  # places of connections that are being opened
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    @property
    def in_use(self) -> int:
        return len(self._lent) + self._opening

    @property
    def open(self) -> int:
        return self.in_use + len(self._idle)

    def take(self) -> Connection | None:
        """Return an idle connection, if there is one: lent until `release`, or until it is closed."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        connection.idle = False
        self._lent.add(connection)
        return connection

    async def get(self, within_s: float, *, kept: bool = True) -> Connection:
        """Return a connection, lent as by `take`: an idle one, else a new one, else the next that is given back.

        Without `kept`, an idle one comes after a new one. Raises EngineUnreachable when no new one comes about in
        `within_s`, and EngineUnavailable when all are in use for so long, or the pool is closed.
        """
        if kept and (connection := self.take()) is not None:
            return connection
        if self.open < self._limits.connections or self._closed:
            self._opening += 1
        elif (given := self.take() or await self._turn(within_s)) is not None:
            return given
        return await self._open(within_s)

    def release(self, connection: Connection) -> None:
        """Take a connection back: for whoever waits, else to keep it, if another request may follow on it."""
        if connection not in self._lent:
            return
        if not connection.reusable:
            connection.close()
        elif self._waiting and (waiter := self._next()) is not None:
            waiter.set_result(connection)
        elif len(self._idle) < self._limits.idle:
            self._lent.discard(connection)
            self._idle.append(connection)
            connection.rest(self._limits.idle_s)
        else:
            connection.close()

    def lost(self, connection: Connection) -> None:
        """Forget a connection that was closed, by whomever, and give its place to whoever waits."""
        if connection in self._lent:
            self._lent.discard(connection)
        elif connection.idle:
            connection.idle = False
            self._idle.remove(connection)
        else:  # not opened yet, or forgotten already
            return
        self.watch.things.discard(connection)
        self._pass_on()

    def close(self) -> None:
        """Close every connection, also the lent ones, and send those away who wait."""
        self._closed = True
        for connection in (*self._idle, *self._lent):
            connection.close()
        self.watch.stop()
        while self._waiting:
            self._pass_on()

    def _pass_on(self) -> None:
        if (waiter := self._next()) is not None:
            self._opening += 1
            waiter.set_result(None)

    def _next(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _turn(self, within_s: float) -> Connection | None:
        """Wait for a connection, or for the place of one (None), which counts as opening then."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(within_s):
                return await waiter
        except BaseException as error:
            self._decline(waiter)
            if isinstance(error, TimeoutError):
                raise self._all_in_use() from None
            raise

    def _decline(self, waiter: "asyncio.Future[Connection | None]") -> None:
        """Give back what a waiter was given in the very moment in which it gave up."""
        if waiter.done() and not waiter.cancelled():
            connection = waiter.result()
            if connection is not None:
                self.release(connection)
            else:
                self._opening -= 1
                self._pass_on()
        while self._waiting and self._waiting[0].done():  # those who came first give up first
            self._waiting.popleft()

    async def _open(self, within_s: float) -> Connection:
        """Open a connection in a place that counts as opening already."""
        connection = Connection(self)
        try:
            if not self._closed:
                await self._dialler.dial(connection, within_s)
            if self._closed:  # perhaps only now
                connection.close()
                raise EngineUnavailable(f"the connections to {self._dialler.where} were closed")
        except BaseException:
            self._opening -= 1
            self._pass_on()
            raise
        self._opening -= 1
        self._lent.add(connection)
        self.watch.things.add(connection)
        return connection

    def _all_in_use(self) -> EngineUnavailable:
        error = EngineUnavailable(f"all connections to {self._dialler.where} are in use")
        error.blames = False  # it is busy with what we gave it
        return error
