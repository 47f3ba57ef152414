"""What the Python SDK sees when something breaks or somebody leaves: retries, failures inside a stream, hang-ups."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from hanlin.testing import FakeEngine, Record, Rule
from tests.e2e.conftest import STALL_S
from tests.service import Service

QUESTION: list[Any] = [{"role": "user", "content": "你是谁？"}]
ENDLESS = Rule(text="长" * 20_000, chunk_delay_s=0.02)  # minutes, if nobody ends it


def fault_of(rule: Rule) -> str:
    """Name a test after its fault."""
    faults = ("status", "cut", "stall", "end", "error", "garbage")
    fields = [name for name in rule.__struct_fields__ if name.startswith(faults)]
    [(name, value)] = [(name, value) for name in fields if (value := getattr(rule, name)) is not None]
    return f"{name}={value}{', reset' if rule.reset else ''}"


def all_cancelled(requests: Sequence[Record]) -> bool:
    return bool(requests) and all(request.state == "cancelled" for request in requests)


def test_an_unavailable_engine_is_tried_again_when_its_time_has_come(client: OpenAI, engine: FakeEngine) -> None:
    """The SDK obeys `Retry-After` of a 503, so a restart of the engine is no more than a pause."""
    engine.rules([Rule(status=503, times=1), Rule(text="我回来了")])
    began = time.monotonic()

    response = client.with_options(max_retries=2).chat.completions.with_raw_response.create(
        model="qwen-plus", messages=QUESTION
    )

    assert response.parse().choices[0].message.content == "我回来了"
    assert response.retries_taken == 1
    assert time.monotonic() - began >= 4.9  # the SDK's own pause would be half a second


def test_an_unavailable_engine_says_when_to_come_back(client: OpenAI, engine: FakeEngine) -> None:
    """Whole seconds, at most 60: what SDKs can read and will wait for (spec/surfaces.md §9.1)."""
    engine.rules([Rule(status=503)])

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    error = caught.value
    assert (error.status_code, error.code, error.type) == (503, "ModelUnavailable", "ModelUnavailable")
    assert "Model is unavailable, please try again later." in error.message
    assert 1 <= int(error.response.headers["retry-after"]) <= 60


def test_a_failing_engine_is_an_internal_error_that_is_retried(client: OpenAI, engine: FakeEngine) -> None:
    """A broken answer may come out whole the next time; nothing of the first has reached the caller."""
    engine.rules([Rule(cut_after_chunks=2, times=1), Rule(text="第二次")])

    response = client.with_options(max_retries=1).chat.completions.with_raw_response.create(
        model="qwen-plus", messages=QUESTION
    )

    assert response.parse().choices[0].message.content == "第二次"
    assert response.retries_taken == 1


@pytest.mark.parametrize(
    "fault",
    [
        Rule(status=500),
        Rule(cut_after_chunks=-1),
        Rule(cut_after_chunks=2),
        Rule(cut_after_chunks=2, reset=True),
        Rule(error_after_chunks=2),
        Rule(garbage_after_chunks=2),
        Rule(garbage_after_chunks=-1),
        Rule(end_after_chunks=2),
        Rule(stall_after_chunks=2),
    ],
    ids=fault_of,
)
def test_an_unstreamed_call_never_passes_a_broken_answer_off_as_whole(
    client: OpenAI, engine: FakeEngine, fault: Rule
) -> None:
    """Half an answer with status 200 would be taken at its word."""
    engine.rules([fault])

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    assert caught.value.status_code == 500
    assert caught.value.code in ("internal_error", "RequestTimeOut")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Rule(text="一二三四", chunk_delay_s=0.5, cut_after_chunks=2), "internal_error"),
        (Rule(text="一二三四", chunk_delay_s=0.5, error_after_chunks=2), "internal_error"),
        (Rule(text="一二三四", chunk_delay_s=0.5, garbage_after_chunks=2), "internal_error"),
        (Rule(text="一二三四", chunk_delay_s=0.5, end_after_chunks=2), "internal_error"),
        (Rule(text="一二三四", chunk_delay_s=0.5, stall_after_chunks=2), "RequestTimeOut"),
    ],
    ids=["cut", "error", "garbage", "end", "stall"],
)
def test_a_failure_inside_a_stream_raises_after_what_had_arrived(
    client: OpenAI, engine: FakeEngine, fault: Rule, code: str
) -> None:
    """A stream that just stopped would look complete: the SDK must raise, and keep the words it had."""
    engine.rules([fault])
    stream = client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)
    words: list[str] = []

    with pytest.raises(openai.APIError) as caught:
        words.extend(chunk.choices[0].delta.content or "" for chunk in stream)

    assert "".join(words) in ("一", "一二")  # what came in one packet with the failure may go down with it
    assert caught.value.code == code
    assert caught.value.type == "internal_error"


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Rule(status=503), 503), (Rule(status=500), 500), (Rule(cut_after_chunks=-1), 500), (Rule(status=422), 400)],
    ids=["unavailable", "failed", "cut", "refused"],
)
def test_a_stream_that_fails_before_its_first_word_has_its_true_status(
    client: OpenAI, engine: FakeEngine, fault: Rule, status: int
) -> None:
    """Then the SDK's retries work as for any other call."""
    engine.rules([fault])

    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)

    assert caught.value.status_code == status


def test_a_stream_that_is_silent_before_its_first_word_ends_too(client: OpenAI, engine: FakeEngine) -> None:
    """An engine that hangs must not hold its callers: after the allowed silence the call fails by name."""
    engine.rules([Rule(stall_after_chunks=-1)])

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)

    assert caught.value.code == "RequestTimeOut"
    assert f"{STALL_S} s" in caught.value.message


def test_one_broken_choice_ends_the_stream_of_all(client: OpenAI, engine: FakeEngine) -> None:
    """Of several choices none may be missing silently; the others stop costing anything."""
    engine.rules([Rule(when={"seed": 8}, text="一二三", cut_after_chunks=1), ENDLESS])
    stream = client.chat.completions.create(model="qwen-plus", messages=QUESTION, n=3, seed=7, stream=True)

    with pytest.raises(openai.APIError):
        list(stream)

    engine.wait_for(lambda requests: sorted(request.state for request in requests) == ["cancelled", "cancelled", "cut"])


def test_leaving_a_stream_stops_the_engine(client: OpenAI, engine: FakeEngine) -> None:
    """Whoever breaks out of the loop has heard enough; the engine must not talk on to nobody."""
    engine.rules([ENDLESS])

    with client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 5:
                break

    [request] = engine.wait_for(all_cancelled)
    assert request.tokens_made < 1000


def test_leaving_a_stream_of_several_choices_stops_them_all(client: OpenAI, engine: FakeEngine) -> None:
    """Each choice is a call of its own to the engine: none may be forgotten."""
    engine.rules([ENDLESS])

    with client.chat.completions.create(model="qwen-plus", messages=QUESTION, n=4, stream=True) as stream:
        next(iter(stream))
        engine.wait_for(lambda requests: len(requests) == 4)

    engine.wait_for(lambda requests: len(requests) == 4 and all_cancelled(requests))


async def test_an_asynchronous_reader_that_leaves_stops_the_engine(
    async_client: AsyncOpenAI, engine: FakeEngine
) -> None:
    """The same for the other client, whose connections are closed by other code."""
    engine.rules([ENDLESS])

    stream = await async_client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True)
    async for _ in stream:
        break
    await stream.close()

    await engine.wait_for_async(all_cancelled)


def test_an_unstreamed_call_that_times_out_stops_the_engine(client: OpenAI, engine: FakeEngine) -> None:
    """The caller sees no words until the end, but its going away must be seen all the same."""
    engine.rules([ENDLESS])

    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=httpx2.Timeout(1.0)).chat.completions.create(model="qwen-plus", messages=QUESTION)

    engine.wait_for(all_cancelled)


@pytest.mark.parametrize("n", [1, 4])
async def test_a_cancelled_task_stops_the_engine(async_client: AsyncOpenAI, engine: FakeEngine, n: int) -> None:
    """A web application cancels what its own caller no longer wants."""
    engine.rules([ENDLESS])
    task = asyncio.create_task(async_client.chat.completions.create(model="qwen-plus", messages=QUESTION, n=n))
    await engine.wait_for_async(lambda requests: len(requests) == n)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.wait_for_async(all_cancelled)


def test_a_hang_up_before_the_first_word_stops_the_engine(client: OpenAI, engine: FakeEngine) -> None:
    """While the engine reads a long prompt it says nothing, and nothing can be written to the caller."""
    engine.rules([Rule(first_delay_s=2.5, text="太晚了")])

    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=httpx2.Timeout(0.5)).chat.completions.create(
            model="qwen-plus", messages=QUESTION, stream=True
        )

    engine.wait_for(all_cancelled)


def test_places_are_free_again_after_many_hang_ups(client: OpenAI, engine: FakeEngine, service: Service) -> None:
    """A place that leaks with every impatient caller would close the service within a day."""
    engine.rules([ENDLESS])

    for _ in range(20):
        with client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=True) as stream:
            next(iter(stream))

    engine.wait_for(lambda requests: len(requests) == 20 and all_cancelled(requests))
    [deployment] = service.get("/health").json()["deployments"]
    assert (deployment["running"], deployment["waiting"]) == (0, 0)
