"""Calls of one form are decoded once: the second is read as the first was, and as any call would be by itself."""

import json
from mmap import mmap
from typing import Any

import msgspec
import pytest

from hanlin.dialects import openai_chat
from hanlin.dialects.compatible.messages import quotes
from hanlin.dialects.openai_chat import Reader
from hanlin.errors import InvalidRequest, LastMessageNotUser
from hanlin.types import ChatRequest

USER = {"role": "user", "content": "你好"}
SYSTEM = {"role": "system", "content": 'Say "hi"\\ to\n them'}
LONG = {"role": "user", "content": 'a "word" \\ and more\n' * 8000}


def body_of(messages: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({"model": "qwen-plus", "messages": messages, **more}, ensure_ascii=False).encode()


def as_told(request: ChatRequest) -> ChatRequest:
    """Return a request without what only says how it came here."""
    return msgspec.structs.replace(request, form=None, sent=None)


BODIES = {
    "plain": body_of([USER]),
    "with a system message": body_of([SYSTEM, USER], temperature=0.5, max_tokens=5, stop=["a", "b"]),
    "long": body_of([SYSTEM, LONG], stream=True, stream_options={"include_usage": True}),
    "an answer in between": body_of([USER, {"role": "assistant", "content": "Hi"}, USER], seed=1),
    "with tools": body_of([USER], tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
    "parts": body_of([{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
    "a partial answer": body_of([USER, {"role": "assistant", "content": "Hi", "partial": True}]),
    "a field of nobody's": body_of([USER], content="x", role="y", enable_search=False),
    "JSON by its word": body_of([{"role": "user", "content": "json"}], response_format={"type": "json_object"}),
    "spread out": json.dumps({"messages": [SYSTEM, USER], "model": "qwen-plus"}, indent=2).encode(),
    "twice the same name": b'{"model":"qwen-plus","messages":[{"role":"user","content":"a","content":"b"}]}',
}


def _in_memory(body: bytes) -> mmap:
    """Return a body as large ones are read."""
    memory = mmap(-1, len(body))
    memory[:] = body
    return memory


@pytest.mark.parametrize("name", BODIES)
def test_a_remembered_form_changes_nothing_of_a_request(name: str) -> None:
    """What is remembered must not be what another call said."""
    reader, body = Reader(), BODIES[name]
    reader.read(body_of([{"role": "user", "content": "another"}]))

    first, second = reader.read(body), reader.read(_in_memory(body))

    expected = openai_chat.parse(body)
    assert as_told(first) == as_told(second) == as_told(expected)
    assert (first.sent is None) == (second.sent is None) == (expected.sent is None)
    if second.sent is not None and expected.sent is not None:
        assert bytes(second.sent.raw) == bytes(expected.sent.raw)


def test_calls_of_one_form_share_it_and_others_do_not() -> None:
    """It is what decisions are remembered by."""
    reader = Reader()

    first = reader.read(body_of([USER], temperature=0.5))
    again = reader.read(body_of([SYSTEM, LONG], temperature=0.5))
    other = reader.read(body_of([USER], temperature=0.6))

    assert first.form is not None
    assert again.form is first.form
    assert other.form is not None
    assert other.form is not first.form
    assert first.changed(n=2).form is None


@pytest.mark.parametrize("name", ["JSON by its word", "parts", "a partial answer", "twice the same name"])
def test_what_hangs_on_the_messages_has_no_form(name: str) -> None:
    """Whether JSON may be asked for is decided by the words of the prompt."""
    assert Reader().read(BODIES[name]).form is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (body_of([{"role": "system", "content": "a"}]), InvalidRequest),
        (body_of([USER, {"role": "assistant", "content": "Hi"}]), LastMessageNotUser),
        (body_of([]), InvalidRequest),
        (body_of([USER], temperature=9), InvalidRequest),
        (b'{"model":"qwen-plus","messages":[{"role":"user","content":"\xff"}]}', InvalidRequest),
        (b'{"model":"qwen-plus"}', InvalidRequest),
        (b"[]", InvalidRequest),
    ],
)
def test_what_is_refused_is_refused_at_every_time(body: bytes, error: type[Exception]) -> None:
    """Also where a good call of the form came before."""
    reader = Reader()
    reader.read(body_of([USER]))

    for _ in range(2):
        with pytest.raises(error) as refusal:
            reader.read(body)
        with pytest.raises(error) as alone:
            openai_chat.parse(body)
        assert str(refusal.value) == str(alone.value)


def test_forms_do_not_fill_the_memory() -> None:
    """A caller may say something else every time."""
    reader = Reader()
    for number in range(1100):
        reader.read(body_of([USER], seed=number))
    reader.read(body_of([USER], user="x" * 5000))

    assert len(reader._known) <= 512


@pytest.mark.parametrize("times", [1, 20_000])
@pytest.mark.parametrize("text", ["plain", 'a "word"', "end\\n", "你好"])
def test_quotes_are_counted_the_same_in_short_and_long_texts(text: str, times: int) -> None:
    """In long ones they are looked for instead."""
    found = json.dumps([text * times, "b"], ensure_ascii=False).encode()

    assert quotes(found, 4) == 4
