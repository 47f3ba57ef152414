"""How long a call may take, and the one timer that watches over all of a client's connections."""

import asyncio
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol


@dataclass(frozen=True)
class Deadlines:
    """How long each part of a call may take. The error says what is over.

    | Field | What may last so long | Error |
    |---|---|---|
    | `connect_s` | opening a connection, with proxy and TLS | EngineUnreachable |
    | | and before it, waiting for a place when all connections are in use | EngineUnavailable |
    | `first_byte_s` | from the end of the request to the end of the response's headers | EngineStalled |
    | `silence_s` | between two packets of a body, while we wait for them | EngineStalled |
    | `total_s` | the whole call, also while nobody reads the response | EngineStalled |
    """

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    silence_s: float = 120.0
    total_s: float = 3600.0

    def silent_for(self, silence_s: float) -> "Deadlines":
        """Return the same with one patience before and within the response, and a total that leaves room for it."""
        return _silent_for(self, silence_s)


@lru_cache(maxsize=64)
def _silent_for(deadlines: Deadlines, silence_s: float) -> Deadlines:
    return replace(deadlines, first_byte_s=silence_s, silence_s=silence_s, total_s=max(deadlines.total_s, silence_s))


class Watched(Protocol):
    """What has a deadline: a time of the event loop's clock, or infinity."""

    due_at: float

    def expire(self) -> None:
        """End what has lasted too long. `due_at` is infinity or in the future afterwards."""


class Watch:
    """One timer for the deadlines of many things.

    It is set for the earliest deadline that it was told of, and looks at all `things` when it goes off. Deadlines that
    are put off again and again, as those of a stream are with every packet, so cost a comparison each and no timer.
    """

    def __init__(self) -> None:
        self.things: set[Watched] = set()
        self.next_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that this is used in, the first that it was; looked up once, which takes a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def by(self, at: float) -> None:
        """See to it that things are looked at no later than `at`. Does nothing where `next_at` is before that."""
        if at < self.next_at:
            self._set(at)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.next_at = None, math.inf

    def _set(self, at: float) -> None:
        self.stop()
        self.next_at = at
        self._timer = self.loop.call_at(at, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        self.stop()
        for thing in [thing for thing in self.things if thing.due_at <= now]:
            thing.expire()
        next_at = min((thing.due_at for thing in self.things), default=math.inf)
        if next_at < math.inf:
            self.by(next_at)
