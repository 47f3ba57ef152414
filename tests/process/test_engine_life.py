"""The embedded engine as a process: killed, stopped, orphaned, damaged, abandoned. Real weights."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import psutil
import pytest
from openai import APIError

from hanlin.testing import wait_until
from tests.service import KEY, Service, ask, ask_streamed

pytestmark = pytest.mark.embedded

Start = Callable[..., Service]
LONG_ANSWER = "从一数到一千，每行一个数字，不要省略。"
# Long enough for several seconds of reading on two cores, and shorter than the context.
LONG_PROMPT = "今天天气很好，我们一起去公园散步，然后去图书馆看书。" * 300


@contextmanager
def slots(service: Service) -> Iterator[Callable[[], int]]:
    """Give a function that asks the engine itself how many slots it is working on."""
    (path,) = (service.home / "run").glob("*.sock")
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path)), timeout=30) as client:

        def busy() -> int:
            rows = msgspec.json.decode(client.get("http://engine/slots").content)
            return sum(row["is_processing"] for row in rows)

        yield busy


def seconds_until_free(busy: Callable[[], int]) -> float:
    """Return how long the engine goes on after now."""
    since = time.monotonic()
    while busy():
        assert time.monotonic() - since < 30, "the engine goes on and on"
        time.sleep(0.01)  # asking without a pause would slow down what is asked about
    return time.monotonic() - since


def test_the_streams_of_a_killed_engine_go_on_with_the_next_one(embedded: Start) -> None:
    """llama.cpp can abort on hostile input: it must die alone, and not for long. A text is taken up where it ended."""
    service = embedded().start()
    killed = service.engine_pid()
    stream = iter(ask_streamed(service.client(), LONG_ANSWER, max_tokens=60))
    seen = [next(stream) for _ in range(8)]

    os.kill(killed, signal.SIGKILL)

    seen += stream
    texts = [chunk.choices[0].delta.content for chunk in seen if chunk.choices and chunk.choices[0].delta.content]
    assert len(texts) > 12  # more than had left, or was on its way
    assert [chunk.choices[0].finish_reason for chunk in seen if chunk.choices][-1] in ("stop", "length")
    assert service.engine_pid() != killed
    assert ask(service.client(), max_tokens=8).choices[0].message.content


def test_a_stopped_engine_leaves_the_rotation_and_is_replaced(embedded: Start) -> None:
    """A process that is there and does nothing must not keep callers waiting: 10 s, and the machine's noise on top."""
    service = embedded().start()
    stream = iter(ask_streamed(service.client(), LONG_ANSWER, max_tokens=60))
    next(stream)
    stopped = service.engine_pid()
    since = time.monotonic()

    os.kill(stopped, signal.SIGSTOP)

    wait_until(lambda: service.readiness() == 503, "the engine to leave the rotation", 30)
    left_after_s = time.monotonic() - since
    *_, last = (chunk for chunk in stream if chunk.choices)
    assert last.choices[0].finish_reason in ("stop", "length")  # it went on with the next engine
    print(f"\nleft the rotation after {left_after_s:.1f} s")  # noqa: T201 (a figure for people)
    assert left_after_s < 20
    assert service.engine_pid() != stopped
    assert ask(service.client(), max_tokens=8).choices[0].message.content


def test_an_idle_engine_that_stops_is_noticed_before_anybody_calls(embedded: Start) -> None:
    """The next caller should not be the one who finds out."""
    service = embedded(environment={"HANLIN_STALL_S": "4"}).start()

    os.kill(service.engine_pid(), signal.SIGSTOP)

    wait_until(lambda: service.readiness() == 503, "the engine to leave the rotation", 30)
    service.wait_ready()


@pytest.mark.parametrize("frozen", [False, True])
def test_no_engine_outlives_its_killed_service(embedded: Start, frozen: bool) -> None:
    """An orphan would keep gigabytes of memory and nobody would know whose they are."""
    service = embedded().start()
    engine = psutil.Process(service.engine_pid())
    if frozen:
        engine.suspend()

    service.stop(signal.SIGKILL)

    engine.wait(10)
    assert not engine.is_running()


def test_the_service_ends_its_engine_when_it_is_told_to_end(embedded: Start) -> None:
    """Whoever stops a service means all of it."""
    service = embedded().start()
    engine = psutil.Process(service.engine_pid())

    code = service.stop()

    assert code == 0
    assert not engine.is_running()


def test_damaged_weights_are_never_used_and_the_message_names_the_remedy(embedded: Start, tmp_path: Path) -> None:
    """Bytes that were lost make a model that answers nonsense, or a crash far from its cause."""
    service = embedded(environment=nowhere_to_fetch_from())
    (file,) = [path for path in (service.home / "models").iterdir() if not path.suffix and path.is_file()]
    damaged = tmp_path / "copy"
    with file.open("rb") as whole, damaged.open("wb") as writing:
        writing.write(whole.read(2**20))  # it says that it is what it was, and has its size; the rest are zeros
        writing.truncate(file.stat().st_size)
    file.with_name(f"{file.name}.toml").unlink()  # nothing says that the file has been looked at before
    file.unlink()
    damaged.rename(file)

    service.launch()
    assert service.process is not None
    code = service.process.wait(120)

    assert code == 1
    assert "damaged" in service.output()
    assert not file.exists()


def nowhere_to_fetch_from() -> dict[str, str]:
    """Return an environment in which no source of weights can be reached."""
    dead = "http://127.0.0.1:9"
    return {
        "PIP_INDEX_URL": f"{dead}/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "HF_ENDPOINT": dead,
        "MODELSCOPE_ENDPOINT": dead,
    }


def test_a_call_while_the_engine_loads_waits_for_it(embedded: Start) -> None:
    """The first call after a start should not need a second try."""
    service = embedded()
    service.launch()
    wait_until(lambda: service.readiness() != 0, "the port", 30)

    answer = ask(service.client(max_retries=8), max_tokens=8)

    assert answer.choices[0].message.content


def test_a_call_that_would_wait_too_long_is_told_to_come_back(embedded: Start) -> None:
    """Never a hang: a caller with a deadline of its own must learn what is going on."""
    service = embedded(environment={"HANLIN_LOAD_WAIT_S": "0.2"}).start()
    os.kill(service.engine_pid(), signal.SIGKILL)
    wait_until(lambda: service.readiness() == 503, "the death to be noticed")

    answer = httpx2.post(
        f"{service.base_url}/chat/completions",
        headers={"authorization": f"Bearer {KEY}"},
        json={"model": "qwen-plus", "messages": [{"role": "user", "content": "你好"}]},
        timeout=30,
    )

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "ModelUnavailable"
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "unstreamed"])
def test_a_caller_who_hangs_up_while_it_writes_frees_the_engine(embedded_service: Service, streamed: bool) -> None:
    """Tokens that nobody reads cost everybody else time: 250 ms is the promise, noise of the machine comes on top."""
    with slots(embedded_service) as busy, calling(embedded_service, LONG_ANSWER, stream=streamed) as hang_up:
        wait_until(busy, "the engine to begin", 30)
        time.sleep(0.5)

        hang_up()
        free_after_s = seconds_until_free(busy)

    print(f"\nfree {free_after_s * 1000:.0f} ms after the hang-up")  # noqa: T201 (a figure for people)
    assert free_after_s < 2


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "unstreamed"])
def test_a_caller_who_hangs_up_while_it_reads_frees_the_engine(embedded_service: Service, streamed: bool) -> None:
    """Reading a long prompt takes many seconds on a small machine; it is given up after the batch that runs."""
    prompt = f"{time.monotonic()} {LONG_PROMPT}"  # new each time: what is cached would not be read again
    with slots(embedded_service) as busy, calling(embedded_service, prompt, stream=streamed) as hang_up:
        wait_until(busy, "the engine to begin", 30)
        time.sleep(0.5)

        hang_up()
        free_after_s = seconds_until_free(busy)

    print(f"\nfree {free_after_s * 1000:.0f} ms after the hang-up")  # noqa: T201 (a figure for people)
    assert free_after_s < 2


LONG_TEXT = {"type": "object", "properties": {"text": {"type": "string", "minLength": 1500}}, "required": ["text"]}
TOOL = {"type": "function", "function": {"name": "note", "parameters": LONG_TEXT}}
PASSES: dict[str, dict[str, object]] = {
    "thoughts": {"enable_thinking": True},
    "arguments": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "note"}}},
    "shape": {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": LONG_TEXT}}},
}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "unstreamed"])
@pytest.mark.parametrize("kind", PASSES)
def test_a_caller_who_hangs_up_during_a_pass_frees_the_engine(
    embedded_service: Service, kind: str, streamed: bool
) -> None:
    """Thoughts, arguments and JSON are generations of their own: leaving must end whichever runs."""
    asked = PASSES[kind]
    with slots(embedded_service) as busy, calling(embedded_service, LONG_ANSWER, stream=streamed, **asked) as hang_up:
        wait_until(busy, "the engine to begin", 30)
        time.sleep(0.5)

        hang_up()
        free_after_s = seconds_until_free(busy)

    print(f"\nfree {free_after_s * 1000:.0f} ms after the hang-up")  # noqa: T201 (a figure for people)
    assert free_after_s < 2


@pytest.mark.parametrize("kind", ["thoughts", "arguments"])
def test_a_pass_whose_engine_dies_ends_with_an_error(embedded: Start, kind: str) -> None:
    """One typed error, whichever pass ran or was to begin; the next call is answered."""
    service = embedded().start()
    stream = ask_streamed(service.client(), LONG_ANSWER, extra_body=PASSES[kind])
    next(iter(stream))

    os.kill(service.engine_pid(), signal.SIGKILL)

    with pytest.raises(APIError) as failure:
        for _ in stream:
            pass
    assert failure.value.code in ("internal_error", "ModelUnavailable")
    service.wait_ready()
    assert ask(service.client(), max_tokens=8).choices[0].message.content


def test_a_pass_that_nobody_has_seen_anything_of_is_made_again(embedded: Start) -> None:
    """JSON that a grammar cannot promise is held back until it fits: a death on the way costs its caller time alone."""
    service = embedded().start()
    text = {"type": "string", "minLength": 120, "maxLength": 160}
    schema = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}

    with ThreadPoolExecutor(1) as pool, slots(service) as busy:
        asked = pool.submit(ask, service.client(), LONG_ANSWER, extra_body={"response_format": shape})
        wait_until(busy, "the engine to begin", 30)
        os.kill(service.engine_pid(), signal.SIGKILL)
        answer = asked.result(120)

    assert len(json.loads(answer.choices[0].message.content or "")["text"]) >= 120


@contextmanager
def calling(service: Service, question: str, *, stream: bool, **fields: object) -> Iterator[Callable[[], None]]:
    """Make a call on a connection of its own, and give the function that hangs it up."""
    body = msgspec.json.encode(
        {"model": "qwen-plus", "messages": [{"role": "user", "content": question}], "stream": stream, **fields}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        yield connection.close
