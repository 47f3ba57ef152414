"""How many tokens a call is taken for before anybody has counted them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.metering.estimate import Estimate, estimate, prompt_tokens, text_tokens, texts_tokens
from hanlin.types import Message, Sampling, TextPart, Thinking, Tool, ToolCall
from tests.values import model, request

# The counts are those of Qwen2.5's own vocabulary.
TEXTS = [
    ("杭州位于中国东南沿海，钱塘江下游，是浙江省的省会。西湖在城西，三面环山，面积约六平方公里。", 31),
    ("庆历四年春，滕子京谪守巴陵郡。越明年，政通人和，百废具兴，乃重修岳阳楼，增其旧制。", 38),
    ("東京は日本の首都であり、世界最大級の都市圏を形成しています。お元気ですか。今日はとても良い天気ですね。", 30),
    ("서울은 대한민국의 수도이자 최대 도시이다. 한강을 끼고 있으며 오랜 역사를 가진 도시이다.", 34),
    (
        "The lake lies in the west of the city, with hills on three sides and an area of about six square kilometres. "
        "Ask a question about it, and the model will answer in one or two sentences.",
        41,
    ),
    (
        "Der See liegt im Westen der Stadt, auf drei Seiten von Hügeln umgeben, und ist etwa sechs Quadratkilometer "
        "groß.",
        30,
    ),
    (
        "def add(self, event: Event) -> None:\n    self.texts.append(event.text)\n    if event.call is not None:\n"
        "        self.calls.setdefault(event.call.number, []).append(event.call)\n"
        "    for index, subject in enumerate(self.subjects):\n"
        "        states[index] = self._states.get(subject.ref, NEW)\n",
        65,
    ),
    (
        '{"model": "qwen-plus", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.7, "max_tokens": '
        '1024, "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", '
        '"properties": {"city": {"type": "string"}}}}}]}',
        84,
    ),
    (
        "date,open,high,low,close\n2026-11-02,101.25,103.50,100.75,102.00\n2026-11-03,102.00,104.25,101.50,103.75\n",
        88,
    ),
    (
        "2026-11-26T23:10:45.120Z INFO hanlin.http request id=4f1c2a9e-77d0-4c1b-9a55-0c6b7a21f3de status=200 "
        "ms=41.7\n",
        78,
    ),
]
RANDOM = (
    "TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQsIGNvbnNlY3RldHVyIGFkaXBpc2NpbmcgZWxpdC4gVXQgZW5pbSBhZCBtaW5pbQ==",
    71,
)


@pytest.mark.parametrize(("text", "tokens"), TEXTS)
def test_an_estimate_is_near_the_count_of_a_real_tokenizer(text: str, tokens: int) -> None:
    """What is held is replaced by the truth, but calls are admitted by it."""
    assert 0.8 * tokens <= text_tokens(text) <= 1.3 * tokens


def test_what_looks_random_is_estimated_at_half() -> None:
    """It is said so where the estimate is explained; a call of base64 is settled like any other."""
    text, tokens = RANDOM

    assert 0.4 * tokens <= text_tokens(text) <= 0.5 * tokens


@given(st.text(max_size=300))
def test_no_text_is_more_than_the_stated_bound_above_its_estimate(text: str) -> None:
    """A byte is the least that a tokenizer makes a token of, so this bounds the error for any text and any of them."""
    size_bytes = len(text.encode("utf-8", "replace"))

    assert size_bytes / 5.4 <= text_tokens(text) <= 1.25 * size_bytes + 1


def test_nothing_is_no_token() -> None:
    """An empty text costs nothing."""
    assert text_tokens("") == 0
    assert texts_tokens(["", ""]) == 0


@pytest.mark.parametrize("text", ["The lake lies west of the city. ", "西湖在城西，三面环山。", "x = {1: 'a'}\n"])
def test_a_long_text_is_judged_by_samples(text: str) -> None:
    """A megabyte takes no longer than a page, and is estimated as well."""
    pages = 1_000_000 // len(text)

    assert text_tokens(text * pages) == pytest.approx(pages * text_tokens(text * 100) / 100, rel=0.05)


def test_everything_that_the_model_reads_is_counted() -> None:
    """Reasoning that is sent back, calls of tools, their definitions, pictures, and what the template adds."""
    plain = prompt_tokens([Message("user", "a" * 50)])
    parts = prompt_tokens([Message("user", (TextPart("a" * 25), TextPart("a" * 25)))])
    answer = Message("assistant", "", (ToolCall("call-1", "look", "a" * 50),), reasoning="a" * 100)
    tool = Tool("look", "a" * 500)

    assert plain == parts == 10 + 5 + 8
    assert prompt_tokens([answer]) == 10 + 20 + 1 + 5 + 5 + 8
    assert prompt_tokens([], [tool]) > 100 + 160


def test_what_a_caller_allows_is_held() -> None:
    """Prompt and longest answer, as many times as there are choices."""
    asked = request("a" * 50, sampling=Sampling(max_tokens=100), n=3)

    found = estimate(asked, model(max_output_tokens=8_192))

    assert found == Estimate(23, 300, 300)


def test_an_answer_without_a_limit_is_held_up_to_the_cap_and_paid_up_to_the_models_limit() -> None:
    """Holding 32 K tokens for every short answer would let nobody in; money is held for all that may come."""
    capped = estimate(request(), model(max_output_tokens=32_768), cap_tokens=2_048)
    asked = estimate(request(sampling=Sampling(max_tokens=5_000)), model(max_output_tokens=32_768), cap_tokens=2_048)

    assert (capped.output, capped.output_limit) == (2_048, 32_768)
    assert (asked.output, asked.output_limit) == (5_000, 5_000)
    assert estimate(request(), model()).output == 8_192


def test_no_answer_is_longer_than_the_context_leaves_room_for() -> None:
    """The catalogue's, or the deployment's where that is less."""
    limits = model(max_output_tokens=32_768, context_tokens=4_096)

    assert estimate(request("a" * 50), limits).output == 4_096 - 23
    assert estimate(request("a" * 50), limits, context_tokens=2_048).output == 2_048 - 23
    assert estimate(request("a" * 500_000), limits).output == 1


def test_thinking_is_held_beside_the_answer() -> None:
    """`max_tokens` caps the answer alone, unless the model's row says otherwise; `max_completion_tokens` caps both."""
    asked = request(thinking=Thinking(on=True, budget_tokens=1_000), sampling=Sampling(max_tokens=200))
    unbounded = request(thinking=Thinking(on=True))
    both = request(thinking=Thinking(on=True), sampling=Sampling(max_completion_tokens=300))

    assert estimate(asked, model()).output == 1_200
    assert estimate(asked, model(max_tokens_covers="all")).output == 200
    assert estimate(unbounded, model(max_output_tokens=100, max_reasoning_tokens=900)).output == 1_000
    assert estimate(both, model()).output == 300
