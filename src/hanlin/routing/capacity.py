"""How many calls a deployment takes at once, and who of those that wait comes next: in turns, and never endless.

Callers are told apart by `who` (a key's id). Each has a line of its own, first come, first served; lines take turns.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

from hanlin.errors import Overloaded

_UNKNOWN_S = 5
_LONGEST_S = 60
_NEWEST_COUNTS = 0.2
"""How much the latest time between two free places counts in their mean."""

_Turn = asyncio.Future[bool]
"""What a waiting caller waits for: True is a place, False the news that the line has no room for it any more."""


class Capacity:
    """`slots` calls run, at most `queue_limit` more wait; when the line is full, the next one is refused at once.

    A full line has room for a newcomer who has fewer waiting than somebody else: the latest of the longest line is
    refused instead. So one caller's burst fills the line only as long as nobody else needs it.
    """

    __slots__ = ("_clock", "_full_since", "_lines", "_pause_s", "_queue_limit", "running", "slots", "waiting")

    def __init__(self, slots: int, queue_limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self.running = 0
        self.waiting = 0
        self._queue_limit = queue_limit
        self._clock = clock
        self._lines: OrderedDict[str, OrderedDict[_Turn, None]] = OrderedDict()  # whose turn it is stands first
        self._full_since = 0.0
        self._pause_s: float | None = None

    def here(self) -> tuple[int, int, int]:
        """Return how many calls of this process run and wait, and how many of the places are this process'."""
        return self.running, self.waiting, self.slots

    def place(self, who: str = "") -> "Place":
        """Hold one place for the length of an `async with`. Raises as `acquire` does."""
        return Place(self, who)

    def try_acquire(self) -> bool:
        """Take a place if one is free; whoever gets True owes a `release`. Nobody is overtaken: then nobody waits."""
        if self.running >= self.slots:
            return False
        self.running += 1
        if self.running == self.slots:
            self._full_since = self._clock()
        return True

    async def acquire(self, who: str = "") -> None:
        """Take a place, waiting for one in turn; whoever returns from here owes a `release`.

        Raises Overloaded when there is no room to wait. A caller that is cancelled meanwhile costs nothing.
        """
        if self.try_acquire():
            return
        turn = self._join(who)
        try:
            has_place = await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # the place came in the same moment as the cancellation: the next one gets it
            else:
                self._leave(who, turn)
            raise
        if not has_place:
            raise self._overloaded()

    def release(self) -> None:
        """Give a place back: to whoever's turn it is, or for anybody who comes."""
        if self.running == self.slots:
            now = self._clock()
            pause_s = now - self._full_since
            self._full_since = now
            known_s = pause_s if self._pause_s is None else self._pause_s
            self._pause_s = known_s + (pause_s - known_s) * _NEWEST_COUNTS
        turn = self._next() if self.waiting else None
        if turn is None:
            self.running -= 1
        else:
            turn.set_result(True)  # the place changes hands; in between, nobody can take it

    def retry_after_s(self) -> int:
        """Estimate when those who wait now will have been served, from the time between places that became free."""
        if self._pause_s is None:
            return _UNKNOWN_S
        # A place that is overdue says more than the mean of better times.
        pause_s = max(self._pause_s, self._clock() - self._full_since)
        return min(max(math.ceil(pause_s * (self.waiting + 1)), 1), _LONGEST_S)

    def _join(self, who: str) -> _Turn:
        if self.waiting >= self._queue_limit and not self._make_room(who):
            raise self._overloaded()
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, OrderedDict())[turn] = None
        self.waiting += 1
        return turn

    def _make_room(self, who: str) -> bool:
        """Refuse the latest of the longest line, if that line stays at least as long as the newcomer's becomes."""
        if not self._lines:
            return False
        longest = max(self._lines, key=lambda key: len(self._lines[key]))
        if len(self._lines[longest]) < len(self._lines.get(who, ())) + 2:
            return False
        turn = next(reversed(self._lines[longest]))
        self._leave(longest, turn)
        if not turn.done():
            turn.set_result(False)
        return True

    def _leave(self, who: str, turn: _Turn) -> None:
        line = self._lines.get(who)
        if line is None or turn not in line:
            return
        del line[turn]
        self.waiting -= 1
        if not line:
            del self._lines[who]

    def _next(self) -> _Turn | None:
        while self._lines:
            who, line = next(iter(self._lines.items()))
            turn, _ = line.popitem(last=False)
            self.waiting -= 1
            left = turn.done()  # cancelled, and not yet come to leave: that must not use up a turn of its line
            if not line:
                del self._lines[who]
            elif not left:
                self._lines.move_to_end(who)
            if not left:
                return turn
        return None

    def _overloaded(self) -> Overloaded:
        return Overloaded(self.waiting, self.retry_after_s())


class Place:
    """A place that is held for the length of an `async with`."""

    __slots__ = ("_capacity", "_who")

    def __init__(self, capacity: Capacity, who: str) -> None:
        self._capacity = capacity
        self._who = who

    async def __aenter__(self) -> None:
        if not self._capacity.try_acquire():
            await self._capacity.acquire(self._who)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capacity.release()
