"""Frames that differ in nothing but their text: whatever they hold, they say what they say when read one by one."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from hanlin.engines.alike import AlikeFrames
from hanlin.engines.frames import ChatFrames
from hanlin.errors import EngineFailed
from hanlin.types import Event, Texts

AWKWARD = ("a", "", '"', "\\", '\\"', "\n\ndata: ", '"content":"x"', "}]}", "春", "\u2028", "😀", "[DONE]", " ")


def frame(text: str | None, tight: bool = False, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **more}
    return (
        b"data: "
        + json.dumps({"id": "chatcmpl-1", "choices": [choice]}, separators=(",", ":") if tight else None).encode()
        + b"\n\n"
    )


ROLE = frame("", delta={"role": "assistant", "content": ""})
FINISH = frame("", delta={}, finish_reason="stop")
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def one_by_one(stream: bytes) -> list[Event]:
    """Return the events of a stream that is read frame by frame."""
    frames = ChatFrames()
    return [event for part in stream.split(b"\n\n") if part for byte in (part, b"\n\n") for event in frames.feed(byte)]


def together(pieces: list[bytes]) -> list[Event]:
    """Return the events of the same stream, as it comes in these pieces."""
    frames = ChatFrames()
    return [event for piece in pieces for burst in frames.bursts(piece) for event in burst]


def said(events: list[Event]) -> tuple[str, list[Event]]:
    """Return what was said, however it was cut, and what came beside it."""
    return "".join(event.text for event in events), [event for event in events if not event.is_text]


@pytest.mark.parametrize("tight", [True, False])
def test_a_packet_of_texts_is_one_burst(tight: bool) -> None:
    """This is what makes it fast: no event is made as long as nobody asks for one."""
    frames = ChatFrames()

    texts, end = frames.bursts(
        ROLE + frame("你", tight) + frame("好", tight) + frame("吗", tight) + FINISH + USAGE + DONE
    )

    assert isinstance(texts, Texts)
    assert texts.texts == ["你", "好", "吗"]
    assert [event.finish_reason for event in end if event.usage is None] == ["stop"]
    assert frames.done
    assert frames.finished


@pytest.mark.parametrize("seed", range(200))
def test_a_stream_says_the_same_however_it_is_read(seed: int) -> None:
    """Texts may look like frames, frames of other kinds may stand between them, and packets may be cut anywhere."""
    chance = random.Random(seed)
    kinds: list[Callable[[], bytes]] = [
        *[lambda: frame(chance.choice(AWKWARD))] * 6,
        lambda: frame(None),
        lambda: frame("x", logprobs=None),
        lambda: frame("y", delta={"content": "y", "reasoning_content": "because"}),
        lambda: b": a comment\n\n",
    ]
    parts = [ROLE, *(chance.choice(kinds)() for _ in range(chance.randrange(1, 40))), FINISH, USAGE, DONE]
    stream = b"".join(parts)
    cuts = sorted(chance.sample(range(1, len(stream)), chance.randrange(0, 6)))
    if seed % 2:  # as servers send them: whole frames
        ends = [sum(map(len, parts[: n + 1])) for n in range(len(parts))]
        cuts = sorted(chance.sample(ends[:-1], min(len(ends) - 1, len(cuts))))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert said(together(pieces)) == said(one_by_one(stream))


def test_a_frame_with_two_contents_teaches_nothing() -> None:
    """Which of them the text is, only a whole reading tells."""
    alike = AlikeFrames()

    alike.learn(b'{"choices":[{"delta":{"content":"a"}}],"echo":{"content":"a"}}', "a")

    assert alike.hopeless


def test_what_is_no_frame_between_texts_is_an_error_behind_the_texts_before_it() -> None:
    """Words that have come are handed on first."""
    frames = ChatFrames()
    frames.bursts(frame("a"))

    bursts = frames.bursts(frame("b") + b"data: {garbage\n\n")

    assert [event.text for burst in bursts for event in burst] == ["b"]
    assert isinstance(frames.failure, EngineFailed)


def test_texts_are_a_burst_like_any_other() -> None:
    """Whoever looks at events finds them."""
    texts = Texts(["a", "b"])

    assert list(texts) == [Event(text="a"), Event(text="b")]
    assert (len(texts), texts[1], texts[:1]) == (2, Event(text="b"), [Event(text="a")])
