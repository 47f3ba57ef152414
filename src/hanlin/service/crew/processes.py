"""The worker processes: started, started again when they die, and ended."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hanlin.errors import StartupError
from hanlin.service.crew.coordinator import Coordinator
from hanlin.service.crew.messages import Doing, ProcessState
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_MODULE = "hanlin.cli.worker"
_PAUSES_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""How long to wait before a worker is started for the second time, the third, and so on; then as long as last."""

_HEALTHY_S = 30.0
"""Who has taken calls for so long is not counted with those that die again and again."""

_FALSE_STARTS = 3
_LOOK_S = 1.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told at its start, as a line of JSON: who it is, where the others are, where to listen.

    `settings` are those of the main process, secrets as plain text.
    """

    worker: int
    workers: int
    parent_pid: int
    home: str
    socket: str
    host: str
    port: int
    settings: Mapping[str, Any]


class _Worker:
    """One place in the crew, whoever fills it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0

    @property
    def pid(self) -> int:
        return 0 if self.process is None else self.process.pid

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Crew:
    """Owns the worker processes from `run` to `end`. `orders` makes those of one; `dead` is told when one has died."""

    def __init__(self, count: int, orders: Callable[[int], Orders], dead: Callable[[], None]) -> None:
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._orders = orders
        self._dead = dead
        self._coordinator: Coordinator | None = None
        self._ending = False

    def states(self) -> tuple[ProcessState, ...]:
        """Return how each of them is."""
        return tuple(map(self._state, self._workers))

    def _state(self, worker: _Worker) -> ProcessState:
        if not worker.lives:
            return ProcessState(worker.number, worker.pid, "exited", worker.restarts)
        listens = self._coordinator is not None and self._coordinator.listens(worker.number)
        word: Doing = "draining" if self._ending else "serving" if listens else "starting"
        return ProcessState(worker.number, worker.pid, word, worker.restarts)

    async def run(self, coordinator: Coordinator) -> None:
        """Keep all of them running, until cancelled. Raises StartupError when one ends at once, again and again."""
        self._coordinator = coordinator
        keeping = [asyncio.create_task(self._keep(worker, coordinator)) for worker in self._workers]
        try:
            await asyncio.gather(*keeping)
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def listening(self, coordinator: Coordinator) -> None:
        """Wait until all of them take calls."""
        while not all(coordinator.listens(worker.number) for worker in self._workers):
            coordinator.changed.clear()
            await coordinator.changed.wait()

    async def end(self, within_s: float) -> None:
        """Wait for all of them to end, as they were told; kill those that have not in time."""
        for worker in self._workers:
            if self._state(worker).state == "starting":  # it may not listen to anybody yet
                _signal(worker.process, signal.SIGTERM)
        self._ending = True
        lasting = [worker.process for worker in self._workers if worker.process is not None and worker.lives]
        if not lasting:
            return
        waits = [asyncio.create_task(process.wait()) for process in lasting]
        _, late = await asyncio.wait(waits, timeout=within_s)
        for process in lasting:
            if process.returncode is None:
                log.warning("worker process %d does not end: it is killed", process.pid)
                _signal(process, signal.SIGKILL)
        if late:
            await asyncio.wait(late)

    async def _keep(self, worker: _Worker, coordinator: Coordinator) -> None:
        failures = 0
        while not self._ending:
            began = time.monotonic()
            why = await self._live(worker, coordinator)
            if self._ending:
                return
            self._dead()
            failures = 1 if time.monotonic() - began >= _HEALTHY_S else failures + 1
            if not coordinator.has_served(worker.number) and failures >= _FALSE_STARTS:
                raise StartupError(
                    say(
                        f"worker process {worker.number} cannot start: it {why}. What it said stands above",
                        f"工作进程 {worker.number} 无法启动：{why}。其输出见上文",
                    )
                )
            pause_s = _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]
            log.warning("worker %d %s, it is started again in %g s", worker.number, why, pause_s)
            await asyncio.sleep(pause_s)
            worker.restarts += 1

    async def _live(self, worker: _Worker, coordinator: Coordinator) -> str:
        """Run one process from its start to its end, and say why it ended."""
        process = worker.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", _MODULE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        log.info("worker %d: started, pid %d", worker.number, process.pid)
        try:
            assert process.stdin is not None
            with contextlib.suppress(OSError, RuntimeError):  # it has ended already; its end is told below
                process.stdin.write(msgspec.json.encode(self._orders(worker.number)) + b"\n")
                await process.stdin.drain()
            ending = asyncio.create_task(process.wait())
            while not (await asyncio.wait((ending,), timeout=_LOOK_S))[0]:
                if coordinator.is_stuck(worker.number):
                    log.error("worker %d gives no sign of life: it is killed", worker.number)
                    _signal(process, signal.SIGKILL)
            code = ending.result()
        except asyncio.CancelledError:
            _signal(process, signal.SIGKILL)  # only one that was started while the crew was ended is still there
            await process.wait()
            raise
        finally:
            if process.stdin is not None and process.returncode is not None:
                process.stdin.close()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _signal(process: asyncio.subprocess.Process | None, number: signal.Signals) -> None:
    if process is not None and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
