"""What the Python SDK sees of a failover and of a continuation: one answer, whole, once, and billed as one."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk

from hanlin.testing import FakeEngine, Rule
from tests.service import Service, toml_of

POEM = "春眠不觉晓。"
CHUNKS = tuple(POEM)  # a token a character, as engines stream
QUESTION: list[Any] = [{"role": "user", "content": "背一首诗"}]

BEFORE_A_WORD = {
    "unavailable": Rule(status=503),
    "failed": Rule(status=500),
    "busy": Rule(status=429),
    "cut before the headers": Rule(cut_after_chunks=-1),
    "silent": Rule(stall_after_chunks=0),
}
AMID_THE_ANSWER = {
    "cut": Rule(chunks=CHUNKS, cut_after_chunks=3),
    "reset": Rule(chunks=CHUNKS, cut_after_chunks=2, reset=True),
    "silent": Rule(chunks=CHUNKS, stall_after_chunks=4),
    "malformed": Rule(chunks=CHUNKS, garbage_after_chunks=1),
    "ended too early": Rule(chunks=CHUNKS, end_after_chunks=5),
    "all said, no end": Rule(chunks=CHUNKS, cut_after_chunks=6),
}


@pytest.fixture(scope="module")
def sick() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def well() -> Iterator[FakeEngine]:
    with FakeEngine([Rule(chunks=CHUNKS)]) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(sick: FakeEngine, well: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two replicas, the sick one first. Every fault of a name is the first that is seen of it."""
    names = [f"case-{number}" for number in range(100)]
    rows = [
        {"name": f"{which}-{name}", "url": engine.base_url, "profile": "vllm", "serves": [name]}
        for name in names
        for which, engine in (("sick", sick), ("well", well))
    ]
    config = toml_of(*rows, probe_s=3600, first_byte_s=1, silence_s=1, retry_share=10)
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with service.client(timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(100))


@pytest.fixture
def name(numbers: Iterator[int], sick: FakeEngine, well: FakeEngine) -> str:
    """A name that no test has used, so that no breaker has opened for it."""
    sick.forget_requests()
    well.forget_requests()
    return f"case-{next(numbers)}"


def read(client: OpenAI, name: str, **options: Any) -> list[ChatCompletionChunk]:
    stream = client.chat.completions.create(
        model=name, messages=QUESTION, stream=True, stream_options={"include_usage": True}, **options
    )
    return list(stream)


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def reasons(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def usage_of_the_poem(client: OpenAI, service: Service, sick: FakeEngine, name: str) -> Any:
    """Return what the poem costs when nothing goes wrong."""
    sick.rules([Rule(chunks=CHUNKS)])
    return client.chat.completions.create(model=name, messages=QUESTION).usage


@pytest.mark.parametrize("case", BEFORE_A_WORD)
def test_a_failover_is_not_noticed_unstreamed(client: OpenAI, sick: FakeEngine, name: str, case: str) -> None:
    """The program gets its answer; who gave it and what was tried stands in the headers."""
    sick.rules([BEFORE_A_WORD[case]])

    response = client.chat.completions.with_raw_response.create(model=name, messages=QUESTION)

    answer = response.parse()
    assert answer.choices[0].message.content == POEM
    assert answer.choices[0].finish_reason == "stop"
    assert answer.system_fingerprint == f"well-{name}"
    assert response.headers["x-hanlin-served-by"] == f"upstream; well-{name}"
    assert response.headers["x-hanlin-attempts"].endswith(f", well-{name}")
    assert response.retries_taken == 0


@pytest.mark.parametrize("case", BEFORE_A_WORD)
def test_a_failover_is_not_noticed_streamed(client: OpenAI, sick: FakeEngine, name: str, case: str) -> None:
    """Neither by a stream that has not begun yet."""
    sick.rules([BEFORE_A_WORD[case]])

    chunks = read(client, name)

    assert text_of(chunks) == POEM
    assert reasons(chunks) == ["stop"]
    assert {chunk.system_fingerprint for chunk in chunks} == {f"well-{name}"}
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("case", AMID_THE_ANSWER)
def test_a_broken_stream_is_continued_without_a_seam(
    client: OpenAI, service: Service, sick: FakeEngine, well: FakeEngine, name: str, case: str
) -> None:
    """What was said is said once; the rest follows, with one end and the usage of the whole."""
    expected = usage_of_the_poem(client, service, sick, name)
    sick.rules([AMID_THE_ANSWER[case]])

    chunks = read(client, name)

    assert text_of(chunks) == POEM
    assert reasons(chunks) == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks if chunk.usage] == [chunks[-1].usage]
    assert chunks[-1].usage == expected
    told = [chunk.system_fingerprint or "" for chunk in chunks]
    assert told == sorted(told)  # first the sick one, then the well one
    continued = [request for request in well.requests() if request.body["messages"][-1]["role"] == "assistant"]
    assert continued
    assert all(request.body["continue_final_message"] for request in continued)


@pytest.mark.parametrize("case", AMID_THE_ANSWER)
def test_a_broken_answer_is_given_anew_where_nobody_has_seen_it(
    client: OpenAI, service: Service, sick: FakeEngine, name: str, case: str
) -> None:
    """Without a stream nothing has left: the answer is one engine's from its first word on, and its bill as well."""
    expected = usage_of_the_poem(client, service, sick, name)
    sick.rules([AMID_THE_ANSWER[case]])

    answer = client.chat.completions.create(model=name, messages=QUESTION)

    assert answer.choices[0].message.content == POEM
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage == expected


def test_every_choice_fails_over_by_itself(client: OpenAI, sick: FakeEngine, name: str) -> None:
    """`n` choices are `n` calls behind the scenes: one that breaks must not take the others along."""
    sick.rules([Rule(chunks=CHUNKS, cut_after_chunks=3, times=1), Rule(chunks=CHUNKS)])

    chunks = read(client, name, n=3)

    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [POEM] * 3
    assert reasons(chunks) == ["stop"] * 3


def test_thoughts_are_not_continued_but_told_to_have_broken_off(client: OpenAI, sick: FakeEngine, name: str) -> None:
    """No prompt can bring a half-finished thought back: an error is better than another one's end of it."""
    sick.rules([Rule(thinking="想一想该背哪一首", text=POEM, cut_after_chunks=3)])

    with pytest.raises(Exception, match="internal error has occured"):
        read(client, name, extra_body={"enable_thinking": True})
