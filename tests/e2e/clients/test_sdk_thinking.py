"""Thoughts as the official Python SDK hands them over, and prefixes that are continued."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from hanlin.testing import FakeEngine, Rule
from tests.service import ask, ask_streamed

THOUGHTS, ANSWER = "用户问我是谁。", "我是通义千问。"
THINKER = Rule(thinking=THOUGHTS, text=ANSWER, thinks_when_asked=True)
THINK = {"enable_thinking": True}
GAP = "<|fim_prefix|>def add(a, b):\n    <|fim_suffix|>\n\nprint(add(1, 2))<|fim_middle|>"


def test_thoughts_come_beside_the_answer(client: OpenAI, engine: FakeEngine) -> None:
    """`reasoning_content` is a field that the SDK does not declare and passes on."""
    engine.rules([THINKER])

    completion = ask(client, extra_body=THINK)

    message = completion.choices[0].message
    assert (message.content, message.reasoning_content) == (ANSWER, THOUGHTS)  # type: ignore[attr-defined]
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.completion_tokens_details is not None
    reasoning_tokens = completion.usage.completion_tokens_details.reasoning_tokens or 0
    assert len(THOUGHTS) <= reasoning_tokens < completion.usage.completion_tokens


def test_a_model_that_was_not_told_to_think_does_not(client: OpenAI, engine: FakeEngine) -> None:
    """Programs from before thinking read `content` alone; qwen-plus thinks only when told (spec/chat.md §5.1)."""
    engine.rules([THINKER])

    message = ask(client).choices[0].message

    assert message.content == ANSWER
    assert not getattr(message, "reasoning_content", None)


def test_streamed_thoughts_end_before_the_answer_begins(client: OpenAI, engine: FakeEngine) -> None:
    """Every vendor sample prints thoughts until the first content; the field that is not meant is null (§4.3)."""
    engine.rules([THINKER])

    chunks = list(ask_streamed(client, extra_body=THINK, stream_options={"include_usage": True}))

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thoughts = [delta.reasoning_content or "" for delta in deltas]  # type: ignore[attr-defined]
    contents = [delta.content or "" for delta in deltas]
    assert ("".join(thoughts), "".join(contents)) == (THOUGHTS, ANSWER)
    last_thought = max(at for at, piece in enumerate(thoughts) if piece)
    assert last_thought < min(at for at, piece in enumerate(contents) if piece)
    assert all(not (thought and content) for thought, content in zip(thoughts, contents, strict=True))
    assert chunks[-1].usage == ask(client, extra_body=THINK).usage


def test_the_stream_helper_keeps_the_thoughts(client: OpenAI, engine: FakeEngine) -> None:
    """The helper joins text fields that it does not know: null in between must not break that."""
    engine.rules([THINKER])

    with client.chat.completions.stream(
        model="qwen-plus", messages=[{"role": "user", "content": "你是谁？"}], extra_body=THINK
    ) as stream:
        message = stream.get_final_completion().choices[0].message

    assert (message.content, message.reasoning_content) == (ANSWER, THOUGHTS)  # type: ignore[attr-defined]


def test_a_budget_ends_the_thoughts(client: OpenAI, engine: FakeEngine) -> None:
    """What is cut are the thoughts, never the answer."""
    engine.rules([THINKER])

    completion = ask(client, extra_body={**THINK, "thinking_budget": 3})

    message = completion.choices[0].message
    assert message.reasoning_content == THOUGHTS[:3]  # type: ignore[attr-defined]
    assert message.content == ANSWER


def test_thoughts_come_before_calls_too(client: OpenAI, engine: FakeEngine) -> None:
    """An agent that thinks: thoughts, then a call (§4.4)."""
    tool: Any = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "查询天气",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    engine.rules([Rule(thinking="要查天气。", tool_calls=({"name": "get_weather", "arguments": {"city": "杭州"}},))])  # type: ignore[arg-type]

    message = ask(client, "杭州天气？", tools=[tool], extra_body=THINK).choices[0].message

    assert message.reasoning_content == "要查天气。"  # type: ignore[attr-defined]
    assert [call.function.arguments for call in message.tool_calls or ()] == ['{"city":"杭州"}']  # type: ignore[union-attr]


def test_thinking_of_a_model_that_cannot_is_a_bad_request(client: OpenAI) -> None:
    """With the code that the vendor's error page names (§12)."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model="qwen3-coder-plus", extra_body=THINK)

    assert caught.value.code == "InvalidParameter.NotSupportEnableThinking"
    assert caught.value.param == "enable_thinking"


@pytest.mark.parametrize("manner", ["openai"], indirect=True)
def test_thinking_is_refused_where_nobody_can_be_told_to(client: OpenAI, engine: FakeEngine) -> None:
    """A plain OpenAI server has no word for it: an answer without thoughts would be passed off as one with."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body=THINK)

    assert caught.value.param == "enable_thinking"
    assert engine.requests() == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_prefix_is_continued_and_not_repeated(client: OpenAI, engine: FakeEngine, stream: bool) -> None:
    """`partial` gives the rest alone (§6): programs put the two together themselves."""
    engine.rules([Rule(text="春天来了，花开了。")])
    messages: list[Any] = [
        {"role": "user", "content": "写一句诗"},
        {"role": "assistant", "content": "春天来了，", "partial": True},
    ]

    if stream:
        rest = "".join(chunk.choices[0].delta.content or "" for chunk in ask_streamed(client, messages=messages))
    else:
        rest = ask(client, messages=messages).choices[0].message.content or ""

    assert rest == "花开了。"


@pytest.mark.parametrize("manner", ["modelstudio"], indirect=True)
@pytest.mark.parametrize("stream", [False, True])
def test_a_gap_in_code_is_filled(client: OpenAI, engine: FakeEngine, stream: bool) -> None:
    """Editors call `completions` with the vendor's tags (spec/chat.md §11.2)."""
    engine.rules([Rule(text="return a + b")])

    if stream:
        pieces = client.completions.create(model="qwen2.5-coder-7b-instruct", prompt=GAP, stream=True)
        text = "".join(choice.text for piece in pieces for choice in piece.choices)
    else:
        completion = client.completions.create(model="qwen2.5-coder-7b-instruct", prompt=GAP)
        text = completion.choices[0].text
        assert completion.usage is not None

    assert text == "return a + b"


@pytest.mark.parametrize("manner", ["prompted"], indirect=True)
def test_a_gap_is_filled_by_chat_where_no_weights_learned_it(client: OpenAI, engine: FakeEngine) -> None:
    """Nothing of how they chat gets into somebody's code."""
    engine.rules([Rule(text="Here it is:\n```python\nreturn a + b\n```")])

    completion = client.completions.create(model="qwen2.5-coder-7b-instruct", prompt=GAP)

    assert completion.choices[0].text == "return a + b"
