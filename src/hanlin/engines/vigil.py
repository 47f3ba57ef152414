"""Watch over an answer that comes whole: it is silent until it is there, and silence must not be waited out for ever.

After a while the engine is asked for something small. While it answers that, it is taken to work on; once it does not,
the wait is over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from hanlin.errors import EngineStalled, HanlinError


class Vigil:
    """`async with` around the wait: raises EngineStalled within it when `ask` fails, asked every `patience_s`."""

    __slots__ = ("_ask", "_asking", "_over", "_patience_s", "_task", "_timer")

    def __init__(self, patience_s: float, ask: Callable[[], Awaitable[None]]) -> None:
        self._patience_s = patience_s
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._over = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._patience_s, self._begin)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        # Somebody else may have cancelled as well: then that counts.
        if self._over and kind is asyncio.CancelledError and self._task is not None and not self._task.uncancel():
            raise EngineStalled(self._patience_s) from None

    def _begin(self) -> None:
        self._asking = asyncio.get_running_loop().create_task(self._question())

    async def _question(self) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._ask()
        except (HanlinError, TimeoutError):
            if self._task is not None:
                self._over = True
                self._task.cancel()
        else:
            self._timer = asyncio.get_running_loop().call_later(self._patience_s, self._begin)
