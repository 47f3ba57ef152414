"""What leaves the fake engine: frames to the byte where the contract fixes them, and every fault in its place."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from hanlin.testing import Rule, ToolCall, script
from hanlin.testing import ask as asking
from hanlin.testing.frames import Envelope, Speaker, call_id
from hanlin.testing.llama_style import LlamaSpeaker
from hanlin.testing.openai_style import OpenAISpeaker
from hanlin.testing.reply import compose
from hanlin.testing.script import Step

ENVELOPE = Envelope("chatcmpl-1", 1763800000, "qwen-plus")
LLAMA_ENVELOPE = Envelope("chatcmpl-1", 1763800000, "m.gguf")


def steps(rule: Rule, speaker: type[Speaker] = OpenAISpeaker, *, chat: bool = True, **extra: Any) -> list[Step]:
    """Write the script of an answer; `stream` and the rest of the request are in `extra`."""
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", **extra}
    ask = asking.read(body, chat=chat)
    reply = compose(rule, ask)
    speaking = speaker(ENVELOPE if speaker is OpenAISpeaker else LLAMA_ENVELOPE, ask, rule)
    if ask.stream:
        return list(script.streamed(reply, rule, speaking, include_usage=ask.include_usage))
    return list(script.unstreamed(reply, rule, speaking))


def body_of(written: Iterable[Step]) -> bytes:
    """Return the body of what was written, without the head and without HTTP's chunks."""
    head, _, body = b"".join(step.data for step in written).partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head:
        return body
    plain = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        plain += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return plain


def streamed(rule: Rule, speaker: type[Speaker] = OpenAISpeaker, **extra: Any) -> str:
    return body_of(steps(rule, speaker, stream=True, **extra)).decode()


def framed(choice: str, usage: str = "null") -> str:
    """Return a frame of the openai manner, spec/chat.md §4.2."""
    return (
        f'data: {{"choices":[{choice}],"object":"chat.completion.chunk","usage":{usage},"created":1763800000,'
        '"system_fingerprint":null,"model":"qwen-plus","id":"chatcmpl-1"}\n\n'
    )


def delta(content: str) -> str:
    return framed(f'{{"delta":{content},"index":0,"logprobs":null,"finish_reason":null}}')


def finish(content: str, reason: str = "stop") -> str:
    return framed(f'{{"delta":{content},"finish_reason":"{reason}","index":0,"logprobs":null}}')


def test_plain_text_is_streamed_as_the_contract_shows_it() -> None:
    """spec/chat.md §4.2, frame by frame."""
    text = streamed(Rule(text="Hello你"), stream_options={"include_usage": True})

    usage = '{"prompt_tokens":25,"completion_tokens":3,"total_tokens":28,"prompt_tokens_details":{"cached_tokens":0}}'
    assert text == (
        delta('{"content":"","role":"assistant"}')
        + delta('{"content":"Hell"}')
        + delta('{"content":"o"}')
        + delta('{"content":"你"}')
        + finish('{"content":""}')
        + framed("", usage)
        + "data: [DONE]\n\n"
    )


def test_the_usage_frame_comes_only_when_it_is_asked_for() -> None:
    """spec/chat.md §4.2: only with `include_usage`."""
    assert '"usage":{' not in streamed(Rule(text="好"))


def test_thinking_is_streamed_as_the_contract_shows_it() -> None:
    """spec/chat.md §4.3: the field that is not used is an explicit null."""
    text = streamed(Rule(thinking="想", text="好"))

    assert text == (
        delta('{"content":null,"role":"assistant","reasoning_content":""}')
        + delta('{"content":null,"reasoning_content":"想"}')
        + delta('{"content":"好","reasoning_content":null}')
        + finish('{"content":"","reasoning_content":null}')
        + "data: [DONE]\n\n"
    )


def test_tool_calls_are_streamed_in_fragments_as_the_contract_shows_them() -> None:
    """spec/chat.md §4.4: the id comes once, then it is empty; the name comes once, then it is null."""
    text = streamed(Rule(tool_calls=(ToolCall("go", '{"a"'), ToolCall("on", "1"))))

    first, second = call_id(ENVELOPE, 0, 0), call_id(ENVELOPE, 0, 1)

    def fragment(index: int, identity: str, name: str, arguments: str) -> str:
        function = f'{{"name":{name},"arguments":{arguments}}}'
        return f'"tool_calls":[{{"index":{index},"id":"{identity}","type":"function","function":{function}}}]}}'

    assert text == (
        delta('{"content":"","role":"assistant"}')
        + delta('{"content":null,' + fragment(0, first, '"go"', '""'))
        + delta("{" + fragment(0, "", "null", '"{\\""'))
        + delta("{" + fragment(0, "", "null", '"a"'))
        + delta("{" + fragment(0, "", "null", '"\\""'))
        + delta('{"content":null,' + fragment(1, second, '"on"', '""'))
        + delta("{" + fragment(1, "", "null", '"1"'))
        + finish('{"content":"","tool_calls":null}', "tool_calls")
        + "data: [DONE]\n\n"
    )
    assert len(first) == len("call_") + 22
    assert first != second


def test_the_unstreamed_answer_is_the_one_that_the_contract_shows() -> None:
    """spec/chat.md §4.1, with thinking and a call: an index stands with the call here too."""
    rule = Rule(thinking="想", tool_calls=(ToolCall("go", {"a": 1}),), cached_tokens=7)

    body = body_of(steps(rule)).decode()

    call = f'{{"id":"{call_id(ENVELOPE, 0, 0)}","type":"function","index":0,"function":{{"name":"go","arguments":'
    assert body == (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1763800000,"model":"qwen-plus",'
        '"system_fingerprint":null,"choices":[{"index":0,"finish_reason":"tool_calls","logprobs":null,"message":'
        '{"role":"assistant","content":"","reasoning_content":"想","tool_calls":[' + call + '"{\\"a\\":1}"}}]}}],'
        '"usage":{"prompt_tokens":25,"completion_tokens":7,"total_tokens":32,"prompt_tokens_details":{"cached_tokens":7},'
        '"completion_tokens_details":{"reasoning_tokens":1,"text_tokens":7}}}'
    )


def llama(choices: str, extra: str = "") -> str:
    """Return a frame of the llama manner."""
    return (
        f'data: {{"choices":[{choices}],"created":1763800000,"id":"chatcmpl-1","model":"m.gguf",'
        f'"system_fingerprint":"b0","object":"chat.completion.chunk"{extra}}}\n\n'
    )


def llama_delta(content: str, extra: str = "", logprobs: str = "") -> str:
    return llama(f'{{"finish_reason":null,"index":0,"delta":{content}{logprobs}}}', extra)


LLAMA_ROLE = '{"role":"assistant","content":null}'


def test_llama_streams_as_its_server_does() -> None:
    """Progress while the prompt is read, a null content with the role, timings beside the usage."""
    rule = Rule(text="好", cached_tokens=4, prefill_frames=2, prefill_delay_s=0.5)

    text = streamed(rule, LlamaSpeaker, return_progress=True, stream_options={"include_usage": True})

    progress = ',"prompt_progress":{"total":25,"cache":4,"processed":%d,"time_ms":%d}'
    usage = (
        ',"usage":{"prompt_tokens":25,"completion_tokens":1,"total_tokens":26,"prompt_tokens_details":{"cached_tokens":4}},'
        '"timings":{"cache_n":4,"prompt_n":21,"prompt_ms":21.0,"prompt_per_token_ms":1.0,"prompt_per_second":1000.0,'
        '"predicted_n":1,"predicted_ms":1.0,"predicted_per_token_ms":1.0,"predicted_per_second":1000.0}'
    )
    assert text == (
        llama_delta(LLAMA_ROLE, progress % (14, 500))
        + llama_delta(LLAMA_ROLE, progress % (25, 1000))
        + llama_delta(LLAMA_ROLE)
        + llama_delta('{"content":"好"}')
        + llama('{"finish_reason":"stop","index":0,"delta":{}}')
        + llama("", usage)
        + "data: [DONE]\n\n"
    )


def test_llama_streams_thinking_and_calls_without_what_is_not_new() -> None:
    """No explicit nulls, no empty ids: only what changed."""
    text = streamed(Rule(thinking="想", tool_calls=(ToolCall("go", "1"),)), LlamaSpeaker)

    identity = call_id(LLAMA_ENVELOPE, 0, 0).removeprefix("call_")
    opening = f'"id":"{identity}","type":"function","function":{{"name":"go","arguments":""}}'
    assert text == (
        llama_delta(LLAMA_ROLE)
        + llama_delta('{"reasoning_content":"想"}')
        + llama_delta(f'{{"tool_calls":[{{"index":0,{opening}}}]}}')
        + llama_delta('{"tool_calls":[{"index":0,"function":{"arguments":"1"}}]}')
        + llama('{"finish_reason":"tool_calls","index":0,"delta":{}}')
        + "data: [DONE]\n\n"
    )


@pytest.mark.parametrize(("speaker", "identity"), [(OpenAISpeaker, ""), (LlamaSpeaker, '"id":14990752,')])
def test_likelihoods_come_with_the_tokens_that_they_belong_to(speaker: type[Speaker], identity: str) -> None:
    """llama.cpp adds an id to every entry; strict clients trip over it."""
    rule = Rule(thinking="想", text="你")

    stream = streamed(rule, speaker, logprobs=True, top_logprobs=1)
    whole = body_of(steps(rule, speaker, logprobs=True, top_logprobs=1)).decode()

    likelihood = f'{identity}"token":"你","logprob":-0.25,"bytes":[228,189,160]'
    entry = f'{{{likelihood},"top_logprobs":[{{{likelihood}}}]}}'
    assert stream.count('"logprobs":{') == 1
    assert f'"logprobs":{{"content":[{entry}]}}' in stream
    assert f'"logprobs":{{"content":[{entry}]}}' in whole


def test_alternatives_are_all_different_and_less_likely() -> None:
    """Whoever sorts or de-duplicates them must find them as a model would give them."""
    body = msgspec.json.decode(body_of(steps(Rule(text="你"), logprobs=True, top_logprobs=5)))

    top = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert len({entry["token"] for entry in top}) == 5
    assert [entry["logprob"] for entry in top] == sorted((entry["logprob"] for entry in top), reverse=True)


def joined(stream: str) -> dict[str, str]:
    """Put a stream's deltas together, by field."""
    fields: dict[str, str] = {}
    for line in stream.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in msgspec.json.decode(line.removeprefix("data: ")).get("choices", []):
            said = choice.get("delta", choice)
            for name in ("content", "reasoning_content", "text"):
                fields[name] = fields.get(name, "") + (said.get(name) or "")
            for call in said.get("tool_calls") or []:
                for name in ("name", "arguments"):
                    key = f"{call['index']} {name}"
                    fields[key] = fields.get(key, "") + (call["function"].get(name) or "")
            if choice.get("finish_reason"):
                fields["finish_reason"] = choice["finish_reason"]
    return fields


@pytest.mark.parametrize("speaker", [OpenAISpeaker, LlamaSpeaker])
@pytest.mark.parametrize(
    "extra", [{}, {"max_tokens": 7}, {"stop": "世"}, {"max_tokens": 40}], ids=["whole", "short", "stopped", "long"]
)
def test_streamed_and_unstreamed_answers_are_the_same(speaker: type[Speaker], extra: dict[str, Any]) -> None:
    """What Hanlin promises of its own answers must hold for what it is tested with."""
    rule = Rule(thinking="想一想", text="你好世界", tool_calls=(ToolCall("go", {"city": "杭州"}), ToolCall("on")))

    together = joined(streamed(rule, speaker, **extra))
    choice = msgspec.json.decode(body_of(steps(rule, speaker, **extra)))["choices"][0]

    message = choice["message"]
    assert together["finish_reason"] == choice["finish_reason"]
    assert together["content"] == (message["content"] or "")
    assert together["reasoning_content"] == message["reasoning_content"]
    for index, call in enumerate(message.get("tool_calls", [])):
        assert together[f"{index} name"] == call["function"]["name"]
        assert together[f"{index} arguments"] == call["function"]["arguments"]


@pytest.mark.parametrize("speaker", [OpenAISpeaker, LlamaSpeaker])
def test_completions_have_text_instead_of_messages(speaker: type[Speaker]) -> None:
    """Another endpoint, the same rules."""
    stream = joined(streamed(Rule(text="你好"), speaker, chat=False))
    whole = msgspec.json.decode(body_of(steps(Rule(text="你好"), speaker, chat=False, logprobs=1)))

    assert stream["text"] == whole["choices"][0]["text"] == "你好"
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["logprobs"]["tokens"] == ["你", "好"]


def test_every_choice_is_opened_and_finished() -> None:
    """Clients that wait for all finish reasons would hang otherwise."""
    stream = streamed(Rule(texts=("你", "您好")), n=2)

    frames = [msgspec.json.decode(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    order = [(frame["choices"][0]["index"], frame["choices"][0]["finish_reason"]) for frame in frames]
    assert order == [(0, None), (1, None), (0, None), (1, None), (1, None), (0, "stop"), (1, "stop")]


@pytest.mark.parametrize("speaker", [OpenAISpeaker, LlamaSpeaker])
def test_the_field_with_the_thinking_may_have_another_name(speaker: type[Speaker]) -> None:
    """vLLM's is `reasoning`."""
    rule = Rule(thinking="想", text="好", reasoning_field="reasoning")

    stream = streamed(rule, speaker)
    message = msgspec.json.decode(body_of(steps(rule, speaker)))["choices"][0]["message"]

    assert '"reasoning":"想"' in stream
    assert message["reasoning"] == "想"
    assert "reasoning_content" not in stream
    assert "reasoning_content" not in message


@pytest.mark.parametrize(("speaker", "content"), [(OpenAISpeaker, "好"), (LlamaSpeaker, "你好")])
def test_what_was_continued_is_told_again_by_llama_where_it_does_not_stream(
    speaker: type[Speaker], content: str
) -> None:
    """Seen at b11549; its stream has only what is new."""
    begun: dict[str, Any] = {"messages": [{"role": "assistant", "content": "你", "partial": True}]}

    assert joined(streamed(Rule(text="你好"), speaker, **begun))["content"] == "好"
    body = msgspec.json.decode(body_of(steps(Rule(text="你好"), speaker, **begun)))
    assert body["choices"][0]["message"]["content"] == content


def test_usage_is_replaced_or_dropped_as_the_rule_says() -> None:
    """Engines that count wrongly, or not at all, are a fact of life."""
    own = {"prompt_tokens": 1, "completion_tokens": 99, "total_tokens": 100}
    wish = {"include_usage": True}

    assert msgspec.json.decode(body_of(steps(Rule(usage=own))))["usage"] == own
    assert "usage" not in msgspec.json.decode(body_of(steps(Rule(omit_usage=True))))
    assert '"usage":{"prompt_tokens":1,' in streamed(Rule(usage=own), stream_options=wish)
    assert '"usage":{' not in streamed(Rule(omit_usage=True), stream_options=wish)


# Pace


def waits(written: Iterable[Step]) -> list[float]:
    return [step.wait_s for step in written if step.wait_s]


def test_a_streamed_and_an_unstreamed_answer_take_the_same_time() -> None:
    """An unstreamed answer is generated too, it only leaves at the end."""
    rule = Rule(text="你好吗", first_delay_s=1, prefill_frames=2, prefill_delay_s=0.5, chunk_delay_s=0.25)

    assert waits(steps(rule, stream=True)) == [1, 0.5, 0.5, 0.25, 0.25]
    assert sum(waits(steps(rule))) == sum(waits(steps(rule, stream=True)))


def test_nothing_leaves_before_the_first_token() -> None:
    """The head of the answer says that it began: a client's deadline for the first byte depends on it."""
    written = steps(Rule(text="好", first_delay_s=1), stream=True)

    first_byte = next(nth for nth, step in enumerate(written) if step.data)
    assert sum(step.wait_s for step in written[: first_byte + 1]) == 1


def test_tokens_are_counted_as_they_are_made() -> None:
    """What was generated until a client hung up is what is billed."""
    rule = Rule(thinking="想", text="你好Hanlin", chunk_delay_s=0.1)

    for stream in (True, False):
        made = [step.tokens for step in steps(rule, stream=stream) if step.tokens]
        assert made == [1, 1, 1, 1, 1]


# Faults


@pytest.mark.parametrize(
    ("rule", "end"),
    [
        (Rule(text="你好吗", cut_after_chunks=2), "cut"),
        (Rule(text="你好吗", cut_after_chunks=2, reset=True), "reset"),
        (Rule(text="你好吗", stall_after_chunks=2), "stall"),
        (Rule(text="你好吗", end_after_chunks=2), "whole"),
    ],
    ids=["cut", "reset", "stall", "end"],
)
def test_a_stream_ends_after_so_many_chunks(rule: Rule, end: str) -> None:
    """Between any two chunks: that is where engines die."""
    written = steps(rule, stream=True)

    said = joined(body_of(written).decode())
    assert said["content"] == "你好"
    assert "finish_reason" not in said
    assert written[-1].end == end
    assert written[-1].data == (b"0\r\n\r\n" if end == "whole" else b"")
    assert sum(step.chunks for step in written) == 2


@pytest.mark.parametrize("at", [3, 99])
def test_a_fault_behind_the_last_chunk_comes_before_the_finish(at: int) -> None:
    """The likeliest place to lose an answer without noticing: all of its text is there."""
    said = joined(body_of(steps(Rule(text="你好吗", cut_after_chunks=at), stream=True)).decode())

    assert said["content"] == "你好吗"
    assert "finish_reason" not in said


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("rule", "end", "data"),
    [
        (Rule(cut_after_chunks=-1), "cut", b""),
        (Rule(stall_after_chunks=-1), "stall", b""),
        (Rule(garbage_after_chunks=-1), "cut", b"\x16\x03\x01 this is no HTTP\r\n\r\n"),
    ],
    ids=["cut", "stall", "garbage"],
)
def test_a_fault_may_come_before_the_first_byte(rule: Rule, end: str, data: bytes, stream: bool) -> None:
    """Another attempt is free then: the caller has seen nothing yet."""
    written = steps(rule, stream=stream)

    assert b"".join(step.data for step in written) == data
    assert written[-1].end == end


@pytest.mark.parametrize(("rule", "end"), [(Rule(cut_after_chunks=1), "cut"), (Rule(stall_after_chunks=1), "stall")])
def test_an_unstreamed_answer_breaks_in_the_middle_of_its_body(rule: Rule, end: str) -> None:
    """The head promised more than came."""
    written = steps(rule)

    head, _, body = b"".join(step.data for step in written).partition(b"\r\n\r\n")
    promised = int(head.rpartition(b"content-length: ")[2])
    assert 0 < len(body) < promised
    assert written[-1].end == end
    assert sum(step.tokens for step in written) == 1


def test_an_unstreamed_answer_that_ends_early_has_no_finish_reason() -> None:
    """spec/chat.md §4.4: what a server returns when its time is over."""
    body = msgspec.json.decode(body_of(steps(Rule(text="你好吗", end_after_chunks=2))))

    assert body["choices"][0]["message"]["content"] == "你好"
    assert body["choices"][0]["finish_reason"] is None
    assert body["usage"]["completion_tokens"] == 2


def test_an_error_within_a_stream_is_its_last_frame() -> None:
    """Status 200 has left already: the frame is all that a client gets."""
    written = steps(Rule(text="你好吗", error_after_chunks=1, body={"error": {"message": "oops"}}), stream=True)

    text = body_of(written).decode()
    assert joined(text)["content"] == "你"
    assert text.endswith('data: {"error":{"message":"oops"}}\n\n')
    assert written[-1].end == "failed"


def test_an_unstreamed_error_has_a_status() -> None:
    """Nothing has left yet."""
    written = steps(Rule(error_after_chunks=1))

    assert written[-1].data.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert msgspec.json.decode(body_of(written))["error"]["code"] == "internal_error"


def test_garbage_is_no_json_and_the_stream_goes_on() -> None:
    """A client that skips it would not notice what it lost."""
    stream = streamed(Rule(text="你好", garbage_after_chunks=1))
    lines = [line for line in stream.splitlines() if line]

    assert lines[2] == 'data: {"choices":[{"delta":'
    assert lines[-1] == "data: [DONE]"
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body_of(steps(Rule(text="你好", garbage_after_chunks=1))))


def test_bytes_leave_in_pieces_that_respect_nothing() -> None:
    """A piece may end within a character and within a frame."""
    whole = steps(Rule(text="你好"), stream=True)
    pieces = steps(Rule(text="你好", split_bytes=5), stream=True)

    assert body_of(pieces) == body_of(whole)
    alone = [step.data for step in pieces if step.alone]
    assert all(len(piece) <= len(b"5\r\n\r\n") + 5 for piece in alone)
    assert any("你".encode()[:1] in piece and "你".encode() not in piece for piece in alone)


def test_lines_may_end_otherwise_and_have_comments_between_them() -> None:
    """All of this is allowed by the format, and seldom tried."""
    stream = streamed(Rule(text="好", comment="ping", crlf=True, blank_lines=2, omit_done=True))

    frames = stream.split("\r\n\r\n\r\n")
    assert frames[0].startswith(": ping\r\n\r\ndata: {")
    assert [frame.count("data: ") for frame in frames] == [1, 1, 1, 0]
    assert "[DONE]" not in stream
    assert "\n" not in stream.replace("\r\n", "")


def test_a_rule_adds_headers_and_may_replace_the_usual_ones() -> None:
    """`Retry-After` is the reason; a wrong content type is a fault of its own."""
    head = b"".join(step.data for step in steps(Rule(headers={"X-Request-Id": "7", "Content-Type": "text/html"})))
    streaming = b"".join(step.data for step in steps(Rule(headers={"x-request-id": "7"}), stream=True))

    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nx-request-id: 7\r\ncontent-length: ")
    assert b"\r\nx-request-id: 7\r\n" in streaming


def test_llama_refuses_in_its_own_words() -> None:
    """A client recognises these by their text and type."""
    assert LlamaSpeaker.error("", 503, "Loading model") == {
        "error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}
    }
    assert LlamaSpeaker.too_long("", 8029, 2048) == {
        "error": {
            "code": 400,
            "message": "request (8029 tokens) exceeds the available context size (2048 tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 8029,
            "n_ctx": 2048,
        }
    }


def test_the_openai_manner_refuses_with_the_contracts_envelope() -> None:
    """spec/chat.md §12: message, type, param and code, the ids beside them."""
    assert OpenAISpeaker.too_long("chatcmpl-1", 8029, 2048) == {
        "error": {
            "message": "Range of input length should be [1, 2048]",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_parameter_error",
        },
        "id": "chatcmpl-1",
        "request_id": "1",
    }
