"""What the official Python SDK gets for its questions, whichever manner the engine speaks."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from hanlin.testing import FakeEngine, Rule
from tests.e2e.conftest import Pair

QUESTION: list[Any] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "你是谁？"},
]
ANSWER = "我是通义千问，你的助手。"
ANSWER_TOKENS = len(ANSWER)  # a token a character outside ASCII, as the fake engine counts


@pytest.fixture(params=["openai", "llama"])
def manner(request: pytest.FixtureRequest) -> str:
    """Every test here holds for engines of both manners."""
    manner: str = request.param
    return manner


@pytest.fixture
def pair(request: pytest.FixtureRequest, manner: str) -> Pair:
    pair: Pair = request.getfixturevalue(f"{manner}_pair")
    return pair


def texts(chunks: Iterable[ChatCompletionChunk], n: int = 1) -> list[str]:
    """Join the deltas of every choice."""
    joined = [""] * n
    for chunk in chunks:
        for choice in chunk.choices:
            joined[choice.index] += choice.delta.content or ""
    return joined


def test_a_question_is_answered(client: OpenAI, engine: FakeEngine) -> None:
    """The plain call of every quick start."""
    engine.rules([Rule(text=ANSWER)])

    completion = client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    assert completion.object == "chat.completion"
    assert completion.model == "qwen-plus"
    assert completion.system_fingerprint == "fake"
    [choice] = completion.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    assert choice.logprobs is None
    assert completion.usage is not None
    assert completion.usage.completion_tokens == ANSWER_TOKENS
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + ANSWER_TOKENS


def test_a_stream_says_the_same_as_an_unstreamed_answer(client: OpenAI, engine: FakeEngine) -> None:
    """Programs switch `stream` on for looks alone: neither the words nor the bill may change."""
    engine.rules([Rule(text=ANSWER, cached_tokens=3)])

    whole = client.chat.completions.create(model="qwen-plus", messages=QUESTION)
    chunks = list(
        client.chat.completions.create(
            model="qwen-plus", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )

    assert texts(chunks) == [ANSWER] == [whole.choices[0].message.content]
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 3


def test_only_a_stream_that_asked_for_usage_carries_it(client: OpenAI, engine: FakeEngine) -> None:
    """Programs that never asked index `choices[0]` of every chunk: an empty one would break them."""
    engine.rules([Rule(text=ANSWER)])

    without = list(client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True))
    asked = list(
        client.chat.completions.create(
            model="qwen-plus", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )

    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in without)
    assert [len(chunk.choices) for chunk in asked] == [1] * (len(asked) - 1) + [0]
    assert [chunk.usage is None for chunk in asked] == [True] * (len(asked) - 1) + [False]


def test_the_role_comes_once_and_the_finish_reason_last(client: OpenAI, engine: FakeEngine) -> None:
    """The SDK's helpers join repeated strings: a role in every chunk would read assistantassistant."""
    engine.rules([Rule(text=ANSWER)])

    chunks = list(client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True))

    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert [delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "qwen-plus")
    }


@pytest.mark.parametrize("count", [3, 32])
async def test_questions_asked_at_once_get_their_own_answers(
    async_client: AsyncOpenAI, engine: FakeEngine, count: int
) -> None:
    """The asynchronous program of the quick start: no answer may end up with another question."""
    engine.rules([Rule(echo=True, chunk_delay_s=0.005)])
    questions = [f"第{number}个问题：天气怎么样？" for number in range(count)]

    answers = await asyncio.gather(
        *(
            async_client.chat.completions.create(model="qwen-plus", messages=[{"role": "user", "content": question}])
            for question in questions
        )
    )

    assert [answer.choices[0].message.content for answer in answers] == questions
    assert len({answer.id for answer in answers}) == count


async def test_streams_read_at_once_do_not_mix(async_client: AsyncOpenAI, engine: FakeEngine) -> None:
    """Frames of 32 streams leave through one process; each reader must see its own alone."""
    engine.rules([Rule(echo=True, chunk_delay_s=0.005)])
    questions = [f"第{number}个问题：你会什么？" for number in range(32)]

    async def ask(question: str) -> str:
        stream = await async_client.chat.completions.create(
            model="qwen-plus", messages=[{"role": "user", "content": question}], stream=True
        )
        return texts([chunk async for chunk in stream])[0]

    assert await asyncio.gather(*map(ask, questions)) == questions


@pytest.mark.parametrize("n", [2, 4])
def test_several_choices_are_drawn_with_seeds_of_their_own(client: OpenAI, engine: FakeEngine, n: int) -> None:
    """Several choices of one seed would be the same words n times; the prompt is billed once, every answer is."""
    words = ["春", "夏天", "秋天来", "冬天来了"]
    engine.rules([Rule(when={"seed": 7 + number}, text=word) for number, word in enumerate(words)])
    one = client.chat.completions.create(model="qwen-plus", messages=QUESTION, seed=7)

    completion = client.chat.completions.create(model="qwen-plus", messages=QUESTION, n=n, seed=7)

    assert [choice.index for choice in completion.choices] == list(range(n))
    assert [choice.message.content for choice in completion.choices] == words[:n]
    assert completion.usage is not None
    assert one.usage is not None
    assert completion.usage.prompt_tokens == one.usage.prompt_tokens
    assert completion.usage.completion_tokens == sum(len(word) for word in words[:n])


@pytest.mark.parametrize("n", [2, 4])
def test_several_choices_stream_side_by_side(client: OpenAI, engine: FakeEngine, n: int) -> None:
    """Streamed and unstreamed must agree for every choice, and usage comes once for all of them."""
    engine.rules([Rule(when={"seed": 7 + number}, text=f"第{number}种回答。") for number in range(4)])
    whole = client.chat.completions.create(model="qwen-plus", messages=QUESTION, n=n, seed=7)

    chunks = list(
        client.chat.completions.create(
            model="qwen-plus", messages=QUESTION, n=n, seed=7, stream=True, stream_options={"include_usage": True}
        )
    )

    assert texts(chunks, n) == [choice.message.content for choice in whole.choices]
    finished = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason == "stop"]
    assert sorted(finished) == list(range(n))
    assert [chunk.usage for chunk in chunks if chunk.usage is not None] == [whole.usage]


@pytest.mark.parametrize("n", [1, 4])
def test_the_stream_helper_puts_the_answer_together(client: OpenAI, engine: FakeEngine, n: int) -> None:
    """`chat.completions.stream()` wants contiguous choices, one role each, and usage in the very last chunk."""
    engine.rules([Rule(text=ANSWER)])

    with client.chat.completions.stream(
        model="qwen-plus", messages=QUESTION, n=n, stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()

    assert sorted("".join(deltas)) == sorted(ANSWER * n)
    assert [choice.message.content for choice in final.choices] == [ANSWER] * n
    assert {choice.message.role for choice in final.choices} == {"assistant"}
    assert final.usage is not None
    assert final.usage.completion_tokens == n * ANSWER_TOKENS


@pytest.mark.parametrize("stream", [False, True])
def test_likelihoods_come_for_every_token_with_as_many_alternatives_as_asked(
    client: OpenAI, engine: FakeEngine, stream: bool
) -> None:
    """Evaluation programs sum them up: a token without, or with another's, falsifies the result silently."""
    engine.rules([Rule(text=ANSWER)])
    asked: dict[str, Any] = {"model": "qwen-plus", "messages": QUESTION, "logprobs": True}

    for alternatives in (0, 2, 5):
        if stream:
            chunks = client.chat.completions.create(**asked, top_logprobs=alternatives, stream=True)
            parts = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs is not None]
        else:
            completion = client.chat.completions.create(**asked, top_logprobs=alternatives)
            parts = [completion.choices[0].logprobs]

        tokens = [token for part in parts for token in part.content or ()]
        assert "".join(token.token for token in tokens) == ANSWER
        assert bytes(byte for token in tokens for byte in token.bytes or ()).decode() == ANSWER
        assert {len(token.top_logprobs) for token in tokens} == {alternatives}
        assert all(token.logprob < 0 for token in tokens)


@pytest.mark.parametrize("stop", ["，", ["，", "。"]], ids=["text", "list"])
def test_an_answer_halts_before_its_stop_text(client: OpenAI, engine: FakeEngine, stop: str | list[str]) -> None:
    """The stop text itself is not part of the answer (spec/chat.md §3)."""
    engine.rules([Rule(text=ANSWER)])

    completion = client.chat.completions.create(model="qwen-plus", messages=QUESTION, stop=stop)

    assert completion.choices[0].message.content == "我是通义千问"
    assert completion.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("nested", [False, True], ids=["ids", "lists of ids"])
def test_stop_tokens_stop_or_are_said_to_be_ignored(
    client: OpenAI, engine: FakeEngine, pair: Pair, request: pytest.FixtureRequest, nested: bool
) -> None:
    """Token ids mean something to the weights' own tokenizer alone: an engine without one is told of in a header."""
    engine.rules([Rule(text="abc,def")])
    comma = ord(",")
    stop: Any = [[comma]] if nested else [comma]

    response = client.chat.completions.with_raw_response.create(model="qwen-plus", messages=QUESTION, stop=stop)

    content, ignored = response.parse().choices[0].message.content, response.headers.get("x-hanlin-ignored")
    if "llama" in request.node.name:
        assert (content, ignored) == ("abc", None)
    else:
        assert (content, ignored) == ("abc,def", "stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_of_tokens_ends_the_answer_with_length(
    client: OpenAI, engine: FakeEngine, name: str, stream: bool
) -> None:
    """Both names of the limit, and a finish reason that tells programs to go on or to complain."""
    engine.rules([Rule(text=ANSWER)])
    asked: dict[str, Any] = {"model": "qwen-plus", "messages": QUESTION, name: 3}

    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True))
        content, reason = texts(chunks)[0], chunks[-1].choices[0].finish_reason
    else:
        completion = client.chat.completions.create(**asked)
        content, reason = completion.choices[0].message.content or "", completion.choices[0].finish_reason

    assert (content, reason) == (ANSWER[:3], "length")


def test_a_seed_reaches_the_engine_and_repeats_an_answer(client: OpenAI, engine: FakeEngine) -> None:
    """The same seed and question give the same words; without one the documented default counts."""
    engine.rules([Rule(when={"seed": 1}, text="一"), Rule(when={"seed": 2}, text="二"), Rule(text="默认")])

    answers = [
        client.chat.completions.create(model="qwen-plus", messages=QUESTION, seed=seed).choices[0].message.content
        for seed in (1, 1, 2, None)
    ]

    assert answers == ["一", "一", "二", "默认"]
    assert [request.body["seed"] for request in engine.requests()] == [1, 1, 2, 1234]


def test_what_the_caller_leaves_out_is_the_models_own(client: OpenAI, engine: FakeEngine, manner: str) -> None:
    """Whoever answers, a name keeps the sampling that its vendor documents (spec/chat.md §3.1).

    But for the penalty that llama.cpp understands differently: see docs/identity.md.
    """
    penalty = 0 if manner == "llama" else 1.5

    client.chat.completions.create(model="qwen-plus", messages=QUESTION, temperature=0.1)
    client.chat.completions.create(model="qwen3-coder-plus", messages=QUESTION)

    plus, coder = (request.body for request in engine.requests())
    assert (plus["temperature"], plus["top_p"], plus["presence_penalty"]) == (0.1, 0.8, penalty)
    assert (coder["temperature"], coder["top_p"], coder["presence_penalty"]) == (0.7, 0.8, 0)


def test_text_parts_and_earlier_turns_reach_the_engine(client: OpenAI, engine: FakeEngine) -> None:
    """Chat programs send the whole conversation, often in parts: the engine must see it as it was said."""
    messages: list[Any] = [
        {"role": "developer", "content": "简短回答。"},
        {"role": "user", "content": [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]},
        {"role": "assistant", "content": "你好！"},
        {"role": "user", "content": "再见"},
    ]

    client.chat.completions.create(model="qwen-plus", messages=messages)

    said = [(message["role"], message["content"]) for message in engine.requests()[0].body["messages"]]
    assert said == [("system", "简短回答。"), ("user", "你好"), ("assistant", "你好！"), ("user", "再见")]


def test_the_sdks_headers_say_what_answered_and_what_was_ignored(client: OpenAI, engine: FakeEngine) -> None:
    """A parameter is honoured, refused by name, or listed: never dropped in silence."""
    response = client.chat.completions.with_raw_response.create(
        model="qwen-plus", messages=QUESTION, extra_body={"preserve_thinking": True, "future_field": {"a": 1}}
    )

    completion = response.parse()
    assert response.headers["x-hanlin-served-by"] == "upstream; fake"
    assert response.headers["x-hanlin-ignored"] == "future_field, preserve_thinking"
    assert completion._request_id == response.headers["x-request-id"] == completion.id.removeprefix("chatcmpl-")
    assert "future_field" not in engine.requests()[0].body


def test_a_call_whose_parameters_are_all_honoured_lists_none(client: OpenAI, engine: FakeEngine, manner: str) -> None:
    """A warning that always shows is one that nobody reads. A server of somebody else may think all the same."""
    response = client.chat.completions.with_raw_response.create(
        model="qwen-plus", messages=QUESTION, temperature=0.5, top_p=0.9, presence_penalty=0, frequency_penalty=0.1,
        seed=5, max_tokens=20, stop="停", n=1, logprobs=True, top_logprobs=1, logit_bias={"5": 1},
        extra_body={"enable_thinking": False},
    )  # fmt: skip

    assert response.headers.get("x-hanlin-ignored") == ("enable_thinking" if manner == "openai" else None)
    sent = engine.requests()[0].body
    assert (sent["temperature"], sent["top_p"], sent["frequency_penalty"], sent["stop"]) == (0.5, 0.9, 0.1, ["停"])
    assert (sent["presence_penalty"], sent["logit_bias"], sent["max_tokens"]) == (0, {"5": 1}, 20)
