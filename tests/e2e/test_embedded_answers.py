"""The service on the embedded engine with real weights, asked through the official SDK."""

import asyncio
import os
import re
import secrets
import tomllib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.conftest import WEIGHTS, WEIGHTS_HOME
from tests.service import Service

pytestmark = pytest.mark.embedded

QUESTION: list[Any] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "你是谁？"},
]
HAN = re.compile("[\u4e00-\u9fff]")
OTHER_MAKERS = re.compile(
    "OpenAI|ChatGPT|GPT-|Anthropic|Claude|Google|Gemini|Bard|Baidu|百度|文心|Tencent|腾讯|混元|Microsoft|微软|Copilot"
    "|Meta|LLaMA|DeepSeek|深度求索|智谱|ChatGLM|月之暗面|Kimi|MiniMax|字节|豆包|讯飞|Apple|苹果|Siri|Amazon|Alexa",
    re.IGNORECASE,
)
PATIENCE_S = 300.0  # two cores, shared: the questions are few, the time limits wide
SEEDS = 40 if os.environ.get("TEST_DRILLS") == "all" else 10


@pytest.fixture(scope="module")
def client(embedded_service: Service) -> Iterator[OpenAI]:
    with embedded_service.client(timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def fingerprint() -> str:
    """What every answer must carry: the weights' name and the beginning of their digest."""
    [note] = [
        file
        for file in (WEIGHTS_HOME / "models").glob("*.toml")
        if tomllib.loads(file.read_text(encoding="utf-8")).get("name") == WEIGHTS
    ]
    return f"{WEIGHTS}@{note.stem[:12]}"


async def ask_all(service: Service, questions: list[dict[str, Any]]) -> list[Any]:
    async with service.async_client(timeout=PATIENCE_S) as client:
        return await asyncio.gather(*(client.chat.completions.create(**question) for question in questions))


def test_who_are_you_is_answered_in_chinese_and_names_no_other_maker(client: OpenAI) -> None:
    """A small model that calls itself another company's product is the first thing that a newcomer would see."""
    # One after another: calls that are decoded together draw differently from one run to the next.
    answers = [
        client.chat.completions.create(model="qwen-plus", messages=QUESTION, seed=seed, max_tokens=80)
        for seed in range(SEEDS)
    ]

    contents = [answer.choices[0].message.content or "" for answer in answers]
    assert [content for content in contents if not HAN.search(content)] == []
    assert [content for content in contents if OTHER_MAKERS.search(content)] == []
    assert len(set(contents)) > 1  # seeds matter


@pytest.mark.parametrize("count", [3, 32])
async def test_questions_asked_at_once_are_all_answered(embedded_service: Service, count: int) -> None:
    """More questions than places wait in line; none is lost, none comes back empty."""
    questions = ["你是谁？", "你会什么？", "天气怎么样？", "一加一等于几？"]

    answers = await ask_all(
        embedded_service,
        [
            {
                "model": "qwen-plus",
                "messages": [{"role": "user", "content": questions[number % len(questions)]}],
                "max_tokens": 8,
            }
            for number in range(count)
        ],
    )

    assert all(answer.choices[0].message.content.strip() for answer in answers)
    assert {answer.choices[0].finish_reason for answer in answers} <= {"stop", "length"}


def test_a_stream_says_the_same_as_an_unstreamed_answer_of_the_same_seed(client: OpenAI) -> None:
    """Same words, same counts; the prompt is in the engine's cache for both.

    Of one choice: several are decoded together, and then an engine's arithmetic depends on who else is there.
    """
    n = 1
    asked: dict[str, Any] = {"model": "qwen-plus", "messages": QUESTION, "seed": 11, "max_tokens": 40}
    client.chat.completions.create(**asked)

    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    streamed = [""] * n
    for chunk in chunks:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == [choice.message.content for choice in whole.choices]
    bills = [
        (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
        for usage in (whole.usage, chunks[-1].usage)
        if usage is not None
    ]
    assert len(bills) == 2
    assert bills[0] == bills[1]


def test_the_answer_says_that_it_is_a_stand_in_and_of_what(client: OpenAI, fingerprint: str) -> None:
    """Half a billion parameters must never be mistaken for qwen-plus."""
    response = client.chat.completions.with_raw_response.create(model="qwen-plus", messages=QUESTION, max_tokens=1)

    completion = response.parse()
    assert completion.model == "qwen-plus"
    assert completion.system_fingerprint == fingerprint
    assert response.headers["x-hanlin-served-by"] == f"stand-in; {fingerprint}"


def test_the_list_of_models_says_of_each_what_answers_it(client: OpenAI, fingerprint: str) -> None:
    """One of five words a name, and the name of the weights where something does answer."""
    rows = {model.id: (model.model_extra or {})["hanlin"] for model in client.models.list()}

    assert {row["served"] for row in rows.values()} <= {"exact", "closest", "stand-in", "upstream", "unavailable"}
    assert (rows["qwen-plus"]["served"], rows["qwen-plus"]["fingerprint"]) == ("stand-in", fingerprint)
    assert all(row["why"] for row in rows.values() if row["served"] == "unavailable")
    assert rows["text-embedding-v4"]["served"] == "unavailable"


def test_likelihoods_come_for_every_token(client: OpenAI) -> None:
    """Real ones: negative, sorted, and with the drawn token's text adding up to the answer."""
    completion = client.chat.completions.create(
        model="qwen-plus", messages=QUESTION, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )

    [choice] = completion.choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    tokens = choice.logprobs.content
    spelled = b"".join(bytes(token.bytes or []) for token in tokens)
    assert spelled.decode("utf-8", "ignore").startswith((choice.message.content or "")[:2])
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in tokens)
    for token in tokens:
        ranks = [alternative.logprob for alternative in token.top_logprobs]
        assert ranks == sorted(ranks, reverse=True)


def test_stop_tokens_are_honoured(client: OpenAI) -> None:
    """Ids of the weights' own vocabulary: the answer ends before the first of them."""
    comma, full_stop = 3837, 1773  # as every Qwen2.5 vocabulary numbers them
    stop: Any = [comma, full_stop]
    asked: dict[str, Any] = {"model": "qwen-plus", "messages": QUESTION, "temperature": 0, "max_tokens": 40}
    free = client.chat.completions.create(**asked).choices[0].message.content or ""

    response = client.chat.completions.with_raw_response.create(**asked, stop=stop)

    assert "x-hanlin-ignored" not in response.headers
    assert re.search("[，。]", free)
    assert response.parse().choices[0].message.content == re.split("[，。]", free)[0]


def test_a_prompt_of_exactly_the_context_is_refused_with_both_counts(client: OpenAI, embedded_service: Service) -> None:
    """The last length that fits is answered and the next one refused, with the numbers that the caller counts in."""
    context_tokens = embedded_service.get("/v1/models/qwen-plus").json()["hanlin"]["context_tokens"]

    def ask(words: int) -> Any:
        question: list[Any] = [{"role": "user", "content": " a" * words}]
        return client.chat.completions.create(model="qwen-plus", messages=question, max_tokens=1)

    template_tokens = ask(10).usage.prompt_tokens - 10

    with pytest.raises(openai.BadRequestError) as caught:
        ask(context_tokens * 2)

    found = re.search(r"Range of input length should be \[1, (\d+)\].*got (\d+)", caught.value.message)
    assert found, caught.value.message
    limit_tokens, prompt_tokens = map(int, found.groups())
    assert prompt_tokens == context_tokens * 2 + template_tokens
    assert limit_tokens <= context_tokens
    assert (caught.value.code, caught.value.param) == ("invalid_parameter_error", "messages")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(limit_tokens + 1 - template_tokens)
    assert f"got {limit_tokens + 1}" in caught.value.message


@pytest.mark.parametrize("question", ["从一数到二十。", "写一个计算斐波那契数列的 Python 函数。"])
def test_a_greedy_continuation_equals_the_uncut_answer(client: OpenAI, question: str) -> None:
    """Spec §6: whoever resumes at a token boundary gets what would have come, wherever the cut was."""
    asked: dict[str, Any] = {"model": "qwen-plus", "temperature": 0, "max_tokens": 32, "logprobs": True}
    messages: list[Any] = [{"role": "user", "content": question}]
    whole = client.chat.completions.create(messages=messages, **asked).choices[0]
    assert whole.logprobs is not None
    tokens = [token.token for token in whole.logprobs.content or []]
    text = whole.message.content or ""
    assert "".join(tokens).startswith(text)

    for cut in (1, 5, 12, 20):
        prefix = "".join(tokens[:cut])
        rest: Any = {"role": "assistant", "content": prefix, "partial": True}
        resumed = client.chat.completions.create(messages=[*messages, rest], **asked | {"max_tokens": 32 - cut})

        # A character of several tokens is one entry of the list, so that the resumed text may be some tokens longer.
        joined = prefix + (resumed.choices[0].message.content or "")
        assert joined.startswith(text), f"cut after {cut} tokens: {prefix!r}"


@pytest.mark.parametrize("thinking", [False, True])
def test_what_the_engine_had_read_already_is_counted_as_cached(client: OpenAI, thinking: bool) -> None:
    """Spec §10: the engine's own reuse of prefixes, neither more nor less; never more than the prompt."""
    long = f"请记住这个编号：{secrets.token_hex(8)}。" + "西湖的水是绿的。" * 40
    messages: list[Any] = [{"role": "user", "content": f"{long}\n编号是什么？"}]
    more: dict[str, Any] = {"enable_thinking": True, "thinking_budget": 8} if thinking else {}

    first, second = (
        client.chat.completions.create(model="qwen-plus", messages=messages, max_tokens=4, extra_body=more).usage
        for _ in range(2)
    )

    assert first is not None
    assert second is not None
    assert first.prompt_tokens_details is not None
    assert second.prompt_tokens_details is not None
    assert (first.prompt_tokens_details.cached_tokens or 0) < 40
    assert 0.9 * second.prompt_tokens < (second.prompt_tokens_details.cached_tokens or 0) <= second.prompt_tokens
    assert first.prompt_tokens == second.prompt_tokens


def test_an_image_is_refused_by_a_text_model(client: OpenAI) -> None:
    """Answering without having seen the picture would be a lie."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "这是什么？"}, image]}]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=messages)

    assert "image" in caught.value.message
    assert caught.value.param == "messages"
