"""What is kept of a conversation, how much of it, and what becomes of it while the database is away."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.errors import StoreFailed
from hanlin.service import contents
from hanlin.service.contents import Conversation, Keeper
from hanlin.store.rows import Content
from hanlin.types import (
    Burst,
    Choice,
    CompletionRequest,
    Event,
    Message,
    TextPart,
    Texts,
    ToolCall,
    ToolCallPiece,
    Usage,
)
from tests.values import request

AT = datetime(2026, 11, 1, tzinfo=UTC)
MOST = contents._MOST_BYTES


async def heard(*bursts: Burst) -> Conversation:
    """Return a conversation whose answer came in these bursts, all of which were handed on."""

    async def events() -> AsyncGenerator[Burst, None]:
        for burst in bursts:
            yield burst

    conversation = Conversation()
    passed = [burst async for burst in conversation.hearing(events())]
    assert passed == [*bursts]
    return conversation


def row(conversation: Conversation) -> Content:
    return conversation.row("call-1", AT, "ws-1")


def prompt(conversation: Conversation) -> Any:
    return json.loads(row(conversation).prompt)


def answer(conversation: Conversation) -> Any:
    return json.loads(row(conversation).answer)


async def test_an_answer_is_kept_as_its_caller_got_it() -> None:
    """Text, thoughts and calls of every choice; the usage is in the ledger."""
    conversation = await heard(
        Texts(["你", "好"]),
        [Event(reasoning="想", index=1), Event(call=ToolCallPiece(0, "c", "look", '{"a"'), index=1)],
        [Event(call=ToolCallPiece(0, arguments=":1}"), index=1), Event(finish_reason="tool_calls", index=1)],
        [Event(finish_reason="stop")],
        [Event(usage=Usage(1, 2))],
    )

    assert answer(conversation) == {
        "choices": [
            {"index": 0, "text": "你好", "finish_reason": "stop"},
            {
                "index": 1,
                "text": "",
                "reasoning": "想",
                "tool_calls": [{"id": "c", "name": "look", "arguments": '{"a":1}'}],
                "finish_reason": "tool_calls",
            },
        ]
    }


async def test_what_was_taken_back_is_not_kept() -> None:
    """The answer was made anew elsewhere."""
    conversation = await heard([Event(text="wrong")], [Event(restart=True)], [Event(text="right")])

    assert answer(conversation)["choices"][0]["text"] == "right"


def test_a_prompt_is_kept_as_it_was_asked() -> None:
    """Messages with all their parts, a text with its gap, texts for vectors."""
    chat, gap, vectors = Conversation(), Conversation(), Conversation()
    history = Message("assistant", (TextPart("a"), TextPart("b")), (ToolCall("c", "look", "{}"),), reasoning="hm")
    chat.asked_chat(request(messages=(Message("user", "你好"), history, Message("tool", "1", tool_call_id="c"))))
    gap.asked_completion(CompletionRequest("qwen-coder-turbo", "def f(", suffix="return"))
    vectors.asked_vectors(("一", "二"))

    assert prompt(chat) == {
        "messages": [
            {"role": "user", "content": "你好"},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c", "name": "look", "arguments": "{}"}],
            },
            {"role": "tool", "content": "1", "tool_call_id": "c"},
        ]
    }
    assert prompt(gap) == {"prompt": "def f(", "suffix": "return"}
    assert prompt(vectors) == {"input": ["一", "二"]}
    assert prompt(Conversation()) == {}
    assert answer(Conversation()) == {"choices": []}


async def test_what_is_too_long_ends_early_and_says_so() -> None:
    """A bound for everything; what is stored is JSON all the same."""
    chat = Conversation()
    chat.asked_chat(request("长" * MOST))
    chat.answered([Choice(0, "长" * MOST, "stop")])
    streamed = await heard(*([Event(text="x" * 1000)] for _ in range(MOST // 500)), [Event(finish_reason="stop")])

    kept = prompt(chat)
    assert (kept["truncated"], kept["size_bytes"] > 3 * MOST) == (True, True)
    assert kept["beginning"].startswith('{"messages":[{"role":"user","content":"长长')
    assert answer(chat)["truncated"] is True
    whole = answer(streamed)
    assert (whole["truncated"], whole["choices"][0]["finish_reason"]) == (True, "stop")
    assert MOST - 1000 <= len(whole["choices"][0]["text"]) <= MOST
    assert all(len(text.encode()) <= 3 * MOST for text in (row(chat).prompt, row(chat).answer, row(streamed).answer))


@given(st.text())
def test_any_text_can_be_stored(text: str) -> None:
    """PostgreSQL takes no zero byte; nothing takes half of a character."""
    conversation = Conversation()
    conversation.asked_vectors((text,))
    conversation.answered([Choice(0, text, "stop")])

    assert "\0" not in row(conversation).prompt + row(conversation).answer
    assert prompt(conversation)["input"] == [text]
    assert answer(conversation)["choices"][0]["text"] == text


class Sink:
    """A database that is away for some time."""

    def __init__(self, *fails: Exception) -> None:
        self.fails = list(fails)
        self.rows: list[str] = []

    async def append(self, rows: Sequence[Content]) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.rows += [row.call_id for row in rows]


def numbered(number: int, size: int = 10) -> Content:
    return Content(call_id=str(number), began_at=AT, workspace_id="w", prompt="x" * size, answer="{}")


async def test_what_waits_is_written_in_its_order_once_the_database_is_back() -> None:
    """An outage loses nothing as long as there is room."""
    sink = Sink(StoreFailed(), StoreFailed())
    keeper = Keeper(sink)
    for number in range(200):
        keeper.put(numbered(number))

    written = [await keeper.step() for _ in range(3)]

    assert written == [False, False, True]
    assert sink.rows == [str(number) for number in range(200)]
    assert keeper.lost == 0


async def test_beyond_the_bound_the_newest_are_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is for calls; a database that is away for a day must not fill it."""
    monkeypatch.setattr(contents, "_WAITING_BYTES", 100)
    sink = Sink()
    keeper = Keeper(sink)
    for number in range(20):
        keeper.put(numbered(number))
    await keeper.step()
    keeper.put(numbered(20))
    await keeper.step()

    assert sink.rows == ["0", "1", "2", "3", "4", "5", "6", "7", "20"]
    assert keeper.lost == 12


async def test_a_mistake_of_ours_does_not_stop_those_that_come_after() -> None:
    """It is in the log, with its traceback."""
    sink = Sink(TypeError("ours"))
    keeper = Keeper(sink)
    keeper.put(numbered(1))
    assert await keeper.step()
    keeper.put(numbered(2))

    await keeper.step()

    assert (sink.rows, keeper.lost) == (["2"], 1)


async def test_the_end_waits_for_what_is_left_but_not_for_ever() -> None:
    """A database that hangs must not keep a service from ending."""

    class Hanging(Sink):
        async def append(self, rows: Sequence[Content]) -> None:
            await asyncio.get_running_loop().create_future()

    well, hanging = Sink(), Keeper(Hanging())
    keeper = Keeper(well)
    keeper.put(numbered(1))
    hanging.put(numbered(1))

    await keeper.close(5.0)
    await asyncio.wait_for(hanging.close(0.01), 5.0)

    assert well.rows == ["1"]
