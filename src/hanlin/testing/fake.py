"""Start the fake engine from a test, look at what it was asked, and end it: `FakeEngine`, with what process tests need.

    from hanlin.testing import FakeEngine, Rule

    with FakeEngine([Rule(contains="你好", text="你好！"), Rule(status=503, times=1)], style="llama") as engine:
        client = OpenAI(base_url=engine.base_url, api_key="unused")
        ...
        engine.rules([Rule(stall_after_chunks=2)])
        ...
        engine.wait_for(lambda requests: requests[-1].state == "cancelled")

The engine is a process of its own, so it can be asked while the test's event loop is busy, frozen and killed. Calls of
its methods take about a millisecond; `async with` and `wait_for_async` are there for tests that must not block at all.
"""

import asyncio
import contextlib
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from hanlin.testing.records import Record
from hanlin.testing.rules import Rule, Setup, Style, Template

_START_S = 30.0
_STOP_S = 5.0
_CONTROL_S = 10.0
_POLL_S = 0.01
_LAST_BYTES = 4000

Condition = Callable[[Sequence[Record]], object]


class FakeEngine:
    """The fake engine as a process, from `start` (or `with`) to `stop`.

    `url` is where it listens, `base_url` what OpenAI clients want; with `uds` both name no real host and the socket's
    path is what counts. The other arguments are those of `rules.Setup`.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        style: Style = "openai",
        models: Sequence[str] = (),
        context_tokens: int = 0,
        loading_s: float = 0.0,
        template: Template = "default",
        prefix_cache: bool = False,
        port: int = 0,
        uds: Path | None = None,
    ) -> None:
        self._setup = Setup(
            style=style,
            models=tuple(models),
            context_tokens=context_tokens,
            loading_s=loading_s,
            template=template,
            prefix_cache=prefix_cache,
            rule=tuple(rules),
        )
        self._port = port
        self.uds = uds
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        return self._running.pid

    def start(self) -> None:
        """Start the process and return when it listens. Raises RuntimeError with its last words when it does not."""
        self.stop()
        where = ["--uds", str(self.uds)] if self.uds else ["--port", str(self._port)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-m", "hanlin.testing.engine", "--from-stdin", *where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        try:
            line = self._first_line()
        except BaseException:
            self.stop()
            raise
        self.url = str(msgspec.json.decode(line)["url"])

    def stop(self) -> None:
        """End the process, at once and whatever it is doing. Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(BrokenPipeError):
                _pipe(process.stdin).close()
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a frozen process could not end
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _pipe(process.stdout).close()
        if words := self._last_words():
            sys.stderr.write(f"the fake engine said: {words}\n")
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def kill(self) -> None:
        """End the process as a crash would, and wait until it is gone; `start` makes a new one."""
        self._running.kill()
        self._running.wait()

    def freeze(self) -> None:
        """Stop the process from running (SIGSTOP): it keeps its connections and is silent."""
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process run again."""
        self._running.send_signal(signal.SIGCONT)

    def requests(self) -> list[Record]:
        """Return what was asked of the engine, oldest first, and how each answer went so far."""
        return msgspec.json.decode(self._call("GET", "/requests"), type=list[Record])

    def forget_requests(self) -> None:
        self._call("DELETE", "/requests")

    def rules(self, rules: Sequence[Rule]) -> None:
        """Replace the rules; answers that run go on as they were."""
        self._call("PUT", "/rules", msgspec.json.encode(list(rules)))

    def wait_for(self, condition: Condition, timeout_s: float = 30.0) -> list[Record]:
        """Wait until the condition holds for the engine's requests, and return them. Raises TimeoutError, with them."""
        deadline = time.monotonic() + timeout_s
        while not _holds(condition, requests := self.requests()):
            self._check(deadline, timeout_s, requests)
            time.sleep(_POLL_S)
        return requests

    async def wait_for_async(self, condition: Condition, timeout_s: float = 30.0) -> list[Record]:
        """Do what `wait_for` does while the event loop goes on."""
        deadline = time.monotonic() + timeout_s
        while not _holds(condition, requests := await asyncio.to_thread(self.requests)):
            self._check(deadline, timeout_s, requests)
            await asyncio.sleep(_POLL_S)
        return requests

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the fake engine does not run: use it in a `with` block, or call start() first")
        return self._process

    def _first_line(self) -> bytes:
        """Hand over the set-up and wait for the line that says where the engine listens."""
        process = self._running
        stdin, stdout = _pipe(process.stdin), _pipe(process.stdout)
        with contextlib.suppress(BrokenPipeError):  # it ended at once: its words say why
            stdin.write(msgspec.json.encode(self._setup) + b"\n")
            stdin.flush()
        readable, _, _ = select.select([stdout], [], [], _START_S)
        if readable and (line := stdout.readline()):
            return line
        if readable:
            process.wait(_STOP_S)
        raise RuntimeError(f"the fake engine did not start (exit status {process.poll()}): {self._last_words()}")

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read()[-_LAST_BYTES:].decode(errors="replace").strip()

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = _UnixConnection(self.uds) if self.uds else _connection(self.url)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != http.client.OK:
            raise ValueError(f"{method} {path} of the fake engine answered {answer.status}: {content.decode()}")
        return content

    def _check(self, deadline: float, timeout_s: float, requests: Sequence[Record]) -> None:
        if time.monotonic() >= deadline:
            raise TimeoutError(f"still not so after {timeout_s:g} s; the fake engine's requests are {requests!r}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CONTROL_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONTROL_S)
        self.sock.connect(os.fspath(self._path))


def free_port() -> int:
    """Return a port of the loopback address that nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> Any:
    """Call `condition` until it returns something true, and return that. Raises TimeoutError, with `what`.

    For what cannot be awaited: a process that ends, a file that appears, a port that opens.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(_POLL_S)
    return value


def _holds(condition: Condition, requests: Sequence[Record]) -> bool:
    try:
        return bool(condition(requests))
    except IndexError:  # a condition on the last request, before there is one
        return False


def _connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=_CONTROL_S)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # asked for when the process was started
    return pipe
