"""The bytes of chat calls, as spec/chat.md §4 and §12 and spec/surfaces.md §0 and §9 have them: no SDK in between."""

import contextlib
import json
import re
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import psutil
import pytest

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import KEY, Service, in_front_of

CHAT = "/compatible-mode/v1/chat/completions"
QUESTION: list[Any] = [{"role": "user", "content": "你是谁？"}]
ANSWER = "我是通义千问。"
ENDLESS = Rule(text="长" * 20_000, chunk_delay_s=0.02)
MAX_BODY_BYTES = 20_000
READER_STALL_S = 1.0
SETTINGS = {
    "HANLIN_KEEPALIVE_S": "0.3",
    "HANLIN_FIRST_BYTE_S": "2",
    "HANLIN_RETRY_SHARE": "0",  # a fault is to be seen at once
    "HANLIN_SILENCE_S": "2",
    "HANLIN_READER_STALL_S": str(READER_STALL_S),
    "HANLIN_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
}


@pytest.fixture(scope="module")
def running() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def service(running: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    with Service(home, config=in_front_of(running), environment=SETTINGS) as service:
        yield service


@pytest.fixture
def engine(running: FakeEngine) -> FakeEngine:
    """The engine, answering everything the same and with nothing asked yet."""
    running.rules([Rule(text=ANSWER)])
    running.forget_requests()
    return running


@pytest.fixture
def http(service: Service, engine: FakeEngine) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http:
        yield http


def body(**extra: Any) -> dict[str, Any]:
    return {"model": "qwen-plus", "messages": QUESTION, **extra}


def blocks(response: httpx2.Response) -> list[bytes]:
    """Cut a whole stream at its blank lines; it must end with one."""
    *cut, rest = response.content.split(b"\n\n")
    assert rest == b""
    return cut


def frames(response: httpx2.Response) -> list[Any]:
    """Return the JSON of a stream's frames, and `[DONE]` as text."""
    data = [block.removeprefix(b"data: ") for block in blocks(response) if not block.startswith(b":")]
    return ["[DONE]" if one == b"[DONE]" else json.loads(one) for one in data]


@contextlib.contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        yield connection


def head(path: str = CHAT, *lines: str) -> bytes:
    fields = [f"POST {path} HTTP/1.1", "host: hanlin", f"authorization: Bearer {KEY}", *lines, "", ""]
    return "\r\n".join(fields).encode()


# --- the form of answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions"])
def test_an_unstreamed_body_has_exactly_the_documented_fields(http: httpx2.Client, path: str) -> None:
    """Strict readers reject what they do not know, and miss what is not there (§4.1)."""
    response = http.post(path, json=body())

    answer = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert answer.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert (answer["object"], answer["model"], answer["system_fingerprint"]) == ("chat.completion", "qwen-plus", "fake")
    assert isinstance(answer["created"], int)
    assert answer["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": ANSWER},
        }
    ]
    assert answer["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}


def test_the_request_id_is_one_uuid_everywhere(http: httpx2.Client) -> None:
    """One id leads from a header, a body or a frame to the log (spec/surfaces.md §0.4)."""
    whole = http.post(CHAT, json=body())
    streamed = http.post(CHAT, json=body(stream=True))
    refused = http.post(CHAT, json=body(n=9))

    ids = {
        whole.headers["x-request-id"]: [whole.json()["id"]],
        streamed.headers["x-request-id"]: [frame["id"] for frame in frames(streamed)[:-1]],
        refused.headers["x-request-id"]: [refused.json()["id"], f"chatcmpl-{refused.json()['request_id']}"],
    }
    assert len(ids) == 3
    for request_id, seen in ids.items():
        assert str(uuid.UUID(request_id)) == request_id
        assert set(seen) == {f"chatcmpl-{request_id}"}


def test_a_stream_is_role_then_deltas_then_finish_then_usage_then_done(http: httpx2.Client) -> None:
    """Every chunk with exactly the documented fields, in the documented order (§4.2)."""
    response = http.post(CHAT, json=body(stream=True, stream_options={"include_usage": True}))

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream;charset=UTF-8"
    *chunks, usage, done = frames(response)
    assert done == "[DONE]"
    envelope = {"choices", "object", "usage", "created", "system_fingerprint", "model", "id"}
    assert all(chunk.keys() == envelope for chunk in (*chunks, usage))
    assert {chunk["object"] for chunk in (*chunks, usage)} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in (*chunks, usage)}) == 1
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks)
    assert all(choice.keys() == {"delta", "index", "logprobs", "finish_reason"} for choice in choices)
    assert [choice["delta"] for choice in choices] == [
        {"content": "", "role": "assistant"},
        *({"content": character} for character in ANSWER),
        {"content": ""},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert usage["choices"] == []
    assert usage["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}


def test_a_stream_that_did_not_ask_has_no_usage_chunk(http: httpx2.Client) -> None:
    """`choices: []` is sent only with `include_usage` (§4.2)."""
    asked: list[dict[str, Any]] = [{}, {"stream_options": {}}, {"stream_options": {"include_usage": False}}]
    for options in asked:
        *chunks, done = frames(http.post(CHAT, json=body(stream=True, **options)))

        assert done == "[DONE]"
        assert all(chunk["choices"] and chunk["usage"] is None for chunk in chunks)


def test_every_choice_of_a_stream_opens_before_any_speaks(http: httpx2.Client) -> None:
    """The SDK's helper needs choices 0 … n-1 in order first; each has its role once and its reason once."""
    *chunks, _ = frames(http.post(CHAT, json=body(stream=True, n=3)))

    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["index"] for choice in choices[:3]] == [0, 1, 2]
    assert [index for index, choice in enumerate(choices) if "role" in choice["delta"]] == [0, 1, 2]
    assert sorted(choice["index"] for choice in choices if choice["finish_reason"]) == [0, 1, 2]


def test_likelihoods_have_exactly_the_documented_fields(http: httpx2.Client) -> None:
    """Also in streams: beside the token they belong to, null in the chunks of role and finish."""
    asked = body(logprobs=True, top_logprobs=2)
    whole = http.post(CHAT, json=asked).json()["choices"][0]["logprobs"]
    *chunks, _ = frames(http.post(CHAT, json={**asked, "stream": True}))

    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert streamed[0] is None
    assert streamed[-1] is None
    assert [token for part in streamed[1:-1] for token in part["content"]] == whole["content"]
    for token in whole["content"]:
        assert token.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        assert [alternative.keys() for alternative in token["top_logprobs"]] == [{"token", "logprob", "bytes"}] * 2


def test_streams_carry_no_id_lines_and_only_data_and_comments(http: httpx2.Client, engine: FakeEngine) -> None:
    """After an `id:` line the Python SDK dies of the next comment (spec/surfaces.md §9.3)."""
    engine.rules([Rule(text=ANSWER, first_delay_s=0.8)])

    response = http.post(CHAT, json=body(stream=True))

    assert all(re.fullmatch(rb"data: [^\r\n]+|:[^\r\n]*", block) for block in blocks(response))


@pytest.mark.parametrize(
    "bytes_of",
    [
        Rule(split_bytes=1),
        Rule(split_bytes=7),
        Rule(crlf=True),
        Rule(comment="ping"),
        Rule(blank_lines=3),
        Rule(omit_done=True),
        Rule(style="llama"),
        Rule(style="llama", prefill_frames=3),
        Rule(chunk_tokens=3),
    ],
    ids=lambda rule: " ".join(str(getattr(rule, name)) for name in ("style", "comment", "split_bytes", "blank_lines")),
)
def test_however_the_engine_cuts_its_bytes_the_answer_is_the_same(
    http: httpx2.Client, engine: FakeEngine, bytes_of: Rule
) -> None:
    """Engines and networks cut frames anywhere, in the middle of a character too."""
    engine.rules([msgspec.structs.replace(bytes_of, text=ANSWER)])

    *chunks, done = frames(http.post(CHAT, json=body(stream=True)))
    whole = http.post(CHAT, json=body()).json()

    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == ANSWER
    assert (chunks[-1]["choices"][0]["finish_reason"], done) == ("stop", "[DONE]")
    assert whole["choices"][0]["message"]["content"] == ANSWER


# --- refusals ---------------------------------------------------------------------------------------------------------


def refusal(response: httpx2.Response) -> dict[str, Any]:
    """Return the `error` of a refusal, whose envelope must be the documented one (§12)."""
    envelope: dict[str, Any] = response.json()
    assert response.headers["content-type"] == "application/json"
    assert envelope.keys() == {"error", "id", "request_id"}
    assert envelope["request_id"] == response.headers["x-request-id"]
    assert envelope["id"] == f"chatcmpl-{envelope['request_id']}"
    error: dict[str, Any] = envelope["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe{}", b'{"model":"qwen-plus","messages":' + b"[" * 9000],
    ids=["empty", "half", "list", "text", "null", "not UTF-8", "deep"],
)
def test_what_is_no_json_object_is_refused(http: httpx2.Client, content: bytes) -> None:
    """Scripts send all kinds of things; none may end in a 500."""
    error = refusal(response := http.post(CHAT, content=content))

    assert response.status_code == 400
    assert "Required body invalid, please check the request body format." in error["message"]
    assert (error["type"], error["code"]) == ("invalid_request_error", None)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer  x", "Bearer sk-wrong", f"Basic {KEY}", KEY, "Bearer \xff\xfe"]
)
def test_a_call_without_the_right_key_is_refused(
    service: Service, engine: FakeEngine, authorization: str | None
) -> None:
    """Whatever stands in the header, and before anything of the body is looked at."""
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]

    response = httpx2.post(service.url + CHAT, content=b"{", headers=headers, timeout=30)

    error = refusal(response)
    assert response.status_code == 401
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_api_key", None)
    assert error["message"].startswith("Incorrect API key provided. ")


def test_the_scheme_of_a_key_is_read_in_any_case(service: Service, engine: FakeEngine) -> None:
    """As HTTP has it; some clients write `bearer`."""
    headers = {"authorization": f"bearer {KEY}"}

    assert httpx2.post(service.url + CHAT, json=body(), headers=headers, timeout=30).status_code == 200


def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(http: httpx2.Client, engine: FakeEngine) -> None:
    """The contract's answer to a large body is 400 with a code of its own (spec/surfaces.md §0.5)."""
    whole = json.dumps(body()).encode().ljust(MAX_BODY_BYTES)

    taken = http.post(CHAT, content=whole)
    refused = http.post(CHAT, content=whole + b" ")

    assert taken.status_code == 200
    assert refused.status_code == 400
    error = refusal(refused)
    assert (error["code"], error["type"]) == ("BadRequest.TooLarge", "invalid_request_error")
    assert f"Exceeded limit on max bytes to request body : {MAX_BODY_BYTES}" in error["message"]
    assert len(engine.requests()) == 1


def test_a_large_body_is_refused_by_its_announced_length_alone(service: Service, engine: FakeEngine) -> None:
    """Nothing of it is waited for: a caller that announces gigabytes holds no memory."""
    with connected(service) as connection:
        connection.sendall(head(CHAT, "content-length: 5000000000"))

        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"BadRequest.TooLarge" in answer


def test_a_large_body_without_a_length_is_refused_as_soon_as_it_is_too_large(
    service: Service, engine: FakeEngine
) -> None:
    """A chunked body announces nothing; it is counted while it comes, and its end is not waited for."""
    with connected(service) as connection:
        connection.sendall(head(CHAT, "transfer-encoding: chunked"))
        for _ in range(MAX_BODY_BYTES // 1000 + 1):
            connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")

        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"BadRequest.TooLarge" in answer


def test_a_chunked_body_within_the_limit_is_taken(http: httpx2.Client) -> None:
    """Some clients never say a length."""
    response = http.post(CHAT, content=iter([json.dumps(body()).encode()]))

    assert response.request.headers["transfer-encoding"] == "chunked"
    assert response.json()["choices"][0]["message"]["content"] == ANSWER


def test_a_wrong_method_is_refused_by_name(http: httpx2.Client) -> None:
    """A browser that opens the address sends GET."""
    get, post = http.get(CHAT), http.post("/v1/models", json={})

    assert (get.status_code, post.status_code) == (405, 405)
    assert refusal(get)["message"] == "Request method 'GET' is not supported."
    assert refusal(get)["code"] == "InvalidParameter"
    assert refusal(post)["message"] == "Request method 'POST' is not supported."


@pytest.mark.parametrize("path", ["/", "/api/v1/services/aigc/text-generation/generation", "/chat/completions", "/v2"])
def test_an_unknown_path_says_which_base_url_is_right(http: httpx2.Client, path: str) -> None:
    """Users paste the native base URL; an empty 404 costs them an evening (spec/surfaces.md §9.6)."""
    response = http.post(path, json=body())

    assert response.status_code == 404
    assert path in refusal(response)["message"]
    assert "/compatible-mode/v1" in refusal(response)["message"]


def test_whether_the_service_is_ready_is_told_without_a_key(service: Service, engine: FakeEngine) -> None:
    """Probes of a container platform have none; they learn states and counts, nothing else."""
    ready, health = (httpx2.get(f"{service.url}{path}", timeout=30) for path in ("/ready", "/health"))

    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reason": None})
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    [deployment] = health.json()["deployments"]
    counts = {"running", "waiting", "slots", "outstanding_tokens"}
    assert deployment.keys() == {"name", "title", "state", "reason"} | counts


# --- silence, failures, slow readers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "silent",
    [
        Rule(text=ANSWER, first_delay_s=1.5),
        Rule(text=ANSWER, chunk_delay_s=0.7),
        Rule(text=ANSWER, style="llama", prefill_frames=8, prefill_delay_s=0.2),
    ],
    ids=["before the first word", "between words", "while the prompt is read"],
)
def test_a_silent_stream_carries_comments(http: httpx2.Client, engine: FakeEngine, silent: Rule) -> None:
    """Proxies end connections on which nothing moves; a comment is no event, so no client sees it."""
    engine.rules([silent])

    response = http.post(CHAT, json=body(stream=True))

    comments = [block for block in blocks(response) if block.startswith(b":")]
    assert len(comments) >= 2
    assert set(comments) == {b": keep-alive"}
    *chunks, done = frames(response)
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == ANSWER
    assert done == "[DONE]"


FAULTS = {
    "cut": Rule(cut_after_chunks=2),
    "reset": Rule(cut_after_chunks=2, reset=True),
    "stall": Rule(stall_after_chunks=2),
    "end": Rule(end_after_chunks=2),
    "error": Rule(error_after_chunks=2),
    "garbage": Rule(garbage_after_chunks=2),
}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_that_breaks_ends_with_one_typed_error(
    http: httpx2.Client, engine: FakeEngine, fault: str, n: int
) -> None:
    """Nothing follows the error, not even `[DONE]`: a reader must not take half an answer for a whole one."""
    engine.rules([msgspec.structs.replace(FAULTS[fault], text=ANSWER, first_delay_s=0.6, chunk_delay_s=0.3)])

    response = http.post(CHAT, json=body(stream=True, n=n))

    assert response.status_code == 200  # a comment has left before, so the status was gone
    *chunks, last = frames(response)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert last.keys() == {"error", "id", "request_id"}
    assert last["request_id"] == response.headers["x-request-id"]
    assert last["error"].keys() == {"message", "type", "param", "code"}
    assert last["error"]["code"] == ("RequestTimeOut" if fault == "stall" else "internal_error")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("cut", Rule(cut_after_chunks=-1)),
        ("stall", Rule(stall_after_chunks=-1)),
        ("garbage", Rule(garbage_after_chunks=-1)),
    ],
)
def test_what_fails_before_the_first_word_has_its_true_status(
    http: httpx2.Client, engine: FakeEngine, fault: str, rule: Rule, stream: bool
) -> None:
    """Unless a comment had to leave first: then, in a stream, the error is its only frame."""
    engine.rules([rule])

    response = http.post(CHAT, json=body(stream=stream))

    if stream and fault == "stall":
        (error,) = frames(response)
        assert error["error"]["code"] == "RequestTimeOut"
    else:
        assert response.status_code == 500
        assert refusal(response)["code"] == ("RequestTimeOut" if fault == "stall" else "internal_error")


def test_a_reader_that_never_reads_holds_little_memory_and_is_cut_off(service: Service, engine: FakeEngine) -> None:
    """Else one forgotten connection would collect a whole answer, and a few hundred of them the machine."""
    engine.rules([Rule(text="字" * 65_000, chunk_tokens=100)])
    asked = json.dumps(body(model="qwen3-max", stream=True, logprobs=True, top_logprobs=5)).encode()
    process = psutil.Process(service.pid)
    before_bytes = process.memory_info().rss
    peaks: list[int] = []

    def is_over() -> bool:
        peaks.append(process.memory_info().rss - before_bytes)
        return [request.state for request in engine.requests()] == ["cancelled"]

    with connected(service) as connection:
        connection.sendall(head(CHAT, f"content-length: {len(asked)}") + asked)
        wait_until(is_over, "the engine of a caller that does not read is stopped", timeout_s=60)
        received = b"".join(iter(lambda: read_until_reset(connection), b""))

    assert max(peaks) < 40 * 1024 * 1024  # the whole answer has about 60 MB
    assert b"[DONE]" not in received
    [request] = engine.requests()
    assert request.chunks_sent < 650


def read_until_reset(connection: socket.socket) -> bytes:
    """Return what the other side has sent, nothing once it has closed or reset the connection."""
    try:
        return connection.recv(1024 * 1024)
    except ConnectionResetError:
        return b""


# --- capacity ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(engine: FakeEngine, tmp_path: Any) -> Iterator[Service]:
    """A service whose deployment takes one call at once and lets one more wait."""
    environment = {**SETTINGS, "HANLIN_QUEUE_LIMIT": "1"}
    with Service(tmp_path / "home", config=in_front_of(engine, slots=1), environment=environment) as service:
        yield service


def test_a_full_line_is_refused_and_the_one_that_waits_is_served(narrow: Service, engine: FakeEngine) -> None:
    """Waiting without end helps nobody: who comes too late is told at once, and when to come back."""
    engine.rules([Rule(contains="长", text=ENDLESS.text, chunk_delay_s=0.02), Rule(text=ANSWER)])
    headers = {"authorization": f"Bearer {KEY}"}
    long_one = body(messages=[{"role": "user", "content": "长"}], stream=True)

    def waiting() -> int:
        return int(narrow.get("/health").json()["deployments"][0]["waiting"])

    with contextlib.ExitStack() as open_calls:
        http = open_calls.enter_context(httpx2.Client(base_url=narrow.url, headers=headers, timeout=60))
        first = open_calls.enter_context(http.stream("POST", CHAT, json=long_one))
        pieces = first.iter_bytes()
        next(pieces)
        second = open_calls.enter_context(http.stream("POST", CHAT, json=body(stream=True)))
        wait_until(lambda: waiting() == 1, "the second call waits")
        third, streamed = (http.post(CHAT, json=body(stream=stream)) for stream in (False, True))
        first.close()
        second.read()

    for refused in (third, streamed):
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        error = refusal(refused)
        assert (error["code"], error["type"]) == ("ModelServingError", "ModelServingError")
        assert "Too many requests." in error["message"]
    assert frames(second)[-1] == "[DONE]"
    assert [request.state for request in engine.requests()] == ["cancelled", "done"]
    assert waiting() == 0


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["DASHSCOPE_API_KEY", "HANLIN_API_KEY"])
def test_keys_and_conversations_are_neither_printed_nor_stored(
    engine: FakeEngine, tmp_path: Any, variable: str
) -> None:
    """Output lands in log collectors and homes in backups: of a key there is a hash, of a conversation nothing."""
    engine.rules([Rule(text="机密回答一二三")])
    key, wrong, upstream = "sk-known-to-the-test-0123456789", "sk-wrong-9876543210", "sk-upstream-5555566666"
    question = [{"role": "user", "content": "机密问题四五六"}]
    environment = {variable: key, "UPSTREAM_KEY": upstream, "HANLIN_LOG_LEVEL": "debug"}
    config = in_front_of(engine, key_env="UPSTREAM_KEY")

    with Service(tmp_path / "home", config=config, environment=environment) as service:
        statuses = [
            httpx2.post(
                service.url + CHAT,
                json=body(messages=question, stream=stream, **extra),
                headers={"authorization": f"Bearer {used}"},
                timeout=30,
            ).status_code
            for used, stream, extra in (
                (key, False, {}),
                (key, True, {}),
                (key, False, {"n": 9}),
                (wrong, False, {}),
            )
        ]
        service.stop()
        printed = service.output()

    assert statuses == [200, 200, 400, 401]
    stored = {file: file.read_bytes() for file in (tmp_path / "home").rglob("*") if file.is_file()}
    assert any(file.name == "hanlin.db" for file in stored)
    for secret in (key, wrong, upstream, "机密"):
        assert secret not in printed
        assert [file for file, content in stored.items() if secret.encode() in content] == []
    assert engine.requests()[0].headers["authorization"].startswith("Bearer")
