"""Speaking to an engine: what is sent by its profile, what is put ahead, what is taken out, what its refusals mean."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import pytest

from hanlin.engines.chat import ChatEngine
from hanlin.engines.manner import Manner, lead
from hanlin.engines.native import encode
from hanlin.engines.profiles import EngineProfile, WeightsProfile, profiles
from hanlin.engines.server import ServerEngine
from hanlin.engines.wire import Client
from hanlin.errors import (
    ContextLengthExceeded,
    EngineBusy,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
    HanlinError,
    InvalidRequest,
)
from hanlin.types import (
    ChatRequest,
    CompletionRequest,
    Event,
    Message,
    Sampling,
    TextPart,
    TokenLogprob,
    Tool,
    TopLogprob,
    Usage,
)
from tests.canned_server import Asked, CannedServer, chunked, whole
from tests.values import request

LLAMA = profiles().engine["llama"]
OPENAI = profiles().engine["openai"]
QWEN = WeightsProfile(identity="You are Qwen.", default_system="You help.")
USER = Message("user", "你好")


def sent(asked: ChatRequest, manner: Manner, stop: tuple[str, ...] = ()) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode(asked, manner, stop))
    return body


# --- what is put ahead -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "messages", "system"),
    [
        (QWEN, (USER,), "You are Qwen.\nYou help."),
        (QWEN, (Message("system", "Be brief."), USER), "You are Qwen.\nBe brief."),
        (QWEN, (Message("system", ""), USER), "You are Qwen.\n"),
        (QWEN, (Message("system", (TextPart("Be "), TextPart("brief."))), USER), "You are Qwen.\nBe brief."),
        (WeightsProfile(default_system="You help."), (USER,), "You help."),
        (WeightsProfile(default_system="You help."), (Message("system", "Be brief."), USER), "Be brief."),
    ],
)
def test_weights_are_told_who_they_are_and_then_what_the_caller_says(
    weights: WeightsProfile, messages: tuple[Message, ...], system: str
) -> None:
    """The identity line ends with a line end, so that its tokens are the same whatever follows."""
    assert lead(messages, weights) == (Message("system", system), USER)


def test_later_system_messages_stay_where_they_are() -> None:
    """Only the first one is the prompt's head (spec §2.1)."""
    later = Message("system", "later")

    assert lead((USER, later), QWEN) == (Message("system", "You are Qwen.\nYou help."), USER, later)


def test_weights_that_need_nothing_get_the_messages_as_they_are() -> None:
    """Somebody else's service has its own prompt."""
    assert lead((USER,), WeightsProfile()) == (USER,)


# --- what is sent ----------------------------------------------------------------------------------------------------

FULL = Sampling(
    temperature=0.5,
    top_p=0.9,
    top_k=20,
    presence_penalty=1.0,
    frequency_penalty=0.1,
    repetition_penalty=1.05,
    seed=7,
    max_tokens=100,
    max_completion_tokens=50,
    stop=("END",),
    logit_bias=((5, -1.0),),
)


def test_the_embedded_engine_gets_every_parameter_under_its_own_name() -> None:
    """llama.cpp calls the repetition penalty otherwise, and its own defaults must not cut what the caller allows."""
    body = sent(request(sampling=FULL), Manner(LLAMA, "small"))

    assert body == {
        "model": "small",
        "messages": [{"role": "user", "content": "你好"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "min_p": 0.0,
        "chat_template_kwargs": {"enable_thinking": False},
        "return_progress": True,
        "cache_prompt": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 20,
        "presence_penalty": 1.0,
        "frequency_penalty": 0.1,
        "repeat_penalty": 1.05,
        "seed": 7,
        "max_tokens": 50,
        "stop": ["END"],
        "logit_bias": {"5": -1.0},
    }


def test_what_has_to_come_out_the_same_is_computed_from_its_own_text_alone() -> None:
    """What llama.cpp still knows of a prompt changes the last bits of its sums; other engines know no such thing."""
    greedy = request(sampling=FULL).changed(repeatable=True)

    assert sent(greedy, Manner(LLAMA, "small"))["cache_prompt"] is False
    assert sent(greedy, Manner(OPENAI)) == sent(request(sampling=FULL), Manner(OPENAI))


def test_an_engine_gets_no_parameter_that_its_profile_does_not_name() -> None:
    """A strict server would refuse the whole call for one unknown field."""
    body = sent(request(sampling=FULL), Manner(OPENAI))

    assert "top_k" not in body
    assert not any("repe" in name for name in body)
    assert body["model"] == "qwen-plus"


def test_what_the_request_leaves_open_is_not_sent() -> None:
    """Null is not "your default" for every server."""
    body = sent(request(), Manner(OPENAI))

    assert set(body) == {"model", "messages", "stream", "stream_options"}


@pytest.mark.parametrize(("both", "limit"), [((10, 20), 10), ((20, 10), 10), ((None, 5), 5), ((5, None), 5)])
def test_of_two_limits_the_smaller_one_holds(both: tuple[int | None, int | None], limit: int) -> None:
    """Without thinking, the answer is all there is: both limits are about the same tokens."""
    sampling = Sampling(max_tokens=both[0], max_completion_tokens=both[1])

    assert sent(request(sampling=sampling), Manner(LLAMA))["max_tokens"] == limit


@pytest.mark.parametrize(("profile", "asked", "top"), [(LLAMA, 0, 1), (LLAMA, 3, 3), (OPENAI, 0, 0), (OPENAI, 5, 5)])
def test_logprobs_are_asked_for_with_the_least_number_that_the_engine_takes(
    profile: EngineProfile, asked: int, top: int
) -> None:
    """For llama.cpp 0 means 20: a waste, and not what was asked for."""
    body = sent(request(logprobs=True, top_logprobs=asked), Manner(profile))

    assert (body["logprobs"], body["top_logprobs"]) == (True, top)
    assert "logprobs" not in sent(request(), Manner(profile))


def test_further_stop_texts_stand_beside_the_callers() -> None:
    """Those that its stop tokens stand for."""
    asked = request(sampling=Sampling(stop=("END",)))

    assert sent(asked, Manner(LLAMA), ("<|im_end|>",))["stop"] == ["END", "<|im_end|>"]
    assert sent(request(), Manner(LLAMA), ("<|im_end|>",))["stop"] == ["<|im_end|>"]


# --- conversations with a server -------------------------------------------------------------------------------------


def sse(*frames: dict[str, Any]) -> bytes:
    return chunked(*(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames), b"data: [DONE]\n\n")


def delta(text: str, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **fields}]}


END: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    return {
        "choices": [],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details},
    }


async def answered(
    answer: bytes | Mapping[str, bytes], manner: Manner, asked: ChatRequest | None = None
) -> tuple[list[Event], list[Asked]]:
    """Run a call against a server that answers so (by path, where that differs): the events, and what it was asked."""

    async def by_path(was_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer if isinstance(answer, bytes) else answer[was_asked.path])

    async with asyncio.timeout(20), CannedServer(by_path) as server:
        client = Client(server.address)
        try:
            events = [
                event async for burst in ChatEngine(client, manner).generate(asked or request()) for event in burst
            ]
        finally:
            client.close()
        return events, server.asked


async def refused(answer: bytes, manner: Manner | None = None) -> HanlinError:
    with pytest.raises(HanlinError) as problem:
        await answered(answer, manner or Manner(LLAMA))
    return problem.value


async def test_an_answer_comes_as_events_and_the_engines_key_goes_with_the_request() -> None:
    """The caller's key is never sent on; the deployment's own is."""
    manner = Manner(OPENAI, headers={"Authorization": "Bearer of-the-deployment"})

    asking = request(stream=True)
    events, (asked,) = await answered(sse(delta("你"), delta("好"), END, usage(9, 2)), manner, asking)

    assert events == [Event(text="你"), Event(text="好"), Event(finish_reason="stop"), Event(usage=Usage(9, 2))]
    assert asked.path == "/chat/completions"
    assert "Authorization: Bearer of-the-deployment\r\n" in asked.head


@pytest.mark.parametrize(
    ("reported", "billed"),
    [((20, 5, 15), Usage(13, 5, cached=8)), ((20, 5, 3), Usage(13, 5)), ((7, 5, 7), Usage(5, 5, estimated=True))],
)
async def test_the_identity_line_is_on_nobodys_bill(reported: tuple[int, int, int], billed: Usage) -> None:
    """Its tokens are taken from the prompt and from what of it was cached; a prompt of nothing is guessed."""
    events, _ = await answered(sse(END, usage(*reported)), Manner(LLAMA, unbilled_tokens=7))

    assert events[-1].usage == billed


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "joined"])
@pytest.mark.parametrize(
    ("told", "known"),
    [
        ([], Usage(5, 3, estimated=True)),
        ([usage(0, 0)], Usage(5, 3, estimated=True)),
        ([usage(9, 0)], Usage(9, 3, estimated=True)),
        ([usage(9, 0, 4)], Usage(9, 3, cached=4, estimated=True)),
        ([usage(0, 7)], Usage(5, 7, estimated=True)),
        ([usage(9, 7)], Usage(9, 7)),
    ],
    ids=["nothing", "zeros", "no-answer", "no-answer-cached", "no-prompt", "all"],
)
async def test_what_a_server_does_not_count_is_guessed_and_says_so(told: list[Any], known: Usage, stream: bool) -> None:
    """A bill of nothing for what was generated would be a lie, and so would be a guess that passes for a count."""
    answer = sse(delta("你好"), delta("你好"), END, *told)

    events, _ = await answered(answer, Manner(OPENAI), request(stream=stream))

    assert [event.usage for event in events if event.usage is not None] == [known]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "joined"])
async def test_an_answer_of_nothing_is_counted_as_nothing(stream: bool) -> None:
    """As when an answer is continued of which everything has been said: a count of 0 is one."""
    plain, _ = await answered(sse(END, usage(9, 0)), Manner(OPENAI), request(stream=stream))
    tools, _ = await answered(sse(END, usage(9, 0)), Manner(OPENAI), request(stream=stream, tools=(Tool("look"),)))

    assert plain[-1].usage == tools[-1].usage == Usage(9, 0)


async def test_thoughts_and_calls_are_a_part_of_the_guess() -> None:
    """They were generated as the text was."""
    thoughts = {"choices": [{"index": 0, "delta": {"reasoning_content": "想想想想想想"}}]}
    function = {"name": "look", "arguments": json.dumps({"at": "x" * 400})}
    call = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": function}]}}]}

    thinking, _ = await answered(sse(thoughts, delta("好"), END), Manner(OPENAI), request())
    calling, _ = await answered(sse(call, END), Manner(OPENAI), request(tools=(Tool("look"),)))

    assert thinking[-1].usage == Usage(5, 5, reasoning=4, estimated=True)
    assert calling[-1].usage is not None
    assert calling[-1].usage.completion > 100
    assert calling[-1].usage.estimated


async def test_what_was_written_to_an_explicit_cache_is_counted_apart() -> None:
    """spec/chat.md §4.6: in all, or by the one class that there is; and the cached part was read from such a cache."""
    details = {"cached_tokens": 1024, "cache_creation_input_tokens": 300, "cache_type": "ephemeral"}
    by_class = {"cached_tokens": 0, "cache_creation": {"ephemeral_5m_input_tokens": 300}, "cache_type": "implicit"}

    found = []
    for one in (details, by_class):
        told = {"choices": [], "usage": {"prompt_tokens": 2000, "completion_tokens": 5, "prompt_tokens_details": one}}
        events, _ = await answered(sse(delta("好"), END, told), Manner(OPENAI), request(stream=True))
        found.append(events[-1].usage)

    assert found == [
        Usage(2000, 5, cached=1024, cache_created=300, explicit=True),
        Usage(2000, 5, cache_created=300),
    ]


@pytest.mark.parametrize("top", [0, 1, 2])
async def test_no_more_alternatives_are_shown_than_were_asked_for(top: int) -> None:
    """Some engines cannot be asked for as few."""
    alternatives = [{"token": token, "logprob": -1.0, "bytes": [97]} for token in "abc"]
    logprobs = {"content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": alternatives}]}

    events, _ = await answered(
        sse(delta("a", logprobs=logprobs), END), Manner(LLAMA), request(logprobs=True, top_logprobs=top)
    )

    shown = [TopLogprob(token, -1.0, [97]) for token in "abc"[:top]]
    assert events[0].logprobs == (TokenLogprob("a", -1.0, [97], shown),)


async def test_stop_tokens_are_sent_as_the_texts_that_they_stand_for() -> None:
    """llama.cpp stops at texts; sequences that stand for nothing would stop it at once."""
    texts = iter(["<|im_end|>", ""])

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/detokenize":
            writer.write(whole(200, json.dumps({"content": next(texts)}).encode()))
        else:
            writer.write(sse(END))

    async with asyncio.timeout(20), CannedServer(answer) as server:
        client = Client(server.address)
        asked = request(sampling=Sampling(stop_tokens=((151645,), (1, 2))))
        async for _ in ChatEngine(client, Manner(LLAMA)).generate(asked):
            pass
        client.close()

    assert [json.loads(asked.body) for asked in server.asked[:2]] == [{"tokens": [151645]}, {"tokens": [1, 2]}]
    assert json.loads(server.asked[2].body)["stop"] == ["<|im_end|>"]


async def test_an_engine_that_does_not_know_tokens_is_not_asked_about_them() -> None:
    """Then `stop` is listed as ignored instead."""
    _, asked = await answered(sse(END), Manner(OPENAI), request(sampling=Sampling(stop_tokens=((1,),))))

    assert [one.path for one in asked] == ["/chat/completions"]


async def test_closing_the_answer_hangs_up() -> None:
    """The only signal that makes an engine stop."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    frame = b"data: " + json.dumps(delta("a")).encode() + b"\n\n"

    async with asyncio.timeout(20), CannedServer(head + b"%x\r\n%b\r\n" % (len(frame), frame)) as server:
        client = Client(server.address)
        async with aclosing(ChatEngine(client, Manner(LLAMA)).generate(request())) as bursts:
            assert await anext(bursts) == [Event(text="a")]

        await server.hung_up.wait()
        client.close()


# --- counting --------------------------------------------------------------------------------------------------------


async def test_a_prompt_is_counted_as_the_engine_would_read_it() -> None:
    """With the identity line ahead, as it is sent, and without it on the bill."""
    answers = {
        "/apply-template": whole(200, b'{"prompt":"<|im_start|>..."}'),
        "/tokenize": whole(200, b'{"tokens":[1,2,3,4,5,6,7,8,9]}'),
    }

    async def by_path(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[asked.path])

    async with asyncio.timeout(20), CannedServer(by_path) as server:
        client = Client(server.address)
        counted = await ChatEngine(client, Manner(LLAMA, weights=QWEN, unbilled_tokens=4)).count(request())
        client.close()

    assert counted == 5
    template, tokens = (json.loads(asked.body) for asked in server.asked)
    assert template["messages"][0] == {"role": "system", "content": "You are Qwen.\nYou help."}
    assert tokens == {"content": "<|im_start|>...", "add_special": False, "parse_special": True}


async def test_an_engine_that_cannot_count_is_not_asked() -> None:
    """None, and no call that would fail."""
    async with CannedServer(b"") as server:
        assert await ChatEngine(Client(server.address), Manner(OPENAI)).count(request()) is None

    assert server.asked == []


# --- refusals and failures -------------------------------------------------------------------------------------------


async def test_a_prompt_beyond_the_engines_context_is_the_callers_to_shorten() -> None:
    """In the contract's words; without the identity line, which nobody can shorten, and a token for the answer."""
    body = {"error": {"type": "exceed_context_size_error", "message": "x", "n_prompt_tokens": 5000, "n_ctx": 4096}}

    problem = await refused(whole(400, json.dumps(body).encode()), Manner(LLAMA, unbilled_tokens=6))

    assert isinstance(problem, ContextLengthExceeded)
    assert problem.message.startswith("Range of input length should be [1, 4089]")
    assert "got 4994" in problem.message


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidRequest),
        (404, EngineRefused),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (429, EngineBusy),
        (502, EngineUnavailable),
        (503, EngineUnavailable),
        (529, EngineUnavailable),
        (408, EngineFailed),
        (500, EngineFailed),
    ],
)
async def test_a_refusal_is_told_by_its_status_and_keeps_the_engines_words(
    status: int, error: type[HanlinError]
) -> None:
    """Whose fault it is decides whether a client tries again, and whether another deployment is asked."""
    problem = await refused(whole(status, b'{"error":{"message":"its own words"}}'))

    assert type(problem) is error
    assert "its own words" in problem.message


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_what_is_wrong_with_our_own_key_is_not_told_to_callers(status: int) -> None:
    """It is the operator's to mend, and the words of some servers quote a part of the key."""
    problem = await refused(whole(status, b'{"error":{"message":"Incorrect API key: sk-ours"}}'))

    assert type(problem) is EngineRefused
    assert "sk-ours" not in problem.message


@pytest.mark.parametrize(
    ("header", "asked_s"),
    [
        ("Retry-After: 7", 7),
        ("Retry-After: 0.2", 1),
        ("retry-after-ms: 2400", 3),
        ("Retry-After: 86400", 60),
        ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 1),
        ("Retry-After: soon", 1.0),
        ("X-Other: 7", 1.0),
    ],
)
async def test_the_wait_that_a_busy_server_asks_for_is_read_in_every_form(header: str, asked_s: float) -> None:
    """Seconds, milliseconds, a date; a day is not believed, and without any it is left alone for a moment."""
    problem = await refused(whole(429, b"{}", header))

    assert isinstance(problem, EngineBusy)
    assert problem.asked_wait_s == asked_s


@pytest.mark.parametrize(
    "body", [b"<html>Bad gateway</html>", b"\xff\xfe", b'{"error":"text"}', b'{"error":{"message":null}}', b""]
)
async def test_an_error_body_of_any_form_is_still_a_refusal(body: bytes) -> None:
    """Proxies answer in HTML; an error about an error would help nobody."""
    problem = await refused(whole(500, body))

    assert isinstance(problem, EngineFailed)
    assert "the engine answered 500" in problem.message


@pytest.mark.parametrize(
    "answer", [sse(delta("half")), sse(), chunked(b"data: " + json.dumps(delta("half")).encode() + b"\n\n")]
)
async def test_an_answer_without_a_finish_reason_is_a_failure(answer: bytes) -> None:
    """Half an answer must not pass for a whole one, however politely it ends."""
    assert "without a finish reason" in (await refused(answer)).message


@pytest.mark.parametrize("status", [400, 500, 200])
@pytest.mark.parametrize("how", ["stream", "whole", "fill"])
async def test_a_server_that_quotes_our_key_is_not_quoted(status: int, how: str) -> None:
    """It is the operator's, and no caller's to read: neither in a refusal nor in an error within the answer."""
    error = {"error": {"message": "no good: Bearer sk-upstream-1"}}
    body = json.dumps(error).encode()
    async with CannedServer(sse(error) if status == 200 and how != "whole" else whole(status, body)) as server:
        url = f"http://127.0.0.1:{server.address.port}/v1"
        engine = ServerEngine(url, profiles().engine_named("vllm"), key="sk-upstream-1")
        with pytest.raises(HanlinError) as refusal:
            await _heard(engine, how)
        await engine.close()

    assert "no good: Bearer ••••" in refusal.value.message
    assert "sk-upstream-1" not in str(refusal.value)


async def _heard(engine: ServerEngine, how: str) -> None:
    if how == "whole":
        answer = engine.whole(request())
        assert answer is not None
        await answer
        return
    gap = CompletionRequest("qwen-coder-turbo", "def f(")
    async for _ in engine.fill(gap) if how == "fill" else engine.generate(request(stream=True)):
        pass
