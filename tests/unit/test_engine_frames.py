"""Reading engines' chat streams: any cut of the bytes gives the same events, and nonsense is an engine's failure."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.engines.frames import ChatFrames, SSEReader
from hanlin.errors import EngineFailed
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
