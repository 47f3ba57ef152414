"""Translation over the wire: how its streams grow, and what counts, by the official SDK."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from hanlin.testing import FakeEngine, Rule
from tests.service import Service, in_front_of

LINES = "今天下雨。\n明天不下雨。\n后天再看。"
SAID = {"今天": "It is raining today.", "明天": "It will not rain tomorrow.", "后天": "We will see the day after."}
WHOLE = "\n".join(SAID.values())


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        engine.rules([Rule(contains=word, text=text) for word, text in SAID.items()])
        yield engine


@pytest.fixture(scope="module")
def client(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    with (
        Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, context_tokens=8192)) as service,
        service.client() as client,
    ):
        yield client


def asked(model: str, **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": LINES}],
        "extra_body": {"translation_options": {"source_lang": "Chinese", "target_lang": "English"}},
        **more,
    }


@pytest.mark.parametrize("model", ["qwen-mt-plus", "qwen-mt-turbo", "qwen-mt-flash", "qwen-mt-lite"])
def test_streams_grow_as_the_model_has_it_and_end_as_the_whole_answer(client: OpenAI, model: str) -> None:
    """Plus and turbo repeat all of the text in every chunk, flash and lite tell what is new (spec/scenarios.md §1.3).

    Clients are written for one or the other: who shows the last chunk of flash, shows its last word.
    """
    whole = client.chat.completions.create(**asked(model))
    chunks = list(client.chat.completions.create(**asked(model, stream=True, stream_options={"include_usage": True})))

    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert whole.choices[0].message.content == WHOLE
    if model in ("qwen-mt-plus", "qwen-mt-turbo"):
        assert all(later.startswith(before) for before, later in itertools.pairwise(texts))
        assert texts[-1] == WHOLE
    else:
        assert "".join(texts) == WHOLE
    assert len(texts) >= 3  # each line as soon as it is checked
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert ends == ["stop", "stop"]
    assert chunks[-1].usage == whole.usage
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


def test_what_was_corrected_is_reported_to_those_who_ask(client: OpenAI) -> None:
    """Beside the contract's fields, where SDKs pass it over: whole, and in the last chunk of a stream."""
    options = {"source_lang": "Chinese", "target_lang": "English", "hanlin": {"report": True}}
    extra = {"extra_body": {"translation_options": options}}

    whole = client.chat.completions.create(**asked("qwen-mt-flash", **extra))
    *_, last, _usage = client.chat.completions.create(
        **asked("qwen-mt-flash", stream=True, stream_options={"include_usage": True}, **extra)
    )

    report = (whole.model_extra or {})["hanlin"]["translation"]
    assert (report["source_lang"], report["segments"], report["calls"]) == ("Chinese", 3, 3)
    assert (last.model_extra or {})["hanlin"]["translation"] == report
    assert "hanlin" not in (client.chat.completions.create(**asked("qwen-mt-flash")).model_extra or {})


def test_a_long_text_is_taken_where_it_may_be_split(client: OpenAI) -> None:
    """Neither the seam nor its limits may refuse what the recipe cuts into pieces."""
    rows = "\n".join(f"{number} 0123456789 9876543210 5555555555" for number in range(800))
    text = f"今天下雨。\n{rows}\n明天不下雨。"

    def call(**hanlin: bool) -> str | None:
        options = {"source_lang": "Chinese", "target_lang": "English", "hanlin": hanlin}
        answer = client.chat.completions.create(
            model="qwen-mt-flash",
            messages=[{"role": "user", "content": text}],
            extra_body={"translation_options": options},
        )
        return answer.choices[0].message.content

    assert call(split=True) == f"{SAID['今天']}\n{rows}\n{SAID['明天']}"
    with pytest.raises(BadRequestError, match=r"Range of input length should be \[1, 8192\]"):
        call()


@pytest.mark.parametrize("model", ["qwen-mt-plus", "qwen-mt-turbo", "qwen-mt-flash", "qwen-mt-lite"])
def test_a_translation_that_is_cut_says_so_whole_and_streamed(client: OpenAI, model: str) -> None:
    """`max_tokens` ends it with `length`, and it is the beginning of the whole one either way."""
    whole = client.chat.completions.create(**asked(model, max_tokens=8))
    chunks = list(client.chat.completions.create(**asked(model, max_tokens=8, stream=True)))

    told = whole.choices[0].message.content or ""
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert WHOLE.startswith(told)
    assert 0 < len(told) < len(WHOLE)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8
    assert {chunk.choices[0].finish_reason for chunk in chunks if chunk.choices} == {None, "length"}
    seen = [text for text in texts if text]
    assert (seen[-1] if model in ("qwen-mt-plus", "qwen-mt-turbo") else "".join(seen)) == told
