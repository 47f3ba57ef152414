"""The HTTP front of the running service, seen by the programs that people use: curl, SDKs, plain sockets."""

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import KEY, Service, ask, ask_streamed, in_front_of

CHAT = "/compatible-mode/v1/chat/completions"
ENDLESS = Rule(text="长" * 20_000, chunk_delay_s=0.02)


@pytest.fixture(scope="module")
def running() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def service(running: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=in_front_of(running)) as service:
        yield service


@pytest.fixture
def engine(running: FakeEngine) -> FakeEngine:
    """The engine, answering everything the same and with nothing asked yet."""
    running.rules([Rule(text="好")])
    running.forget_requests()
    return running


def call(**extra: Any) -> bytes:
    return json.dumps({"model": "qwen-plus", "messages": [{"role": "user", "content": "你好"}], **extra}).encode()


def request(body: bytes, *lines: str) -> bytes:
    fields = [f"POST {CHAT} HTTP/1.1", "host: hanlin", f"authorization: Bearer {KEY}", f"content-length: {len(body)}"]
    return "\r\n".join([*fields, *lines, "", ""]).encode() + body


def connections(service: Service) -> int:
    """Return how many connections of clients the service holds."""
    ours = psutil.Process(service.pid).net_connections("tcp")
    return sum(one.status != psutil.CONN_LISTEN and one.laddr[1] == service.port for one in ours)


curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")


@curl
@pytest.mark.parametrize("options", [[], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"], ["--http2"]])
def test_curl_is_answered(service: Service, engine: FakeEngine, tmp_path: Path, options: list[str]) -> None:
    """Old versions, chunks, an offer of HTTP/2, and a large body that waits to be asked for: it knows them all."""
    for size in (0, 1_500_000):
        (tmp_path / "call.json").write_bytes(call(user="x" * size))
        command = ["curl", "-sS", "-m", "30", *options, "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {KEY}"]
        files = ["-H", "Expect: 100-continue"] if size and "--http1.0" not in options else []
        command += [*files, "--data-binary", f"@{tmp_path / 'call.json'}", service.url + CHAT]

        body, _, status = subprocess.run(command, capture_output=True, check=True).stdout.rpartition(b"\n")

        assert status == b"200", body
        assert json.loads(body)["choices"][0]["message"]["content"] == "好"


@curl
def test_curl_reads_why_its_body_is_too_large(service: Service, engine: FakeEngine, tmp_path: Path) -> None:
    """The answer comes while it still sends, and a reset would hide it."""
    (tmp_path / "call.json").write_bytes(call(user="x" * 30_000_000))
    command = ["curl", "-sS", "-m", "30", "-H", "Expect:", "-H", f"Authorization: Bearer {KEY}"]

    done = subprocess.run(
        [*command, "--data-binary", f"@{tmp_path / 'call.json'}", service.url + CHAT], capture_output=True, check=True
    )

    assert json.loads(done.stdout)["error"]["code"] == "BadRequest.TooLarge"


def test_the_sdk_calls_often_and_at_once(service: Service, engine: FakeEngine) -> None:
    """On connections that it keeps, streams and whole answers in turns."""
    client = service.client()

    def both(_number: int) -> tuple[str | None, str]:
        whole = ask(client).choices[0].message.content
        chunks = [chunk for chunk in ask_streamed(client) if chunk.choices]
        return whole, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(both, range(80)))

    assert answers == [("好", "好")] * 80


def test_one_connection_serves_many_calls_also_after_errors(service: Service, engine: FakeEngine) -> None:
    """A wrong path, key or body is answered, and the next call needs no new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    right = {"authorization": f"Bearer {KEY}"}
    statuses, sockets = [], set()
    for method, path, body, headers in [
        ("POST", CHAT, call(), right),
        ("POST", CHAT, call(), {}),
        ("POST", CHAT, b"{", right),
        ("POST", "/nowhere", call(), right),
        ("GET", CHAT, None, right),
        ("HEAD", "/v1/models", None, right),
        ("POST", CHAT, call(stream=True), right),
        ("GET", "/health", None, {}),
    ]:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
        sockets.add(id(connection.sock))
    connection.close()

    assert statuses == [200, 401, 400, 404, 405, 405, 200, 200]
    assert len(sockets) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("resets", [True, False])
def test_a_client_that_leaves_stops_the_engine(
    service: Service, engine: FakeEngine, stream: bool, resets: bool
) -> None:
    """However it leaves: a program that ends says no more than one that has only sent everything."""
    engine.rules([ENDLESS])
    before = service.metric("hanlin_calls_open")
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    connection.sendall(request(call(stream=stream)))
    wait_until(lambda: bool(engine.requests()), "the call")

    if resets:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
    left = time.monotonic()
    wait_until(lambda: service.metric("hanlin_calls_open") <= before, "the end of the call", 10)

    assert time.monotonic() - left < 5
    wait_until(lambda: service.get("/health").json()["deployments"][0]["running"] == 0, "a free place", 10)


def test_a_client_that_sends_everything_and_then_closes_its_side_is_answered(
    service: Service, engine: FakeEngine
) -> None:
    """`nc` does so by default, and so do scripts; what is asked must be quick, as states and lists are."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: hanlin\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)

        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_crowd_of_callers_leaves_no_connection_behind(service: Service, engine: FakeEngine) -> None:
    """Some garble, some leave, some hang: the service is as it was."""
    kinds = [
        b"",
        b"\x16\x03\x01nonsense",
        b"GET /he",
        request(call())[:-5],
        request(call()),
        request(call(stream=True)),
    ]

    def visit(number: int) -> None:
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(kinds[number % len(kinds)])
            if number % 2:
                connection.settimeout(0.05)
                with contextlib.suppress(OSError):
                    connection.recv(1000)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(visit, range(600)))

    wait_until(lambda: connections(service) <= 2, "the end of the connections", 20)
    assert ask(service.client()).choices[0].message.content == "好"


def test_calls_go_on_while_thousands_of_connections_are_idle(service: Service, engine: FakeEngine) -> None:
    """Pools of clients keep theirs open; probes and calls must still get through."""
    idle = [socket.create_connection(("127.0.0.1", service.port), timeout=30) for _ in range(1500)]
    try:
        assert ask(service.client()).choices[0].message.content == "好"
        assert service.readiness() == 200
    finally:
        for one in idle:
            one.close()
