"""Reading engines' chat streams: any cut of the bytes gives the same events, and nonsense is an engine's failure."""

import json
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.engines.frames import ChatFrames, SSEReader, meant
from hanlin.engines.profiles import profiles
from hanlin.errors import EngineBusy, EngineFailed, EngineRefused, EngineUnavailable, HanlinError, InvalidRequest
from hanlin.types import Event, TokenLogprob, TopLogprob, Usage


def frame(*choices: dict[str, Any], **fields: Any) -> bytes:
    """Return one event of a stream as engines write it."""
    return b"data: " + json.dumps({"choices": choices, **fields}, ensure_ascii=False).encode() + b"\n\n"


def says(text: str | None, **fields: Any) -> bytes:
    return frame({"index": 0, "delta": {"content": text}, "finish_reason": None, **fields})


END = frame({"index": 0, "delta": {}, "finish_reason": "stop"})
DONE = b"data: [DONE]\n\n"
LLAMA_STREAM = (
    frame({"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}, model="/w/x.gguf")
    + frame(prompt_progress={"total": 20, "processed": 10, "time_ms": 3}, timings={"cache_n": 0})
    + says("你好，")
    + says('"👋"\n')
    + END
    + frame(usage={"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}})
    + DONE
)
LLAMA_EVENTS = [
    Event(text="你好，"),
    Event(text='"👋"\n'),
    Event(finish_reason="stop"),
    Event(usage=Usage(20, 3, cached=4)),
]


def test_a_stream_of_llama_cpp_becomes_our_events() -> None:
    """Its null content, its progress frames, its own model name and timings say nothing to a caller."""
    frames = ChatFrames()

    events = frames.feed(LLAMA_STREAM)

    assert events == LLAMA_EVENTS
    assert (frames.finished, frames.done) == (True, True)


@settings(deadline=None)
@given(st.sets(st.integers(1, len(LLAMA_STREAM) - 1)))
def test_wherever_the_bytes_are_cut_the_events_are_the_same(cuts: set[int]) -> None:
    """Packets end anywhere: within a character, between CR and LF, within `data:`."""
    ends = [0, *sorted(cuts), len(LLAMA_STREAM)]
    frames = ChatFrames()

    events = [event for start, end in pairwise(ends) for event in frames.feed(LLAMA_STREAM[start:end])]

    assert events == LLAMA_EVENTS
    assert frames.done


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40))
def test_line_ends_comments_other_fields_and_blank_lines_change_nothing(size: int) -> None:
    """All of them are allowed in an event stream, and some engines and proxies send them."""
    noisy = b": hello\n\n" + LLAMA_STREAM.replace(b"data: ", b"event: message\nid: 1\n: ping\ndata:")
    noisy = noisy.replace(b"\n\n", b"\n\n\n\n").replace(b"\n", b"\r\n")
    frames = ChatFrames()

    events = [event for at in range(0, len(noisy), size) for event in frames.feed(noisy[at : at + size])]

    assert events == LLAMA_EVENTS


def test_data_of_several_lines_is_one_event() -> None:
    """The event stream format joins them with a line end."""
    assert list(SSEReader().feed(b'data: {"a":\ndata: 1}\n\n')) == [b'{"a":\n1}']


def test_an_event_without_its_blank_line_has_not_come_yet() -> None:
    """Half a frame must not be taken for a whole one."""
    reader = SSEReader()

    assert list(reader.feed(b"data: half\n")) == []
    assert list(reader.feed(b"\n")) == [b"half"]


def test_nothing_after_done_is_read() -> None:
    """What a server sends after its end is not part of the answer."""
    frames = ChatFrames()

    assert frames.feed(says("a") + DONE + says("b")) == [Event(text="a")]
    assert frames.done


def test_logprobs_and_reasoning_counts_are_kept() -> None:
    """Both are the caller's to see, or to be billed by; half a character is a token without a text."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1, "id": 7}]}
    frames = ChatFrames()

    events = frames.feed(
        says("a", logprobs={"content": [token]})
        + says("b", logprobs={"content": None})
        + says("", logprobs={"content": [token]})
        + frame(
            usage={"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
        )
    )

    assert events == [
        Event(text="a", logprobs=(TokenLogprob("a", -0.5, [97], [TopLogprob("b", -1.0)]),)),
        Event(text="b"),
        Event(logprobs=(TokenLogprob("a", -0.5, [97], [TopLogprob("b", -1.0)]),)),
        Event(usage=Usage(1, 9, reasoning=4)),
    ]


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens_details": None, "completion_tokens_details": None},
        {"prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": {}},
    ],
)
def test_details_that_an_engine_leaves_out_count_nothing(usage: dict[str, Any]) -> None:
    """Engines disagree about null, absent and empty."""
    assert ChatFrames().feed(frame(usage={"prompt_tokens": 2, "completion_tokens": 1, **usage})) == [
        Event(usage=Usage(2, 1))
    ]


def test_several_choices_and_a_finish_with_text_are_read() -> None:
    """One frame may carry more than one thing."""
    events = ChatFrames().feed(
        frame(
            {"index": 1, "delta": {"content": "x"}, "finish_reason": "length"},
            {"index": 0, "delta": {"content": "y"}, "finish_reason": None},
            usage=None,
            error=None,
        )
    )

    assert events == [Event(1, "x", finish_reason="length"), Event(0, "y")]


def test_an_error_frame_is_the_engines_failure_in_its_own_words() -> None:
    """An error in the middle of a stream must not pass for the end of the answer."""
    with pytest.raises(EngineFailed, match="out of memory"):
        ChatFrames().feed(frame(error={"message": "out of memory"}))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"data: not json\n\n",
        b"data:\n\n",
        b"data: []\n\n",
        b'data: {"choices":5}\n\n',
        b'data: {"choices":[{"delta":{"content":5}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ud800"}}]}\n\n',
        b'data: {"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n",
    ],
    ids=lambda data: repr(data[:48]),
)
def test_what_is_no_chat_frame_is_the_engines_failure(nonsense: bytes) -> None:
    """It is never skipped: a piece of the answer would be missing without anybody knowing."""
    with pytest.raises(EngineFailed, match="not a chat frame"):
        ChatFrames().feed(nonsense)


def test_words_before_a_failure_are_not_lost_with_it() -> None:
    """What was said and billed belongs to the caller, however the packets were cut."""
    frames = ChatFrames()

    events = frames.feed(says("a") + frame(error={"message": "out of memory"}))

    assert [event.text for event in events] == ["a"]
    assert frames.failure is not None
    assert "out of memory" in frames.failure.message


@pytest.mark.parametrize("piece", [b"x" * 2**20, b"data: " + b"x" * 2**20 + b"\n"], ids=["one line", "many lines"])
def test_a_frame_without_an_end_is_given_up_at_16_mib(piece: bytes) -> None:
    """An engine gone mad must not fill the memory of the service."""
    reader = SSEReader()

    for _ in range(15):
        assert list(reader.feed(piece)) == []
    with pytest.raises(EngineFailed, match="larger than 16777216 bytes"):
        list(reader.feed(piece * 2))


@pytest.mark.parametrize("beginning", [b"data: ", b'{"id":"'], ids=["frame", "object"])
def test_a_long_frame_is_not_copied_for_every_piece_of_it(beginning: bytes) -> None:
    """That took seconds for one of 16 MiB, in which nobody else was served."""
    frames, piece = ChatFrames(), b"x" * 2**20
    frames.feed(beginning)

    tracemalloc.start()
    try:
        for _ in range(2):
            assert frames.feed(piece) == []
        copied = [_copied_by(frames, piece) for _ in range(8)]
    finally:
        tracemalloc.stop()

    assert max(copied) <= 3 * len(piece)


def _copied_by(frames: ChatFrames, piece: bytes) -> int:
    """Return how much memory was used meanwhile, beyond what was there before."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    assert frames.feed(piece) == []
    return tracemalloc.get_traced_memory()[1] - before


# --- what upstreams do otherwise -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "想"},
        {"reasoning": "想"},
        {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "想", "format": "unknown"}]},
        {"content": None, "reasoning_details": [{"type": "reasoning.summary", "summary": "想"}]},
        {"reasoning": "想", "reasoning_content": "想", "reasoning_details": [{"type": "reasoning.text", "text": "想"}]},
    ],
)
def test_thoughts_come_out_once_under_whichever_names_they_come(delta: dict[str, Any]) -> None:
    """vLLM, DeepSeek, MiniMax and OpenRouter each have their own, and some send the same twice."""
    assert ChatFrames().feed(frame({"index": 0, "delta": delta})) == [Event(reasoning="想")]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 8}, Usage(9, 2, cached=8)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 8}, Usage(9, 2, cached=8)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "reasoning_tokens": 1}, Usage(9, 2, reasoning=1)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "cached_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 8},
            },
            Usage(9, 2, cached=8),
        ),
        ({"prompt_tokens": 9, "completion_tokens": None, "total_tokens": 9}, Usage(9)),
    ],
)
def test_usage_is_found_where_upstreams_put_it(usage: dict[str, Any], counted: Usage) -> None:
    """DeepSeek, Moonshot and SGLang: a cached prompt that nobody sees is billed in full."""
    assert ChatFrames().feed(frame(usage=usage)) == [Event(usage=counted)]


def test_usage_within_a_choice_counts_unless_it_stands_beside_it_as_well() -> None:
    """Moonshot puts it there (earendil-works/pi#2017)."""
    told = {"prompt_tokens": 9, "completion_tokens": 2}
    last = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": told}

    within = ChatFrames().feed(frame(last))
    both = ChatFrames().feed(frame(last, usage=told))

    assert within == both == [Event(finish_reason="stop"), Event(usage=Usage(9, 2))]


def test_an_empty_reason_is_no_reason() -> None:
    """Some send "" where others send null: the answer goes on."""
    frames = ChatFrames()

    assert frames.feed(says("a", finish_reason="")) == [Event(text="a")]
    assert not frames.finished


@pytest.mark.parametrize("choices", [None, [{"index": 0, "delta": None, "finish_reason": None}]])
def test_nothing_may_be_written_as_null(choices: Any) -> None:
    """Keep-alive frames of several gateways."""
    assert ChatFrames().feed(b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n") == []


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("error", EngineFailed),
        ("network_error", EngineFailed),
        ("abort", EngineFailed),
        ("insufficient_system_resource", EngineUnavailable),
    ],
)
def test_a_reason_that_ends_no_answer_is_a_failure_after_the_words_before_it(
    reason: str, kind: type[HanlinError]
) -> None:
    """It would pass for an answer otherwise, and no other deployment would be tried."""
    frames = ChatFrames()

    events = frames.feed(frame({"index": 0, "delta": {"content": "a"}, "finish_reason": reason}))

    assert events == [Event(text="a")]
    assert isinstance(frames.failure, kind)
    with pytest.raises(kind, match=reason):
        ChatFrames().feed(frame({"index": 0, "delta": {}, "finish_reason": reason}))


CODES: dict[str, Any] = {"1302": "busy", "1008": "refused", "engine_overloaded_error": "unavailable", "1301": "invalid"}


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"error": {"code": "1302", "message": "并发过高"}}, EngineBusy, "1302: 并发过高"),
        ({"error": {"code": 429, "message": "slow down"}, "choices": []}, EngineBusy, "slow down"),
        ({"error": {"code": 502, "message": "Provider disconnected"}}, EngineUnavailable, "Provider"),
        ({"error": {"code": 402, "message": "Insufficient credits"}}, EngineRefused, "it reports 402"),
        ({"error": {"type": "engine_overloaded_error", "message": "full"}}, EngineUnavailable, "full"),
        ({"error": {"code": "1301", "message": "不安全"}}, InvalidRequest, "不安全"),
        ({"error": "it broke"}, EngineFailed, "it broke"),
        ({"error": {"message": None, "code": None}}, EngineFailed, "reports"),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, EngineRefused, "it reports 1008"),
        ({"code": 20015, "message": "bad value", "data": None}, EngineFailed, "bad value"),
        ({"object": "error", "code": 400, "message": "too long"}, InvalidRequest, "too long"),
        ({"code": "Throttling", "message": "x", "request_id": "1"}, EngineFailed, "Throttling"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_errors_are_understood_in_every_shape_and_place(
    body: dict[str, Any], kind: type[HanlinError], words: str, streamed: bool
) -> None:
    """Within the stream, or in place of it with HTTP 200, as MiniMax and OpenRouter send them."""
    text = json.dumps(body, ensure_ascii=False).encode()

    with pytest.raises(kind, match=words):
        ChatFrames(CODES).feed(b"data: " + text + b"\n\n" if streamed else text)


def test_a_verdict_of_success_is_no_error() -> None:
    """MiniMax ends every answer with one."""
    assert ChatFrames().feed(frame(base_resp={"status_code": 0, "status_msg": ""})) == []


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60))
def test_an_answer_that_is_no_stream_is_read_all_the_same(size: int) -> None:
    """A proxy may have taken the stream apart; the answer is there."""
    message = {"role": "assistant", "content": "好", "reasoning_content": "想"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    data = b"\n " + json.dumps(whole, ensure_ascii=False, indent=1).encode()
    frames = ChatFrames()

    events = [event for at in range(0, len(data), size) for event in frames.feed(data[at : at + size])]

    assert events == [Event(text="好", finish_reason="stop", reasoning="想"), Event(usage=Usage(1))]
    assert (frames.done, frames.finished) == (True, True)


def test_a_whole_message_at_the_end_of_a_stream_is_not_said_again() -> None:
    """MiniMax repeats the answer in its last frame."""
    last = {"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}

    assert ChatFrames().feed(says("a") + says("b") + frame(last)) == [
        Event(text="a"),
        Event(text="b"),
        Event(finish_reason="stop"),
    ]


def test_codes_of_one_upstream_say_nothing_of_anothers() -> None:
    """1002 is a wrong token at Zhipu and a rate limit at MiniMax."""
    error = {"code": 1002, "message": "no"}

    assert isinstance(meant(error, profiles().engine["zhipu"].codes), EngineRefused)
    assert isinstance(meant(error, profiles().engine["minimax"].codes), EngineBusy)
    assert isinstance(meant(error, {}), EngineFailed)
