"""Keep one engine process alive: start it, wait until it is ready, watch it, restart it, end it.

A child is judged by what it does, not by being there: tokens and prompt progress are signs of life, and while nobody
calls it answers a question that passes through its own work queue. One that gives no sign for `stall_s` is killed.
"""

import asyncio
import contextlib
import json
import logging
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from hanlin.errors import EngineUnavailable, HanlinError

log = logging.getLogger("hanlin.engine")

_LAST_LINES = 40
_PROBE_EVERY_S = 2.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_AFTER_S = 60.0
_LOADING_STALL_S = 60.0


class Command(Protocol):
    """What a supervisor starts. `line` is written to the child's stdin as one line of JSON."""

    @property
    def name(self) -> str: ...
    def command(self) -> list[str]: ...
    def environment(self) -> dict[str, str]: ...
    def line(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Starting:
    """The process is being made."""

    def __str__(self) -> str:
        return "starting"


@dataclass(frozen=True)
class Loading:
    """The process runs and reads its weights; `resident_bytes` is how far it has come."""

    pid: int
    resident_bytes: int = 0

    def __str__(self) -> str:
        return f"loading, {self.resident_bytes // 2**20} MiB so far"


@dataclass(frozen=True)
class Ready:
    pid: int

    def __str__(self) -> str:
        return "ready"


@dataclass(frozen=True)
class Exited:
    """The process is gone and `retry_s` later there will be another. `last_lines` are the end of its stderr."""

    why: str
    retry_s: float
    last_lines: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.why}, starting again in {self.retry_s:g} s"


@dataclass(frozen=True)
class Stopped:
    """Ended on purpose."""

    def __str__(self) -> str:
        return "stopped"


State = Starting | Loading | Ready | Exited | Stopped


def backoff_s(failures: int) -> float:
    """Return the pause before the next start after `failures` failures in a row (1 or more)."""
    return _BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1]


class Supervisor:
    """Owns one child from `start` to `stop`.

    `prepare` is awaited once the child says that it is ready and before anybody is let in; `probe` asks the child a
    question that only a working one answers. Both raise HanlinError when the child fails them.
    """

    def __init__(
        self,
        command: Command,
        *,
        prepare: Callable[[], Awaitable[None]],
        probe: Callable[[], Awaitable[None]],
        stall_s: float,
    ) -> None:
        self.state: State = Starting()
        self._command = command
        self._prepare = prepare
        self._probe = probe
        self._stall_s = stall_s
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._last_sign = 0.0
        self._unready_since = 0.0
        self.restarts = 0

    def start(self) -> None:
        self._unready_since = asyncio.get_running_loop().time()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"supervise {self._command.name}")

    async def stop(self) -> None:
        """End the child now. Whoever has open calls waits for them before this."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._become(Stopped())

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def alive(self) -> None:
        """Take note of a sign of life: called for every piece that the child sends."""
        self._last_sign = asyncio.get_running_loop().time()

    async def ready(self, wait_s: float) -> None:
        """Return once the child is ready; EngineUnavailable with the state when it has not been for `wait_s`.

        Counted from when it was last ready, not from the call: a line of callers is told at once, not one by one.
        """
        if isinstance(self.state, Ready):
            return
        try:
            async with asyncio.timeout_at(self._unready_since + wait_s):
                while not isinstance(self.state, Ready):
                    if isinstance(self.state, Stopped):
                        raise EngineUnavailable("the service is shutting down")
                    await self._changed.wait()
        except TimeoutError:
            raise EngineUnavailable(f"{self._command.name}: {self.state}") from None

    def _become(self, state: State) -> None:
        if isinstance(self.state, Ready):
            self._unready_since = asyncio.get_running_loop().time()
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                why = await self._live()
            except Exception as error:  # the end of one life: whatever ended it, there must be another
                log.debug("engine %s failed", self._command.name, exc_info=True)
                why = f"could not start: {str(error) or type(error).__name__}"
            failures = 1 if clock() - started > _HEALTHY_AFTER_S else failures + 1
            state = Exited(why, backoff_s(failures), tuple(self._lines))
            log.warning("engine %s: %s", self._command.name, state)
            for line in state.last_lines[-8:]:
                log.warning("engine %s said: %s", self._command.name, line)
            self._become(state)
            await asyncio.sleep(state.retry_s)
            self.restarts += 1

    async def _live(self) -> str:
        """Run one child from its start to its end, and say why it ended."""
        self._become(Starting())
        self._lines.clear()
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command.command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._command.environment(),
            start_new_session=True,  # a Ctrl-C in the terminal is the service's to handle
        )
        assert process.stdin is not None
        reader = asyncio.create_task(self._read_stderr(process))
        try:
            process.stdin.write(json.dumps(self._command.line()).encode() + b"\n")
            if (failure := await self._load(process)) is not None:
                return failure
            async with asyncio.timeout(_LOADING_STALL_S):
                await self._prepare()
            self._become(Ready(process.pid))
            log.info("engine %s: ready, pid %d", self._command.name, process.pid)
            return await self._watch(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await reader
            process.stdin.close()

    async def _load(self, process: asyncio.subprocess.Process) -> str | None:
        """Wait for the child's line of readiness; the deadline moves on as long as it makes progress."""
        assert process.stdout is not None
        self._become(Loading(process.pid))
        line = asyncio.ensure_future(process.stdout.readline())
        clock = asyncio.get_running_loop().time
        seen, since = (0, 0.0), clock()
        try:
            while True:
                done, _ = await asyncio.wait([line], timeout=0.25)
                if done:
                    return None if b"ready" in line.result() else await self._last_word(process)
                if (progress := _progress(process.pid)) != seen:
                    seen, since = progress, clock()
                    self.state = Loading(process.pid, progress[0])
                elif clock() - since > _LOADING_STALL_S:
                    return f"made no progress while loading for {_LOADING_STALL_S:g} s"
        finally:
            line.cancel()

    async def _last_word(self, process: asyncio.subprocess.Process) -> str:
        """Return why a child did not become ready; one that lives on without saying so is given up."""
        try:
            async with asyncio.timeout(_PROBE_EVERY_S):
                return await self._ending(process)
        except TimeoutError:
            return "did not say that it is ready"

    async def _watch(self, process: asyncio.subprocess.Process) -> str:
        """Return why the child has to go: it ended by itself, or it gave no sign of life for too long."""
        clock = asyncio.get_running_loop().time
        probe_every_s = min(_PROBE_EVERY_S, self._stall_s / 4)
        self.alive()
        ending = asyncio.create_task(process.wait())
        try:
            while True:
                until_verdict_s = self._last_sign + self._stall_s - clock()
                done, _ = await asyncio.wait([ending], timeout=max(min(probe_every_s, until_verdict_s), 0.05))
                if done:
                    return await self._ending(process)
                silent_s = clock() - self._last_sign
                if silent_s >= self._stall_s:
                    return f"gave no sign of life for {silent_s:.1f} s"
                if silent_s >= probe_every_s:
                    await self._ask(self._stall_s - silent_s)
        finally:
            ending.cancel()

    async def _ask(self, within_s: float) -> None:
        """Probe the child. A failed probe is not a verdict: the silence that it leaves is."""
        with contextlib.suppress(HanlinError, TimeoutError):
            async with asyncio.timeout(within_s):
                await self._probe()
                self.alive()

    async def _ending(self, process: asyncio.subprocess.Process) -> str:
        code = await process.wait()
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"exited with code {code}"

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        rest = b""
        while piece := await process.stderr.read(65536):
            *lines, rest = (rest[-4096:] + piece).split(b"\n")
            for line in lines:
                text = line[:500].decode("utf-8", "replace").strip()
                if text:
                    self._lines.append(text)
                    log.debug("engine %s: %s", self._command.name, text)


def _progress(pid: int) -> tuple[int, float]:
    """Return what grows while a child loads: resident bytes, and CPU seconds."""
    try:
        process = psutil.Process(pid)
        return process.memory_info().rss, sum(process.cpu_times()[:2])
    except psutil.Error:
        return 0, 0.0
