"""The fake engine as users meet it: its own process, real sockets, the official client, hang-ups and faults."""

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import AsyncOpenAI, OpenAI

from hanlin.testing import FakeEngine, Rule, ToolCall, free_port, wait_until

QUESTION: list[Any] = [{"role": "user", "content": "你是谁？"}]
WHOLE = b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def engine(running: FakeEngine) -> FakeEngine:
    """The engine that the tests of this file share, without rules and with nothing asked yet."""
    running.rules([])
    running.forget_requests()
    return running


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[OpenAI]:
    with OpenAI(base_url=engine.base_url, api_key="sk-fake", max_retries=0, timeout=20) as client:
        yield client


def request(*, stream: bool, path: str = "/v1/chat/completions", **extra: Any) -> bytes:
    body = json.dumps({"model": "m", "messages": QUESTION, "stream": stream, **extra}).encode()
    return f"POST {path} HTTP/1.1\r\nhost: fake\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


@contextlib.contextmanager
def connected(engine: FakeEngine) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(engine.url.rpartition(":")[2])), timeout=20) as connection:
        yield connection


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read until the bytes end like this, or the other side closes."""
    data = b""
    while not data.endswith(end) and (more := connection.recv(65536)):
        data += more
    return data


def gone(pid: int) -> bool:
    """Say whether a process has ended; nobody may have collected an orphan yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# The official client


def test_the_official_client_reads_text_streamed_and_not(engine: FakeEngine, client: OpenAI) -> None:
    """Both modes say the same, with the same usage."""
    engine.rules([Rule(text="我是通义千问。Hello!", chunk_tokens=2)])

    whole = client.chat.completions.create(model="qwen-plus", messages=QUESTION)
    stream = client.chat.completions.create(
        model="qwen-plus", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    frames = list(stream)

    text = "".join(frame.choices[0].delta.content or "" for frame in frames if frame.choices)
    assert text == whole.choices[0].message.content == "我是通义千问。Hello!"
    assert frames[-1].usage == whole.usage
    assert frames[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert [row.id for row in engine.requests()] == [whole.id, frames[0].id]


@pytest.mark.parametrize("style", ["openai", "llama"])
def test_the_official_client_reads_thinking_and_tool_calls(engine: FakeEngine, client: OpenAI, style: Any) -> None:
    """Joined by the SDK's own rules: by index, an empty id never overwriting one."""
    calls = (ToolCall("get_weather", {"city": "杭州"}), ToolCall("get_time", {}))
    engine.rules([Rule(style=style, thinking="想一想", tool_calls=calls)])

    message = client.chat.completions.create(model="m", messages=QUESTION).choices[0].message
    thinking, ids, names = "", list[str](), list[str]()
    arguments: dict[int, str] = {}
    for frame in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
        delta = frame.choices[0].delta
        thinking += getattr(delta, "reasoning_content", None) or ""
        for call in delta.tool_calls or []:
            assert call.function is not None
            ids += [call.id] if call.id else []
            names += [call.function.name] if call.function.name else []
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")

    assert thinking == getattr(message, "reasoning_content", None) == "想一想"
    assert names == ["get_weather", "get_time"]
    assert arguments == {0: '{"city":"杭州"}', 1: "{}"}
    assert len(set(ids)) == 2
    assert [call.function.arguments for call in message.tool_calls or [] if call.type == "function"] == [
        '{"city":"杭州"}',
        "{}",
    ]


def test_the_official_client_sees_an_error_with_its_headers(engine: FakeEngine, client: OpenAI) -> None:
    """What retries look at: status, code, Retry-After."""
    engine.rules([Rule(status=429, headers={"Retry-After": "7"})])

    with pytest.raises(openai.RateLimitError) as refusal:
        client.chat.completions.create(model="m", messages=QUESTION)

    assert refusal.value.response.headers["retry-after"] == "7"
    assert refusal.value.code == "limit_requests"
    assert engine.requests()[0].state == "failed"


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_stream_in_pieces_is_the_same_stream(engine: FakeEngine, client: OpenAI, size: int) -> None:
    """A piece may end within a character; a client that decodes too early shows it."""
    engine.rules([Rule(text="我是通义千问🌟", split_bytes=size, comment="ping", crlf=size == 2)])

    frames = client.chat.completions.create(model="m", messages=QUESTION, stream=True)

    assert "".join(frame.choices[0].delta.content or "" for frame in frames) == "我是通义千问🌟"


async def test_many_callers_are_answered_at_once(engine: FakeEngine) -> None:
    """The engine's delays are not in each other's way."""
    engine.rules([Rule(echo=True, first_delay_s=0.2)])

    async with AsyncOpenAI(base_url=engine.base_url, api_key="sk-fake", max_retries=0, timeout=20) as client:

        async def ask(question: str) -> str | None:
            messages: list[Any] = [{"role": "user", "content": question}]
            return (await client.chat.completions.create(model="m", messages=messages)).choices[0].message.content

        began = time.monotonic()
        answers = await asyncio.gather(*(ask(f"第{nth}问") for nth in range(32)))

    assert answers == [f"第{nth}问" for nth in range(32)]
    assert time.monotonic() - began < 32 * 0.2


def test_a_generation_is_made_in_passes_over_its_own_completions(engine: FakeEngine) -> None:
    """What a program does that writes and reads the model's markup itself: the rule is the one for chat."""
    engine.rules([Rule(thinking="想一想", tool_calls=(ToolCall("get_weather", {"city": "杭州"}),))])

    def asked(path: str, **body: Any) -> Any:
        connection = http.client.HTTPConnection(engine.url.removeprefix("http://"), timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body))
            return json.loads(connection.getresponse().read())

    prompt = asked("/apply-template", messages=QUESTION)["prompt"] + "<think>\n"
    thinking = asked("/completion", prompt=prompt, stop=["</think>"])
    prompt += thinking["content"] + "</think>\n\n"
    call = asked("/completion", prompt=prompt, stop=['"arguments":'])
    prompt += call["content"] + '"arguments": '
    arguments = asked("/completion", prompt=prompt, json_schema={"type": "object"})

    assert (thinking["content"], thinking["stopping_word"]) == ("想一想\n", "</think>")
    assert call["content"] == '<tool_call>\n{"name": "get_weather", '
    assert (arguments["content"], arguments["stop_type"]) == ('{"city":"杭州"}', "eos")
    assert [row.rule for row in engine.requests()] == [0, 0, 0]


# Hang-ups


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "rule",
    [
        Rule(text="你" * 500, chunk_delay_s=0.05),
        Rule(first_delay_s=60),
        Rule(prefill_frames=100, prefill_delay_s=0.05),
        Rule(stall_after_chunks=0),
        Rule(stall_after_chunks=-1),
    ],
    ids=["while it generates", "before the first token", "while it reads", "while it stalls", "before it answers"],
)
def test_a_hang_up_is_noticed_and_ends_the_generation(engine: FakeEngine, rule: Rule, stream: bool) -> None:
    """What a caller no longer waits for must not be made, and Hanlin must be caught when it forgets to hang up."""
    engine.rules([rule])
    with connected(engine) as connection:
        connection.sendall(request(stream=stream))
        engine.wait_for(lambda requests: requests[-1].state == "running")

    (row,) = engine.wait_for(lambda requests: requests[-1].state == "cancelled")

    assert row.tokens_made < 500
    assert row.cancelled_after_s is not None
    assert row.ended_at is not None
    time.sleep(0.1)
    assert engine.requests()[0].tokens_made == row.tokens_made


def test_a_reset_connection_is_a_hang_up_too(engine: FakeEngine) -> None:
    """A killed client does not say goodbye."""
    engine.rules([Rule(stall_after_chunks=1)])
    with connected(engine) as connection:
        connection.sendall(request(stream=True))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert engine.wait_for(lambda requests: requests[-1].state == "cancelled")


async def test_a_hang_up_can_be_awaited(engine: FakeEngine) -> None:
    """For tests whose own event loop has to go on meanwhile."""
    engine.rules([Rule(first_delay_s=60)])
    async with AsyncOpenAI(base_url=engine.base_url, api_key="sk-fake", max_retries=0, timeout=20) as client:
        call = asyncio.create_task(client.chat.completions.create(model="m", messages=QUESTION))
        await engine.wait_for_async(lambda requests: requests[-1].state == "running")

        call.cancel()

        await engine.wait_for_async(lambda requests: requests[-1].state == "cancelled")


def test_waiting_in_vain_shows_what_was_asked(engine: FakeEngine) -> None:
    """A test that fails here has to say why."""
    with connected(engine) as connection:
        connection.sendall(request(stream=True))
        read_until(connection, WHOLE)

    with pytest.raises(TimeoutError, match="done"):
        engine.wait_for(lambda requests: requests[-1].state == "cancelled", timeout_s=0.05)


def test_a_reader_that_never_reads_stops_the_generation(engine: FakeEngine) -> None:
    """The engine's memory must not be where a slow client's answer collects."""
    engine.rules([Rule(text="你" * 200_000)])
    with connected(engine) as connection:
        connection.sendall(request(stream=True))
        engine.wait_for(lambda requests: requests[-1].tokens_made > 0)
        made = -1
        while made != (made := engine.requests()[-1].tokens_made):
            time.sleep(0.1)

        assert made < 200_000
        assert engine.requests()[-1].state == "running"

    assert engine.wait_for(lambda requests: requests[-1].state == "cancelled")


def test_a_slow_reader_gets_everything(engine: FakeEngine) -> None:
    """Generation goes on where it rested."""
    engine.rules([Rule(text="你" * 20_000)])
    with connected(engine) as connection:
        connection.sendall(request(stream=True))
        time.sleep(0.2)

        data = read_until(connection, WHOLE)

    assert data.count('"content":"你"'.encode()) == 20_000
    assert engine.requests()[-1].state == "done"


# Faults on the wire


def test_a_cut_closes_the_connection_within_the_body(engine: FakeEngine) -> None:
    """No last HTTP chunk: a client can tell this from an end."""
    engine.rules([Rule(text="你好吗", cut_after_chunks=2)])
    with connected(engine) as connection:
        connection.sendall(request(stream=True))
        data = read_until(connection, b"never")

    assert '"content":"好"'.encode() in data
    assert not data.endswith(WHOLE)
    assert engine.requests()[0].state == "cut"


def test_a_reset_is_a_reset(engine: FakeEngine) -> None:
    """A crash of the engine's host looks like this, and libraries raise something else for it."""
    engine.rules([Rule(text="你好吗", cut_after_chunks=2, reset=True)])
    with connected(engine) as connection:
        connection.sendall(request(stream=True))

        with pytest.raises(ConnectionResetError):
            read_until(connection, b"never")

    assert engine.requests()[0].state == "cut"


def test_a_stall_is_silence_on_an_open_connection(engine: FakeEngine) -> None:
    """Only a deadline of the client ends it."""
    engine.rules([Rule(text="你好吗", stall_after_chunks=2)])
    with connected(engine) as connection:
        connection.sendall(request(stream=True))
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            read_until(connection, b"never")

        (row,) = engine.requests()

    assert (row.state, row.tokens_made, row.chunks_sent) == ("running", 2, 2)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (Rule(text="你好", cut_after_chunks=1), openai.APIConnectionError),
        (Rule(text="你好", cut_after_chunks=-1), openai.APIConnectionError),
        (Rule(text="你好", error_after_chunks=1), openai.APIError),
        (Rule(text="你好", garbage_after_chunks=1), json.JSONDecodeError),
        (Rule(text="你好", garbage_after_chunks=-1), openai.APIConnectionError),
    ],
    ids=["cut", "no answer", "error", "garbage", "no HTTP"],
)
def test_the_official_client_notices_a_fault(
    engine: FakeEngine, client: OpenAI, rule: Rule, error: type[Exception], stream: bool
) -> None:
    """What is a fault here is a fault for the programs that Hanlin serves."""
    engine.rules([rule])

    with pytest.raises(error):
        list(client.chat.completions.create(model="m", messages=QUESTION, stream=stream))


@pytest.mark.parametrize("stream", [True, False])
def test_the_official_client_takes_an_early_end_for_an_answer(engine: FakeEngine, client: OpenAI, stream: bool) -> None:
    """The fault that nobody notices: only the missing finish reason tells."""
    engine.rules([Rule(text="你好吗", end_after_chunks=2)])

    answers: list[Any] = [client.chat.completions.create(model="m", messages=QUESTION, stream=stream)]
    if stream:
        answers = list(answers[0])

    assert [choice.finish_reason for answer in answers for choice in answer.choices if choice.finish_reason] == []
    assert engine.requests()[0].state == "done"


# HTTP


def test_a_connection_serves_many_requests_in_their_order(engine: FakeEngine) -> None:
    """Pools keep connections, and some clients send ahead."""
    engine.rules([Rule(contains="二", text="second"), Rule(text="first", first_delay_s=0.1)])
    second = request(stream=False, messages=[{"role": "user", "content": "二"}])
    with connected(engine) as connection:
        connection.sendall(request(stream=True) + second)
        data = read_until(connection, b"}}")

    assert data.index(b"firs") < data.index(WHOLE) < data.index(b"second")
    assert [row.state for row in engine.requests()] == ["done", "done"]


def test_a_client_that_asks_for_it_is_told_to_go_on(engine: FakeEngine) -> None:
    """curl does so before larger bodies, and waits a second without an answer."""
    head, _, body = request(stream=False).partition(b"\r\n\r\n")
    with connected(engine) as connection:
        connection.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        connection.sendall(body)

        assert read_until(connection, b"}}").startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"hello\r\n\r\n", b"400"), (b"POST /v1/models HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", b"413")],
    ids=["no HTTP", "too large"],
)
def test_what_cannot_be_read_is_refused_and_the_connection_closed(
    engine: FakeEngine, sent: bytes, status: bytes
) -> None:
    """Nothing behind it could be understood."""
    with connected(engine) as connection:
        connection.sendall(sent)

        assert read_until(connection, b"never").split()[1] == status


def test_a_client_that_wants_to_close_is_closed(engine: FakeEngine) -> None:
    """`Connection: close` comes from simple clients that read until the end."""
    sent = request(stream=False).replace(b"host: fake", b"connection: close")
    with connected(engine) as connection:
        connection.sendall(sent)

        assert read_until(connection, b"never").endswith(b"}}")


# The process


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """As the embedded engine does."""
    path = tmp_path / "e.sock"

    with FakeEngine(uds=path) as engine, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(request(stream=False))
        assert read_until(connection, b"}}").startswith(b"HTTP/1.1 200 OK")
        assert engine.requests()[0].state == "done"

    assert not path.exists()


def test_it_can_be_killed_and_started_again_on_its_port() -> None:
    """A restart is what supervisors and clients have to cope with."""
    with FakeEngine([Rule(text="好")], port=free_port()) as engine:
        first, url = engine.pid, engine.url
        engine.kill()
        with pytest.raises(ConnectionRefusedError):
            engine.requests()

        engine.start()

        assert engine.url == url
        assert engine.pid != first
        assert engine.requests() == []
    assert not psutil.pid_exists(first)


def test_a_frozen_engine_is_silent_until_it_thaws(engine: FakeEngine) -> None:
    """SIGSTOP is the nastiest failure: connections are accepted, and nothing ever comes."""
    engine.freeze()
    with connected(engine) as connection:
        connection.sendall(request(stream=False))
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)

        engine.thaw()

        connection.settimeout(20)
        assert read_until(connection, b"}}").startswith(b"HTTP/1.1 200 OK")


def test_a_frozen_engine_can_be_stopped() -> None:
    """A test that fails while the engine is frozen must not leave it behind."""
    with FakeEngine() as engine:
        pid = engine.pid
        engine.freeze()

    assert not psutil.pid_exists(pid)


async def test_it_is_started_from_a_running_event_loop() -> None:
    """`async with`, for suites that are asynchronous throughout."""
    async with FakeEngine(style="llama", models=["q.gguf"]) as engine:
        async with AsyncOpenAI(base_url=engine.base_url, api_key="sk-fake", max_retries=0, timeout=20) as client:
            models = await client.models.list()

        assert [model.id for model in models.data] == ["q.gguf"]


def test_it_dies_with_the_process_that_started_it() -> None:
    """A test run that is killed leaves no engine behind."""
    program = (
        "import os, signal\n"
        "from hanlin.testing import FakeEngine\n"
        "engine = FakeEngine(); engine.start(); print(engine.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert parent.returncode == -signal.SIGKILL
    wait_until(lambda: gone(int(parent.stdout)), "the engine ends when its parent was killed")


def test_a_port_that_is_taken_is_an_error_with_the_reason() -> None:
    """Not a timeout half a minute later."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with pytest.raises(RuntimeError, match=r"exit status 2.*address already in use"):
            FakeEngine(port=taken.getsockname()[1]).start()


def test_an_engine_that_was_not_started_says_so() -> None:
    """The likeliest mistake is a missing `with`."""
    with pytest.raises(RuntimeError, match="with"):
        FakeEngine().freeze()


def test_it_is_started_from_a_shell_with_a_file_of_rules(tmp_path: Path) -> None:
    """Tests in other languages read one line and know where it listens."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ntext = "来自文件"\n', encoding="utf-8")
    command = [sys.executable, "-m", "hanlin.testing.engine", "--rules", str(rules), "--style", "llama"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())

        with OpenAI(base_url=f"{line['url']}/v1", api_key="sk-fake", max_retries=0, timeout=20) as client:
            answer = client.chat.completions.create(model="m", messages=QUESTION)
        process.send_signal(signal.SIGTERM)

        assert process.wait(20) == 0
    assert line["pid"] == process.pid
    assert answer.choices[0].message.content == "来自文件"
    assert answer.system_fingerprint == "b0"


def test_rules_that_are_wrong_stop_the_start(tmp_path: Path) -> None:
    """With the file and the field in one line, and no traceback."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ntxt = "?"\n', encoding="utf-8")
    command = [sys.executable, "-m", "hanlin.testing.engine", "--rules", str(rules)]

    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert str(rules) in ended.stderr
    assert "txt" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_rules_that_are_wrong_are_refused_while_it_runs(engine: FakeEngine) -> None:
    """The Python side cannot write them, but a shell can."""
    with connected(engine) as connection:
        connection.sendall(b'PUT /rules HTTP/1.1\r\ncontent-length: 14\r\n\r\n[{"txt": "?"}]')

        refusal = read_until(connection, b"}")

    assert refusal.startswith(b"HTTP/1.1 400")
    assert b"txt" in refusal


def test_waiting_for_a_condition_ends_with_its_value_or_its_name() -> None:
    """`wait_until` is for everything that is not a request."""
    values = iter([None, 0, "there"])

    assert wait_until(lambda: next(values), "a value") == "there"
    with pytest.raises(TimeoutError, match="pigs fly"):
        wait_until(lambda: False, "pigs fly", timeout_s=0.02)


def test_a_free_port_can_be_listened_on() -> None:
    """Small, but every process test needs it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
