"""A limit to how long a call may take, which costs it next to nothing."""

import asyncio
import math
from types import TracebackType

from hanlin.engines.wire import Watch


class Within:
    """`with Within(watch, limit_s):` raises TimeoutError where the block takes longer.

    As `asyncio.timeout`, but without a timer of its own: `watch` has one for all. Only for blocks that are run by a
    task, and where a few milliseconds more do not matter.
    """

    __slots__ = ("_over", "_task", "_watch", "due_at")

    def __init__(self, watch: Watch, limit_s: float) -> None:
        self._watch = watch
        self._over = False
        self.due_at = asyncio.get_running_loop().time() + limit_s

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._watch.things.add(self)
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
