"""Keep one engine process alive: start it, wait until it is ready, watch it, restart it, end it.

A child is judged by what it does, not by being there: tokens and prompt progress are signs of life, and while nobody
calls it answers a question that passes through its own work queue. One that gives no sign for `stall_s` is killed, and
with it whatever it has started: a child leads a process group of its own.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from hanlin.errors import EngineNotReady, EngineUnavailable, HanlinError

log = logging.getLogger("hanlin.engine")

_LAST_LINES = 40
_SERVER_LAST_LINES = 200  # the reason of their deaths stands far above the end: every process of theirs has a last word
_PROBE_EVERY_S = 2.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_HEALTHY_AFTER_S = 60.0
_LOADING_STALL_S = 60.0
_LOOK_EVERY_S = 0.25
_LOOK_AT_TREE_EVERY_S = 1.0  # all processes of the machine are looked through for the child's own
_ARRIVAL_PAUSE_S = 0.25
_KEEPER_S = 6.0  # how much longer than the child itself its keeper may take
_LAST_WORDS_S = 5.0


class Command(Protocol):
    """What a supervisor starts. `line` is written to the child's stdin as one line of JSON."""

    @property
    def name(self) -> str: ...
    def command(self) -> list[str]: ...
    def environment(self) -> dict[str, str]: ...
    def line(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Served:
    """How a child is treated that is a server of its own, with processes of its own, and knows nothing of us.

    `begin` is awaited before every start and says what is started; what it raises is why there was none. Both streams
    of the child are its log: `heard` returns each line as it may be kept. It is ready to be prepared once `arrived`
    says so; until then lines, memory and CPU time of all its processes are progress, and `loading_stall_s` without any
    is its end. `ask_after_s` is the silence after which it is probed; `stall_s` counts from there. Told to end, it has
    `grace_s` before it is killed.
    """

    begin: Callable[[], Awaitable[Command]]
    arrived: Callable[[], Awaitable[bool]]
    heard: Callable[[str], str]
    ask_after_s: Callable[[], float]
    loading_stall_s: float
    grace_s: float


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
    question that only a working one answers. Both raise HanlinError when the child fails them. A child of ours says
    that it is ready by a line on its stdout; for others there is `served`.
    """

    def __init__(
        self,
        command: Command,
        *,
        prepare: Callable[[], Awaitable[None]],
        probe: Callable[[], Awaitable[None]],
        stall_s: float,
        served: Served | None = None,
    ) -> None:
        self.state: State = Starting()
        self.last_exit: Exited | None = None  # until it is ready again
        self._command = command
        self._prepare = prepare
        self._probe = probe
        self._stall_s = stall_s
        self._served = served
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=_LAST_LINES if served is None else _SERVER_LAST_LINES)
        self._heard_lines = 0
        self._last_sign = 0.0
        self._unready_since = 0.0
        self._ready_since: float | None = None
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
            raise EngineNotReady(f"{self._command.name}: {self.state}") from None

    def _become(self, state: State) -> None:
        if isinstance(self.state, Ready):
            self._unready_since = asyncio.get_running_loop().time()
        self.state = state
        if isinstance(state, Ready):
            self._ready_since, self.last_exit = asyncio.get_running_loop().time(), None
        elif isinstance(state, Exited):
            self.last_exit = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        failures = 0
        clock = asyncio.get_running_loop().time
        while True:
            self._ready_since = None
            try:
                why = await self._live()
            except Exception as error:  # the end of one life: whatever ended it, there must be another
                log.debug("engine %s failed", self._command.name, exc_info=True)
                why = f"could not start: {str(error) or type(error).__name__}"
            healthy = self._ready_since is not None and clock() - self._ready_since > _HEALTHY_AFTER_S
            failures = 1 if healthy else failures + 1
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
        command = await self._served.begin() if self._served is not None else self._command
        process = self._process = await asyncio.create_subprocess_exec(
            *command.command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if self._served is None else asyncio.subprocess.STDOUT,
            env=command.environment(),
            start_new_session=True,  # a Ctrl-C in the terminal is the service's to handle
        )
        assert process.stdin is not None
        reader = asyncio.create_task(self._read(process.stderr if self._served is None else process.stdout))
        try:
            process.stdin.write(json.dumps(command.line()).encode() + b"\n")
            if (failure := await self._load(process)) is not None:
                return failure
            async with asyncio.timeout(self._loading_stall_s):
                await self._prepare()
            self._become(Ready(process.pid))
            log.info("engine %s: ready, pid %d", self._command.name, process.pid)
            return await self._watch(process)
        except asyncio.CancelledError:
            await self._ask_to_end(process)
            raise
        finally:
            self._kill(process)
            await process.wait()
            await asyncio.wait([reader], timeout=_LAST_WORDS_S)  # a stray process may hold the pipe for ever
            reader.cancel()
            process.stdin.close()

    async def _ask_to_end(self, process: asyncio.subprocess.Process) -> None:
        """Let a server of its own tidy up; what it does not do in time is left to `_kill`."""
        if self._served is not None and process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._served.grace_s + _KEEPER_S):
                    await process.wait()

    def _kill(self, process: asyncio.subprocess.Process) -> None:
        """End the child and, where it may have started others, its whole group."""
        if process.returncode is None or self._served is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    @property
    def _loading_stall_s(self) -> float:
        return _LOADING_STALL_S if self._served is None else self._served.loading_stall_s

    async def _load(self, process: asyncio.subprocess.Process) -> str | None:
        """Wait until the child is ready, or return why not; the deadline moves on as long as it makes progress."""
        self._become(Loading(process.pid))
        arrival = asyncio.ensure_future(self._says_ready(process) if self._served is None else self._arrives(process))
        every_s = _LOOK_EVERY_S if self._served is None else min(_LOOK_AT_TREE_EVERY_S, self._loading_stall_s / 4)
        clock = asyncio.get_running_loop().time
        seen: tuple[float, ...] = ()
        since = clock()
        try:
            while True:
                done, _ = await asyncio.wait([arrival], timeout=every_s)
                if done:
                    return arrival.result()
                resident_bytes, progress = self._progress(process.pid)
                if progress != seen:
                    seen, since = progress, clock()
                    self.state = Loading(process.pid, resident_bytes)
                elif clock() - since > self._loading_stall_s:
                    return f"made no progress while loading for {self._loading_stall_s:g} s"
        finally:
            arrival.cancel()

    def _progress(self, pid: int) -> tuple[int, tuple[float, ...]]:
        """Return the resident bytes of a loading child, and what differs from before when it has come further."""
        resident_bytes, cpu_s = _used(pid, tree=self._served is not None)
        if self._served is None:
            return resident_bytes, (resident_bytes, cpu_s)
        # In steps: to be asked whether it is ready takes a server a little time as well, and is no progress.
        return resident_bytes, (self._heard_lines, resident_bytes // 2**24, cpu_s // 2)

    async def _says_ready(self, process: asyncio.subprocess.Process) -> str | None:
        """Wait for the child's line of readiness."""
        assert process.stdout is not None
        return None if b"ready" in await process.stdout.readline() else await self._last_word(process)

    async def _arrives(self, process: asyncio.subprocess.Process) -> str | None:
        """Ask a server of its own whether it is ready, until it is or ends."""
        assert self._served is not None
        ending = asyncio.create_task(process.wait())
        try:
            while not await self._served.arrived():
                done, _ = await asyncio.wait([ending], timeout=_ARRIVAL_PAUSE_S)
                if done:
                    return await self._ending(process)
            return None
        finally:
            ending.cancel()

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
        self.alive()
        ending = asyncio.create_task(process.wait())
        try:
            while True:
                ask_after_s, give_up_after_s = self._patience()
                until_verdict_s = self._last_sign + give_up_after_s - clock()
                pause_s = max(min(ask_after_s, until_verdict_s, _PROBE_EVERY_S), 0.05)
                done, _ = await asyncio.wait([ending], timeout=pause_s)
                if done:
                    return await self._ending(process)
                silent_s = clock() - self._last_sign
                if silent_s >= give_up_after_s:
                    return f"gave no sign of life for {silent_s:.1f} s"
                if silent_s >= ask_after_s:
                    await self._ask(give_up_after_s - silent_s)
        finally:
            ending.cancel()

    def _patience(self) -> tuple[float, float]:
        """Return the silence after which the child is probed, and the one after which it is given up."""
        if self._served is None:
            return min(_PROBE_EVERY_S, self._stall_s / 4), self._stall_s
        ask_after_s = self._served.ask_after_s()
        return ask_after_s, ask_after_s + self._stall_s

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

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        """Keep the end of the child's log."""
        assert stream is not None
        rest = b""
        while piece := await stream.read(65536):
            # A progress bar goes back to the beginning of its line; every one of its states is a line here.
            *lines, rest = (rest[-4096:] + piece).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                if text := line[:500].decode("utf-8", "replace").strip():
                    self._hear(text)
        if text := rest[:500].decode("utf-8", "replace").strip():
            self._hear(text)

    def _hear(self, text: str) -> None:
        text = self._served.heard(text) if self._served is not None else text
        self._heard_lines += 1
        self._lines.append(text)
        log.debug("engine %s: %s", self._command.name, text)


def _used(pid: int, *, tree: bool) -> tuple[int, float]:
    """Return a process's resident bytes and CPU seconds, those of all that it has started included on demand."""
    try:
        process = psutil.Process(pid)
        used = process.memory_info().rss, sum(process.cpu_times()[:2])
        below = [_used(child.pid, tree=False) for child in process.children(recursive=True)] if tree else []
    except psutil.Error:
        return 0, 0.0
    return used[0] + sum(rss for rss, _ in below), used[1] + sum(cpu_s for _, cpu_s in below)
