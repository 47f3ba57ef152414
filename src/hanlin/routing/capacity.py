"""How many calls a deployment takes at once, and how many may wait for it: first come, first served, never endless."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hanlin.errors import Overloaded


class Capacity:
    """`slots` calls run, at most `queue_limit` more wait in line; the next one is refused at once."""

    def __init__(self, slots: int, queue_limit: int) -> None:
        self.slots = slots
        self.waiting = 0
        self.running = 0
        self._queue_limit = queue_limit
        self._free = asyncio.Semaphore(slots)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one place. Raises Overloaded when the line is full; a caller that leaves the line costs nothing."""
        if self._free.locked() and self.waiting >= self._queue_limit:
            raise Overloaded(self.waiting)
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()
