"""Bills of calls that nobody counted to their end, that broke, were tried again or were left: one running service.

The deployment `whole` gives unstreamed answers as a whole; `joined` is asked for a stream also then.
"""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from hanlin.store.rows import LedgerRow, Outcome
from hanlin.testing import FakeEngine, Rule
from hanlin.types import Usage
from tests.accounts import made, row_of, rows_of
from tests.contract.test_accounting_wire import ask, client_of, refused
from tests.service import Service, toml_of

TEXT = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
COUNTED = {
    "prompt_tokens": 2000,
    "completion_tokens": 10,
    "total_tokens": 2010,
    "prompt_tokens_details": {"cached_tokens": 1000, "cache_creation_input_tokens": 500, "cache_type": "ephemeral"},
}
RULES = [
    Rule(contains="uncounted", text=TEXT, omit_usage=True),
    Rule(contains="zeros", text=TEXT, usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
    Rule(contains="cache", text="好", usage=COUNTED),
    Rule(contains="odd", text="好", usage={"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 99}),
    Rule(contains="slowly", text=TEXT * 20, chunk_tokens=1, chunk_delay_s=0.02),
    Rule(contains="break", text=TEXT, chunk_tokens=1, cut_after_chunks=9),
    Rule(text=TEXT),
]
LEFT_S = 1.0  # how long a caller waits that leaves


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine(RULES) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, engine: FakeEngine) -> Iterator[Service]:
    config = toml_of(
        {"name": "whole", "url": engine.base_url, "profile": "vllm", "serves": ["qwen-plus", "qwen-coder-*"]},
        {"name": "joined", "url": engine.base_url, "profile": "openai", "serves": ["qwen-max", "qwen-flash"]},
        {"name": "other", "url": engine.base_url, "profile": "vllm", "serves": ["qwen-max"]},
        routes=[{"names": ["qwen-max"], "deployments": ["joined", "other"]}],
        retry_share=1,
        unstreamed_limit_s=4,
        probe_s=3600,
    )
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        yield service


ENGINES = pytest.mark.parametrize("model", ["qwen-plus", "qwen-flash"], ids=["whole", "joined"])


def asked(service: Service, content: str, model: str, *, stream: bool, **more: Any) -> tuple[str, Usage, str]:
    """Ask, and return the text, the usage that the caller was told, and the call's id."""
    if stream:
        chunks = list(
            ask(service, content=content, model=model, stream=True, stream_options={"include_usage": True}, **more)
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        call_id, usage = chunks[0].id, chunks[-1].usage
    else:
        answer = ask(service, content=content, model=model, **more)
        text, call_id, usage = answer.choices[0].message.content, answer.id, answer.usage
    return text, Usage(usage.prompt_tokens, usage.completion_tokens), call_id.removeprefix("chatcmpl-")


def answered(service: Service, content: str, model: str, *, stream: bool) -> tuple[str, Usage, LedgerRow]:
    """Ask, and return the text, the usage that the caller was told, and the row."""
    text, usage, call_id = asked(service, content, model, stream=stream)
    return text, usage, row_of(service, call_id)


def leave(service: Service, key: str, path: str, body: Mapping[str, Any], after_s: float = LEFT_S) -> None:
    """Make a call as somebody who hangs up before its end."""
    headers = {"authorization": f"Bearer {key}"}
    with contextlib.suppress(httpx2.HTTPError, socket.timeout):
        httpx2.post(f"{service.base_url}{path}", json=body, headers=headers, timeout=after_s)


# --- nobody counted --------------------------------------------------------------------------------------------------


@ENGINES
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["uncounted", "zeros"])
def test_what_the_engine_did_not_count_is_an_estimate_and_never_zero(
    service: Service, model: str, stream: bool, content: str
) -> None:
    """The caller is told the same numbers as the bill has; only the bill can say that they are a guess."""
    text, told, row = answered(service, content, model, stream=stream)

    assert text == TEXT
    assert (row.usage, row.estimated) == (told, True)
    assert len(TEXT) // 2 < row.usage.completion < 2 * len(TEXT)
    assert row.usage.prompt > 0
    assert row.cost_nanos > 0


@ENGINES
def test_what_the_engine_counted_is_no_estimate(service: Service, model: str) -> None:
    """And stands on the bill to the token."""
    _, told, row = answered(service, "hello", model, stream=False)

    assert (row.usage, row.estimated) == (told, False)


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_written_to_a_cache_have_their_column_and_their_price(service: Service, stream: bool) -> None:
    """qwen-plus: 0.8 fresh, 1.0 written, 0.08 read from an explicit cache, 2.0 for the answer, a million each."""
    _, _, row = answered(service, "cache", "qwen-plus", stream=stream)

    assert row.usage == Usage(2000, 10, cached=1000)
    assert (row.cache_created, row.estimated) == (500, False)
    assert row.cost_nanos == 500 * 800 + 500 * 1_000 + 1_000 * 80 + 10 * 2_000


def test_counts_that_do_not_add_up_are_made_to_and_say_so(service: Service) -> None:
    """More cached tokens than the prompt has: the sum is believed, and the row is marked."""
    _, _, row = answered(service, "odd", "qwen-plus", stream=True)

    assert (row.usage, row.estimated) == (Usage(10, 5, cached=10), True)


# --- somebody left ---------------------------------------------------------------------------------------------------


@ENGINES
def test_an_unstreamed_caller_who_leaves_pays_for_what_was_generated(service: Service, model: str) -> None:
    """As far as anybody can tell: by what had come, or by the time where an answer comes as a whole."""
    key, made_row = made(service)
    leave(service, key, "/chat/completions", {"model": model, "messages": [{"role": "user", "content": "slowly"}]})

    (row,) = rows_of(service, made_row, 1)

    assert (row.outcome, row.status, row.estimated) == (Outcome.CANCELLED, 499, True)
    assert 5 <= row.usage.completion <= 3 * LEFT_S / 0.02
    assert row.usage.prompt > 0
    assert row.cost_nanos > 0


def test_an_answer_that_comes_as_a_whole_is_never_taken_for_longer_than_it_may_be(service: Service) -> None:
    """The caller's own limit holds for a guess as well."""
    key, made_row = made(service)
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "slowly"}], "max_tokens": 60}
    leave(service, key, "/chat/completions", body)

    (row,) = rows_of(service, made_row, 1)

    assert 0 < row.usage.completion <= 60


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_a_completion_pays_for_what_was_generated(service: Service, stream: bool) -> None:
    """As in chat."""
    key, made_row = made(service)
    body = {"model": "qwen-coder-turbo", "prompt": "slowly", "stream": stream}
    if stream:
        with (
            contextlib.suppress(httpx2.HTTPError),
            httpx2.stream(
                "POST", f"{service.base_url}/completions", json=body, headers={"authorization": f"Bearer {key}"}
            ) as answer,
        ):
            for count, _ in enumerate(answer.iter_lines()):
                if count == 20:
                    break
    else:
        leave(service, key, "/completions", body)

    (row,) = rows_of(service, made_row, 1)

    assert (row.outcome, row.estimated) == (Outcome.CANCELLED, True)
    assert 5 <= row.usage.completion <= 3 * LEFT_S / 0.02
    assert row.usage.prompt > 0


def test_an_answer_whose_time_is_over_is_paid_as_its_caller_was_told(service: Service) -> None:
    """What there is of it is an answer, its usage a guess; where there is nothing of it, nothing is paid."""
    key, made_row = made(service)
    told = ask(service, key, content="slowly", model="qwen-flash").usage
    refused(service, key, content="slowly", model="qwen-plus")

    cut_short, nothing = rows_of(service, made_row, 2)

    assert cut_short.usage == Usage(told.prompt_tokens, told.completion_tokens)
    assert (cut_short.outcome, cut_short.estimated) == (Outcome.ANSWERED, True)
    assert (nothing.outcome, nothing.usage, nothing.cost_nanos) == (Outcome.FAILED, Usage(), 0)


# --- something broke -------------------------------------------------------------------------------------------------


def test_whoever_gets_an_error_in_place_of_a_whole_answer_pays_nothing(service: Service) -> None:
    """Some of it was generated, and nobody got it; a stream's caller pays for what arrived."""
    key, made_row = made(service)
    refused(service, key, content="break", model="qwen-flash")
    with pytest.raises(Exception, match=r"."):
        list(ask(service, key, content="break", model="qwen-flash", stream=True))

    whole, streamed = rows_of(service, made_row, 2)

    assert (whole.outcome, whole.usage, whole.cost_nanos) == (Outcome.FAILED, Usage(), 0)
    assert (streamed.outcome, streamed.usage.completion, streamed.estimated) == (Outcome.FAILED, 9, True)
    assert streamed.cost_nanos > 0


def test_an_answer_made_anew_elsewhere_is_paid_once(service: Service, engine: FakeEngine) -> None:
    """What the first deployment had generated was never said."""
    engine.rules([Rule(text=TEXT, chunk_tokens=1, cut_after_chunks=9, times=1), *RULES])
    try:
        text, told, row = answered(service, "please", "qwen-max", stream=False)
    finally:
        engine.rules(RULES)

    assert text == TEXT
    assert (row.deployment, row.usage, row.estimated) == ("other", told, False)


def test_an_answer_that_was_continued_is_paid_as_one(service: Service, engine: FakeEngine) -> None:
    """Both parts of it, and the prompt once; where they meet is a guess, and the row says so."""
    engine.rules([Rule(text=TEXT, chunk_tokens=1, cut_after_chunks=9, times=1), *RULES])
    try:
        text, told, row = answered(service, "please", "qwen-max", stream=True)
    finally:
        engine.rules(RULES)
    whole_text, _, whole = answered(service, "please", "qwen-max", stream=True)

    assert text == whole_text == TEXT
    assert (row.usage, row.estimated) == (told, True)
    assert abs(row.usage.completion - whole.usage.completion) <= 1
    assert abs(row.usage.prompt - whole.usage.prompt) <= 8


# --- all modes alike -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["hi", "说一句话", "cache", "a much longer question " * 50])
@pytest.mark.parametrize("more", [{}, {"max_tokens": 5}, {"n": 2}], ids=["plain", "short", "two"])
@ENGINES
def test_the_same_call_costs_the_same_streamed_and_not(
    service: Service, model: str, content: str, more: dict[str, Any]
) -> None:
    """Whichever way the engine is asked: how an answer travels is no reason for another price."""
    text, usage, call_id = asked(service, content, model, stream=False, seed=7, **more)
    again_text, again_usage, again_id = asked(service, content, model, stream=True, seed=7, **more)
    row, again = row_of(service, call_id), row_of(service, again_id)

    assert usage == again_usage == Usage(row.usage.prompt, row.usage.completion)
    assert (row.usage, row.cache_created, row.cost_nanos) == (again.usage, again.cache_created, again.cost_nanos)
    assert row.list_cost_nanos == again.list_cost_nanos
    if "n" not in more:
        assert text == again_text


def test_a_completion_costs_the_same_streamed_and_not_and_its_answer_as_much_as_a_chats(service: Service) -> None:
    """Prompts differ, because a chat has a template; what is generated is the same, and so is its price."""
    client, (key, made_row) = client_of(service), made(service)
    client = client_of(service, key)
    body: dict[str, Any] = {"model": "qwen-coder-turbo", "prompt": "def f(", "seed": 7, "max_tokens": 9}
    client.completions.create(**body)
    list(client.completions.create(**body, stream=True))
    client.chat.completions.create(
        model="qwen-coder-turbo", messages=[{"role": "user", "content": "def f("}], seed=7, max_tokens=9
    )

    whole, streamed, chat = rows_of(service, made_row, 3)

    assert (whole.usage, whole.cost_nanos) == (streamed.usage, streamed.cost_nanos)
    assert whole.usage.completion == chat.usage.completion
    prompts = chat.usage.prompt - whole.usage.prompt
    assert chat.cost_nanos - whole.cost_nanos == prompts * 2_000  # qwen-coder-turbo: 2 a million tokens of prompt
