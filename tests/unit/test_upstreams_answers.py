"""What each upstream answers: out of every one's stream come the same answer, the same calls, the same failures."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hanlin.engines.frames import ChatFrames
from hanlin.engines.manner import Manner
from hanlin.engines.native import NativeAnswer
from hanlin.engines.profiles import profiles
from hanlin.engines.upstreams import upstreams
from hanlin.errors import EngineBusy, EngineFailed, EngineRefused, EngineUnavailable, HanlinError, InvalidRequest
from hanlin.types import Burst, ChatRequest, ChatResult, Event, Tool, Usage, fold
from tests.values import request


def stream(*frames: dict[str, Any], ping: str = "") -> bytes:
    """Return a stream of these frames, with a comment ahead of them where an upstream sends some."""
    data = [b"data: " + json.dumps(frame, ensure_ascii=False).encode() for frame in frames]
    return b"\n\n".join([*([ping.encode()] if ping else []), *data, b"data: [DONE]", b""])


def delta(reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": fields, "finish_reason": reason}


def said(**fields: Any) -> dict[str, Any]:
    """Return a frame that says something and goes on."""
    return {"choices": [delta(**fields)]}


async def answered(upstream: str, data: bytes, asked: ChatRequest | None = None) -> ChatResult:
    """Return what becomes of the bytes that an upstream sends."""
    profile = profiles().engine_named(upstreams()[upstream].profile)

    async def send(_body: bytes) -> AsyncGenerator[Burst, None]:
        frames = ChatFrames(profile.codes)
        yield frames.feed(data)
        if frames.failure is not None:
            raise frames.failure

    events: list[Event] = []
    async for burst in NativeAnswer(asked or request(), Manner(profile), send).events():
        events += burst
    return fold(events)


USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
THOUGHT = {"completion_tokens_details": {"reasoning_tokens": 3}}
CACHED = {"prompt_tokens_details": {"cached_tokens": 16}}
COUNTED = Usage(20, 5, cached=16, reasoning=3)
DETAILS = [{"type": "reasoning.text", "text": "想", "format": "unknown", "index": 0}]

# The shapes are those of the pages and threads that the rows and profiles name; the words are ours.
STREAMS: dict[str, tuple[bytes, Usage]] = {
    "dashscope": (
        stream(
            {**said(role="assistant", content=None, reasoning_content="想"), "usage": None},
            {**said(content="好", reasoning_content=None), "usage": None},
            {"choices": [delta("stop", content="", reasoning_content=None)], "usage": None},
            {"choices": [], "usage": {**USAGE, **THOUGHT, **CACHED}},
        ),
        COUNTED,
    ),
    "deepseek": (
        stream(
            said(role="assistant", content=None, reasoning_content=""),
            said(content=None, reasoning_content="想"),
            said(content="好", reasoning_content=None),
            {
                "choices": [delta("stop", content="", reasoning_content=None)],
                "usage": {**USAGE, **THOUGHT, "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4},
            },
            ping=": keep-alive",
        ),
        COUNTED,
    ),
    "moonshot": (
        stream(
            said(role="assistant", content=""),
            said(reasoning_content="想"),
            said(content="好"),
            {"choices": [{**delta("stop"), "usage": {**USAGE, "cached_tokens": 16}}]},
        ),
        Usage(20, 5, cached=16),
    ),
    "zhipu": (
        stream(
            said(role="assistant", reasoning_content="想"),
            said(role="assistant", content="好"),
            {"choices": [delta("stop", role="assistant", content="")], "usage": {**USAGE, **THOUGHT, **CACHED}},
        ),
        COUNTED,
    ),
    "minimax": (
        stream(
            {**said(role="assistant", content="", reasoning_details=DETAILS), "base_resp": None},
            said(content="好"),
            {"choices": [delta("stop", content="")]},
            {"choices": None, "usage": {**USAGE, **THOUGHT, "total_characters": 0}, "base_resp": {"status_code": 0}},
        ),
        Usage(20, 5, reasoning=3),
    ),
    "siliconflow": (
        stream(
            {**said(content=None, reasoning_content="想"), "usage": {**USAGE, "completion_tokens": 3}},
            {**said(content="好", reasoning_content=None), "usage": {**USAGE, "completion_tokens": 4}},
            {"choices": [delta("stop", content="")], "usage": {**USAGE, **THOUGHT, **CACHED}},
        ),
        COUNTED,
    ),
    "openrouter": (
        stream(
            said(role="assistant", content="", reasoning="想", reasoning_details=DETAILS),
            said(content="好", reasoning=None, reasoning_details=[]),
            {"choices": [{**delta("stop", content=""), "native_finish_reason": "stop"}]},
            {**said(role="assistant", content=""), "usage": {**USAGE, **THOUGHT, **CACHED, "cost": 0.1}},
            ping=": OPENROUTER PROCESSING",
        ),
        COUNTED,
    ),
    "ollama": (
        stream(
            said(role="assistant", content="", reasoning="想"),
            said(role="assistant", content="好"),
            {"choices": [delta("stop", role="assistant", content="")]},
            {"choices": [], "usage": USAGE},
        ),
        Usage(20, 5),
    ),
    "lmstudio": (
        stream(
            said(role="assistant", content="<think>想"),
            said(content="</think>\n\n好"),
            {"choices": [delta("stop")]},
            {"choices": [], "usage": USAGE},
        ),
        Usage(20, 5),
    ),
    "sglang": (
        stream(
            {**said(role="assistant", content="", reasoning_content=None), "usage": None},
            said(content=None, reasoning_content="想"),
            said(content="好", reasoning_content=None),
            {"choices": [{**delta("stop", content=None), "matched_stop": 151645}]},
            {"choices": [], "usage": {**USAGE, **CACHED, "reasoning_tokens": 3}},
        ),
        COUNTED,
    ),
    "vllm": (
        stream(
            said(role="assistant", content=""),
            said(reasoning="想"),
            said(content="好"),
            {"choices": [{**delta("stop", content=""), "stop_reason": None}]},
            {"choices": [], "usage": {**USAGE, "prompt_tokens_details": None}},
        ),
        Usage(20, 5),
    ),
}


@pytest.mark.parametrize("upstream", STREAMS)
async def test_the_same_answer_comes_out_of_every_upstreams_stream(upstream: str) -> None:
    """Callers see the contract's shape, whoever answered."""
    data, usage = STREAMS[upstream]

    result = await answered(upstream, data)

    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想", "好", "stop")
    assert result.usage == usage


@pytest.mark.parametrize("upstream", STREAMS)
async def test_calls_come_out_of_every_upstreams_stream(upstream: str) -> None:
    """In pieces or in one, with numbers or without."""
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":'}}
    rest = {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": "1}"}}
    whole = {**call, "function": {"name": "add", "arguments": '{"a":1}'}}
    asked = request(tools=(Tool("add"),))
    in_pieces = stream(
        said(tool_calls=[{**call, "index": 0}]), said(tool_calls=[rest]), {"choices": [delta("tool_calls")]}
    )
    in_one = stream({"choices": [delta("tool_calls", tool_calls=[whole])]})

    for data in (in_pieces, in_one):
        [choice] = (await answered(upstream, data, asked)).choices
        [made] = choice.calls
        assert (made.name, json.loads(made.arguments), choice.finish_reason) == ("add", {"a": 1}, "tool_calls")


FAILURES: list[tuple[str, dict[str, Any], type[HanlinError]]] = [
    ("dashscope", {"error": {"code": "limit_requests", "type": "limit_requests", "message": "x"}}, EngineBusy),
    ("dashscope", {"error": {"code": "data_inspection_failed", "message": "x"}, "id": "chatcmpl-1"}, InvalidRequest),
    ("dashscope", {"code": "Arrearage", "message": "x", "request_id": "1"}, EngineRefused),
    ("moonshot", {"error": {"type": "rate_limit_reached_error", "message": "x"}}, EngineBusy),
    ("moonshot", {"error": {"type": "exceeded_current_quota_error", "message": "x"}}, EngineRefused),
    ("zhipu", {"error": {"code": "1302", "message": "x"}}, EngineBusy),
    ("zhipu", {"error": {"code": "1113", "message": "x"}}, EngineRefused),
    ("minimax", {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, EngineBusy),
    ("minimax", {"base_resp": {"status_code": 1004, "status_msg": "not authorized"}, "choices": None}, EngineRefused),
    ("minimax", {"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, InvalidRequest),
    ("siliconflow", {"code": 50505, "message": "overloaded", "data": None}, EngineUnavailable),
    ("openrouter", {"error": {"code": 429, "message": "x"}, "choices": [delta("error", content="")]}, EngineBusy),
    ("openrouter", {"error": {"code": 502, "message": "x"}, "choices": [delta("error")]}, EngineUnavailable),
    ("openai", {"error": {"message": "x", "type": "server_error", "code": None}}, EngineFailed),
    ("vllm", {"error": {"message": "x", "type": "BadRequestError", "param": None, "code": 400}}, InvalidRequest),
    ("sglang", {"object": "error", "message": "x", "type": "BadRequestError", "code": 400}, InvalidRequest),
]


@pytest.mark.parametrize(("upstream", "body", "kind"), FAILURES)
@pytest.mark.parametrize("streamed", [True, False])
async def test_every_upstreams_errors_are_understood(
    upstream: str, body: dict[str, Any], kind: type[HanlinError], streamed: bool
) -> None:
    """Whether another deployment is tried, waited for or blamed depends on it; HTTP said 200 in each case."""
    with pytest.raises(kind):
        await answered(upstream, stream(body) if streamed else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("upstream", "reason", "kind"),
    [
        ("deepseek", "insufficient_system_resource", EngineUnavailable),
        ("zhipu", "network_error", EngineFailed),
        ("openrouter", "error", EngineFailed),
        ("vllm", "abort", EngineFailed),
    ],
)
async def test_an_answer_that_an_upstream_gave_up_is_a_failure(
    upstream: str, reason: str, kind: type[HanlinError]
) -> None:
    """It looks like an end, and would be taken for one."""
    with pytest.raises(kind, match=reason):
        await answered(upstream, stream(said(content="a"), {"choices": [delta(reason)]}))


@pytest.mark.parametrize(
    ("upstream", "reason"),
    [("zhipu", "sensitive"), ("minimax", "content_filter"), ("deepseek", "content_filter")],
)
async def test_an_answer_that_a_filter_ended_says_so(upstream: str, reason: str) -> None:
    """Zhipu's word for it is its own; the contract's is OpenAI's."""
    result = await answered(upstream, stream({"choices": [delta(reason, content="好")]}))

    assert (result.choices[0].text, result.choices[0].finish_reason) == ("好", "content_filter")
