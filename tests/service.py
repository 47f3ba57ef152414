"""The real service as a process of its own, for tests that look at it from outside."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx2
import psutil
from openai import AsyncOpenAI, OpenAI, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from prometheus_client.parser import text_string_to_metric_families

from hanlin.testing import FakeEngine, free_port

KEY = "sk-test-of-this-service"
START_S = 120.0


class Service:
    """`hanlin serve` on a free port, from `start` (or `with`) to `stop`; its output is kept in a file."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        config: str = "",
        port: int = 0,
        port_by_flag: bool = True,
    ) -> None:
        self.home = home
        self.port = port or free_port()
        self._port_flag = ("--port", str(self.port)) if port_by_flag else ()
        self._arguments = arguments
        # The embedding weights are fetched behind a start's back: only tests about them have them.
        self._environment = {"DASHSCOPE_API_KEY": KEY, "HANLIN_EMBEDDINGS": "false", **(environment or {})}
        self._config = config
        self._output: IO[bytes] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/compatible-mode/v1"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(**{"api_key": KEY, "base_url": self.base_url, "max_retries": 0, **options})

    def async_client(self, **options: Any) -> AsyncOpenAI:
        return AsyncOpenAI(**{"api_key": KEY, "base_url": self.base_url, "max_retries": 0, **options})

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, headers={"authorization": f"Bearer {KEY}"}, timeout=30)

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample of the page at /metrics, 0 where it is not there yet."""
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return 0.0

    def states(self) -> dict[str, str]:
        """Return how each deployment is, by its name, as GET /health says."""
        return {row["name"]: row["state"] for row in self.get("/health").json()["deployments"]}

    def configure(self, config: str) -> None:
        """Exchange `hanlin.toml`, as a whole; a running service takes it over by itself."""
        new = self.home / "hanlin.toml.new"
        new.write_text(config, encoding="utf-8")
        new.replace(self.home / "hanlin.toml")

    def hup(self) -> None:
        """Have the running process read its settings again (SIGHUP)."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def launch(self) -> None:
        """Start the process without waiting for it to be ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self._config:
            (self.home / "hanlin.toml").write_text(self._config, encoding="utf-8")
        if self._output is not None:
            self._output.close()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("HANLIN_") and name != "DASHSCOPE_API_KEY"
        }
        self.process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("hanlin")), "serve"),
                *("--home", str(self.home), *self._port_flag),
                *self._arguments,
            ],
            env={**kept, "HANLIN_LANG": "en", **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )

    def start(self) -> Self:
        """Start and return when a chat call would be served. Fails with the output when it ends instead."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def wait_ready(self, within_s: float = START_S) -> None:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, f"the service ended:\n{self.output()}"
            if self.readiness() == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"not ready within {within_s} s:\n{self.output()}")

    def readiness(self) -> int:
        """Return the status of GET /ready, 0 when nobody answers."""
        # Asked many times: a client that builds a TLS context each time would take longer than the service's answer.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def output(self) -> str:
        """Return everything that the latest process has printed so far."""
        assert self._output is not None
        # Not by `seek`: the process writes where the position is that it shares with us.
        handle = self._output.fileno()
        return os.pread(handle, os.fstat(handle).st_size, 0).decode("utf-8", "replace")

    def engine_pid(self) -> int:
        """Return the pid of the embedded engine's process."""
        children = [
            child for child in psutil.Process(self.pid).children() if "llama_child" in " ".join(child.cmdline())
        ]
        assert len(children) == 1, children
        return int(children[0].pid)

    def stop(self, how: signal.Signals = signal.SIGTERM, within_s: float = 60.0) -> int:
        """End the process and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end within {within_s} s of {how.name}:\n{self.output()}") from None
        assert self._output is None or self._output.closed or KEY not in self.output(), "a key is in the log"
        return status

    def close(self) -> None:
        if self.process is not None:
            self.stop()
        if self._output is not None:
            self._output.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._output is not None:
                print(self.output()[-6000:])  # noqa: T201 (what a failed test shows)
        finally:
            self.close()


def ask(client: OpenAI, question: str = "你是谁？", **options: Any) -> ChatCompletion:
    """Ask one question and return the whole answer."""
    answer = client.chat.completions.create(
        **{"model": "qwen-plus", "messages": [{"role": "user", "content": question}], **options}
    )
    assert isinstance(answer, ChatCompletion)
    return answer


def ask_streamed(client: OpenAI, question: str = "你是谁？", **options: Any) -> Stream[ChatCompletionChunk]:
    """Ask one question and return the stream of its answer."""
    stream = client.chat.completions.create(
        **{"model": "qwen-plus", "messages": [{"role": "user", "content": question}], "stream": True, **options}
    )
    assert isinstance(stream, Stream)
    return stream


def in_front_of(engine: FakeEngine, **row: object) -> str:
    """Return a `hanlin.toml` in which a fake engine answers every name; `row` changes the deployment's fields."""
    fields = {"name": "fake", "url": engine.base_url, "serves": ["*"], **row}
    lines = (f"{name} = {value!r}" if isinstance(value, str) else f"{name} = {value}" for name, value in fields.items())
    return "embedded = false\n[[deployment]]\n" + "\n".join(lines).replace("'", '"') + "\n"


def toml_of(*deployments: Mapping[str, Any], routes: Sequence[Mapping[str, Any]] = (), **settings: Any) -> str:
    """Return a `hanlin.toml` without the embedded engine: settings, then `[[deployment]]` and `[[route]]` tables."""

    def lines(values: Mapping[str, Any]) -> list[str]:
        # JSON's strings, numbers, truths and arrays are TOML's as well.
        return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]

    tables = [("[[deployment]]", row) for row in deployments] + [("[[route]]", row) for row in routes]
    head = lines({"embedded": False, **settings})
    return "\n".join(head + [line for title, row in tables for line in (title, *lines(row))]) + "\n"
