"""A limit to how long a call may take, which costs it next to nothing."""

import asyncio
import math
from types import TracebackType

import msgspec

from hanlin.engines.wire import Watch


class Within(msgspec.Struct, eq=False):
    """`with Within(watch, limit_s):` raises TimeoutError where the block takes longer.

    As `asyncio.timeout`, but without a timer of its own: `watch` has one for all. Only for blocks that are run by a
    task, and where a few milliseconds more do not matter. Made for every call, hence a Struct.
    """

    _watch: Watch
    _limit_s: float
    due_at: float = math.inf
    _over: bool = False
    _task: asyncio.Task[object] | None = None

    def __enter__(self) -> None:
        loop = self._watch.loop
        self._task = asyncio.current_task(loop)
        self.due_at = loop.time() + self._limit_s
        self._watch.things.add(self)
        if self.due_at < self._watch.next_at:
            self._watch.by(self.due_at)

    def expire(self) -> None:
        """End the block, because its time is over."""
        self.due_at = math.inf
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.things.discard(self)
        # Somebody else may have cancelled as well: then that counts.
        if self._over and self._task is not None and not self._task.uncancel() and kind is asyncio.CancelledError:
            raise TimeoutError from error
