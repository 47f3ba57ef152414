"""Who may, how much, and what it cost, as callers and the operator's database see it: one running service."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from openai import APIStatusError, OpenAI

from hanlin.http.app import PREFIXES, ROUTES
from hanlin.store.rows import NANOS, Budget, Limits, Outcome
from hanlin.testing import FakeEngine, Rule, wait_until
from hanlin.types import SURFACES, Surface, Usage
from tests.accounts import in_store, made, row_of, rows_of
from tests.service import KEY, Service, toml_of

SLOW = Rule(contains="slowly", text="慢" * 200, chunk_delay_s=0.05)
FAILS = Rule(contains="fail", status=500)
BREAKS = Rule(contains="break", chunks=("一", "二", "三"), cut_after_chunks=3)
INPUT, OUTPUT = 0.8, 2.0  # CNY for a million tokens of qwen-plus, in the catalogue


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([SLOW, FAILS, BREAKS, Rule(text="你好，世界")]) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = toml_of(
        {"name": "fake", "url": engine.base_url, "profile": "vllm", "serves": ["qwen-*", "text-embedding-*"]},
        retry_share=0,
        probe_s=3600,
    )
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        yield service


CLIENTS: list[OpenAI] = []


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    """Their connections would be found open by whichever test the collector runs in."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def client_of(service: Service, key: str = KEY) -> OpenAI:
    CLIENTS.append(OpenAI(api_key=key, base_url=service.base_url, max_retries=0))
    return CLIENTS[-1]


def ask(service: Service, key: str = KEY, content: str = "你是谁？", **more: Any) -> Any:
    client = client_of(service, key)
    # Whoever reads a stream needs its connection; all others must not leave it to the collector, as refusals would.
    with contextlib.nullcontext() if more.get("stream") else client:
        return client.chat.completions.create(
            model=more.pop("model", "qwen-plus"), messages=[{"role": "user", "content": content}], **more
        )


def refused(service: Service, key: str, **more: Any) -> APIStatusError:
    with pytest.raises(APIStatusError) as refusal:
        ask(service, key, **more)
    return refusal.value


def cost(usage: Usage) -> int:
    return round((usage.prompt * INPUT + usage.completion * OUTPUT) * NANOS / 1e6)


# --- the ledger ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_leaves_one_row_with_what_it_used_and_cost(service: Service, stream: bool) -> None:
    """The bill is right to the token, and the same for streamed and unstreamed calls."""
    key, made_row = made(service)
    if stream:
        chunks = list(ask(service, key, stream=True, stream_options={"include_usage": True}))
        answer, told = chunks[0], chunks[-1].usage
    else:
        answer = ask(service, key)
        told = answer.usage

    row = row_of(service, answer.id.removeprefix("chatcmpl-"))

    assert told is not None
    assert row.usage == Usage(told.prompt_tokens, told.completion_tokens)
    assert (row.outcome, row.status, row.finish_reason, row.estimated) == (Outcome.ANSWERED, 200, "stop", False)
    assert (row.model, row.deployment, row.surface, row.stream) == ("qwen-plus", "fake", "chat", stream)
    assert (row.key_id, row.workspace_id) == (made_row.id, "default")
    assert row.cost_nanos == row.list_cost_nanos == cost(row.usage) > 0
    assert row.price_version
    assert row.total_ms is not None
    assert row.first_token_ms is not None
    assert 0 < row.first_token_ms <= row.total_ms


BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "qwen-plus", "messages": [{"role": "user", "content": "你好"}]},
    "/completions": {"model": "qwen-coder-turbo", "prompt": "def f(", "max_tokens": 5},
    "/embeddings": {"model": "text-embedding-v4", "input": "你好", "dimensions": 1024},
}
GENERATING = [f"{prefix}{bare}" for prefix in PREFIXES for bare in BODIES]


def post(service: Service, path: str, key: str, **more: Any) -> httpx2.Response:
    """Call a route that generates."""
    body = BODIES[path.removeprefix(next(prefix for prefix in PREFIXES if path.startswith(prefix)))]
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.post(service.url + path, json={**body, **more}, headers=headers, timeout=30)


@pytest.mark.parametrize("path", GENERATING)
def test_every_route_that_generates_leaves_a_row(service: Service, path: str) -> None:
    """There is no way around the ledger."""
    key, made_row = made(service)

    answer = post(service, path, key)

    assert answer.status_code == 200
    (row,) = rows_of(service, made_row, 1)
    assert row.usage.prompt == answer.json()["usage"]["prompt_tokens"] > 0


def test_the_surfaces_that_keys_can_be_narrowed_to_are_those_of_the_routes(service: Service) -> None:
    """A new surface that no key can be narrowed to, or one that no route has, would be found too late."""
    key, made_row = made(service)
    for path in GENERATING:
        post(service, path, key)

    rows = rows_of(service, made_row, len(GENERATING))

    assert {row.surface for row in rows} == set(SURFACES)


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("surface", SURFACES)
def test_a_key_calls_the_surfaces_that_it_was_made_for(service: Service, path: str, surface: Surface) -> None:
    """And no others, on whichever route."""
    key, made_row = made(service, surfaces=(surface,))

    answer = post(service, path, key)

    if answer.status_code == 200:
        (row,) = rows_of(service, made_row, 1)
        assert row.surface == surface
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "access_denied")
        assert surface in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("limits", [Limits(concurrency=0), Limits(rpm=0), Limits(tpm=0)], ids=["calls", "rpm", "tpm"])
def test_every_route_that_generates_is_limited(service: Service, path: str, limits: Limits) -> None:
    """There is no way around the limits: 0 lets nothing through, on whichever route."""
    key, _ = made(service, limits=limits)

    assert post(service, path, key).status_code == 429


def walk(service: Service, key: str) -> None:
    """Ask everything that there is for everything that can be generated, streamed and not."""
    with httpx2.Client(timeout=30, headers={"authorization": f"Bearer {key}"}) as client:
        for path, methods in ROUTES.items():
            for method in methods:
                for body in BODIES.values():
                    for stream in (False, True):
                        client.request(method, service.url + path, json={**body, "stream": stream})


def asked_by_callers(engine: FakeEngine) -> int:
    """Return how often the engine was asked what callers ask; Hanlin itself asks it for a token now and then."""
    return sum(b"max_tokens" not in msgspec.json.encode(one.body) or "prompt" in one.body for one in engine.requests())


def test_there_is_no_way_to_an_engine_around_the_meter(service: Service, engine: FakeEngine) -> None:
    """Whatever path and method, whichever body: who may do nothing gets nothing, and whoever gets something has a row.

    Routes that come later are walked as well, without a word here.
    """
    nothing, _ = made(service, limits=Limits(rpm=0))
    anything, made_row = made(service)
    engine.forget_requests()

    walk(service, nothing)
    asked_past_limits = asked_by_callers(engine)
    walk(service, anything)
    asked = asked_by_callers(engine)

    assert asked_past_limits == 0
    assert asked >= 2 * len(GENERATING)
    rows = rows_of(service, made_row, asked)
    assert len(rows) == asked


def test_a_streamed_completion_leaves_its_row_before_its_end(service: Service) -> None:
    """As chat does."""
    key, made_row = made(service)

    answer = post(service, "/v1/completions", key, stream=True)

    assert answer.text.endswith("data: [DONE]\n\n")
    (row,) = rows_of(service, made_row, 1)
    assert (row.surface, row.stream, row.outcome) == ("text_completion", True, Outcome.ANSWERED)
    assert row.usage.completion > 0


def test_a_failed_call_costs_nothing(service: Service) -> None:
    """Nothing was generated, so nothing is charged; the row says what happened."""
    key, made_row = made(service)
    refused(service, key, content="please fail")

    (row,) = rows_of(service, made_row, 1)

    assert (row.outcome, row.status, row.code) == (Outcome.FAILED, 500, "internal_error")
    assert (row.usage, row.cost_nanos) == (Usage(), 0)


def test_a_stream_that_breaks_is_settled_with_what_was_generated(service: Service) -> None:
    """Three pieces had come, and the caller has them."""
    key, made_row = made(service)
    with pytest.raises(Exception, match=r"."):
        list(ask(service, key, content="please break", stream=True, model="qwen-max"))

    (row,) = rows_of(service, made_row, 1)

    assert row.outcome is Outcome.FAILED
    assert row.usage.completion == 3
    assert row.estimated
    assert row.cost_nanos > 0


def test_a_text_completion_that_breaks_is_settled_with_what_was_generated(service: Service) -> None:
    """As a chat is: streamed, the caller has three pieces."""
    key, made_row = made(service)
    answer = post(service, "/v1/completions", key, prompt="please break", stream=True)
    assert "internal_error" in answer.text

    (row,) = rows_of(service, made_row, 1)

    assert row.outcome is Outcome.FAILED
    assert (row.usage.completion, row.estimated) == (3, True)
    assert row.cost_nanos > 0


def test_a_caller_who_leaves_a_text_completion_pays_for_what_was_generated(service: Service) -> None:
    """As in a chat: what had come until then, and no more."""
    key, made_row = made(service)
    body = {"model": "qwen-coder-turbo", "prompt": "slowly", "stream": True}
    headers = {"authorization": f"Bearer {key}"}
    with httpx2.stream("POST", f"{service.base_url}/completions", json=body, headers=headers, timeout=30) as answer:
        seen = 0
        for line in answer.iter_lines():
            seen += line.startswith("data: ")
            if seen == 5:
                break

    (row,) = rows_of(service, made_row, 1)

    assert (row.outcome, row.status) == (Outcome.CANCELLED, 499)
    assert 5 <= row.usage.completion < 50
    assert row.estimated


def test_a_caller_who_leaves_pays_for_what_was_generated(service: Service) -> None:
    """No more and no less: the engine stops when the caller does."""
    key, made_row = made(service)
    stream = ask(service, key, content="slowly", stream=True)
    for count, _ in enumerate(stream):
        if count == 5:
            break
    stream.close()

    (row,) = rows_of(service, made_row, 1)

    assert (row.outcome, row.status) == (Outcome.CANCELLED, 499)
    assert 4 <= row.usage.completion < 50
    assert row.estimated


def test_a_call_that_is_refused_leaves_no_row(service: Service) -> None:
    """A flood of them must not fill the ledger; metrics count them."""
    key, made_row = made(service)
    refused(service, key, temperature=9)
    ask(service, key)

    (row,) = rows_of(service, made_row, 1)

    assert row.outcome is Outcome.ANSWERED


# --- who may ---------------------------------------------------------------------------------------------------------


def test_a_key_calls_the_models_it_was_made_for(service: Service) -> None:
    """And is told which they are."""
    key, _ = made(service, models=("qwen-max", "qwen3-*"))

    refusal = refused(service, key)

    assert (refusal.status_code, refusal.code) == (403, "Model.AccessDenied")
    assert "qwen3-*" in refusal.message
    assert ask(service, key, model="qwen-max").choices


def test_a_key_calls_the_surfaces_it_was_made_for(service: Service) -> None:
    """A key for embeddings is no key for chat."""
    key, _ = made(service, surfaces=("embeddings",))

    refusal = refused(service, key)

    assert (refusal.status_code, refusal.code) == (403, "access_denied")


@pytest.mark.parametrize(("networks", "status"), [(("10.0.0.0/8",), 403), (("10.0.0.0/8", "127.0.0.0/8"), 200)])
def test_a_key_calls_from_where_it_was_made_for(service: Service, networks: tuple[str, ...], status: int) -> None:
    """A key that leaves the building is worth nothing."""
    key, _ = made(service, addresses=networks)

    answer = httpx2.post(
        f"{service.base_url}/chat/completions",
        json={"model": "qwen-plus", "messages": [{"role": "user", "content": "你好"}]},
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
    )

    assert answer.status_code == status


# --- how much --------------------------------------------------------------------------------------------------------


def test_calls_beyond_a_keys_rate_are_told_when_to_come_back(service: Service) -> None:
    """The vendor's code first; then whose limit it is, and what SDKs wait by."""
    key, _ = made(service, limits=Limits(rpm=2))
    raw = client_of(service, key).chat.completions.with_raw_response.create(
        model="qwen-plus", messages=[{"role": "user", "content": "你好"}]
    )
    assert (raw.headers["x-ratelimit-limit-requests"], raw.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    ask(service, key)

    refusal = refused(service, key)

    assert (refusal.status_code, refusal.code) == (429, "limit_requests")
    assert "rate limit exceeded" in refusal.message
    assert 1 <= int(refusal.response.headers["retry-after"]) <= 60
    assert refusal.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_calls_beyond_a_keys_places_are_refused_and_the_place_comes_back(service: Service) -> None:
    """It is held as long as the answer takes, and no longer."""
    key, _ = made(service, limits=Limits(concurrency=1))
    stream = ask(service, key, content="slowly", stream=True)
    next(iter(stream))

    assert refused(service, key).code == "Throttling"

    stream.close()
    wait_until(lambda: _answers(service, key), "the place to be free again")


def _answers(service: Service, key: str) -> bool:
    with contextlib.suppress(APIStatusError):
        return bool(ask(service, key).choices)
    return False


def test_a_budget_is_never_overspent_by_calls_that_come_at_once(service: Service) -> None:
    """A hundred callers, money for about ten: what was spent is within it, and the rest is told so."""
    usage = ask(service, max_tokens=10).usage
    each = cost(Usage(usage.prompt_tokens + 40, 10))
    key, made_row = made(service, limits=Limits(budget=Budget(10 * each, "CNY", "total")))
    codes: list[str] = []

    def call() -> None:
        try:
            ask(service, key, max_tokens=10)
            codes.append("")
        except APIStatusError as refusal:
            codes.append(str(refusal.code))

    callers = [threading.Thread(target=call) for _ in range(40)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    while codes[-1] == "" or len(codes) < 60:  # until nothing goes any more
        call()
        if len(codes) > 200:
            break

    answered = codes.count("")
    rows = rows_of(service, made_row, answered)
    assert sum(row.cost_nanos for row in rows) <= 10 * each
    assert set(codes) == {"", "insufficient_quota"}
    assert len(rows) == answered >= 8


def test_a_workspaces_limit_counts_for_all_of_its_keys(service: Service) -> None:
    """A team with ten keys has one limit."""
    workspace = in_store(service, lambda store: store.workspaces.add("team", limits=Limits(rpm=2)))
    keys = [made(service, workspace_id=workspace.id)[0] for _ in range(2)]
    time.sleep(1.5)  # a new workspace counts within a second

    for key in keys:
        ask(service, key)

    refusal = refused(service, keys[0])
    assert refusal.code == "limit_requests"
    assert "workspace" in refusal.message


def test_a_key_without_limits_is_told_of_none(service: Service) -> None:
    """Nothing is nothing: no header, no error about a budget that nobody set."""
    raw = client_of(service).chat.completions.with_raw_response.create(
        model="qwen-plus", messages=[{"role": "user", "content": "你好"}]
    )

    assert not [name for name in raw.headers if name.startswith("x-ratelimit")]


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_a_killed_service_loses_no_row(tmp_path: Path) -> None:
    """What was answered is in the ledger after the next start, once; what was under way is one interrupted row."""
    with FakeEngine([SLOW, Rule(text="你好")]) as engine:
        config = toml_of(
            {"name": "fake", "url": engine.base_url, "profile": "vllm", "serves": ["qwen-*"]}, probe_s=3600
        )
        service = Service(tmp_path / "home", config=config)
        service.start()
        try:
            key, made_row = made(service)
            answered: list[str] = []
            for _ in range(3):
                stream = ask(service, key, content="slowly", stream=True)
                seen = 0
                for chunk in stream:
                    seen += bool(chunk.choices and chunk.choices[0].delta.content)
                    if seen == 3:
                        break
                answered += [ask(service, key).id.removeprefix("chatcmpl-") for _ in range(20)]
                assert service.process is not None
                service.process.kill()
                service.process.wait()
                service.start()
            rows = rows_of(service, made_row, len(answered) + 3)
        finally:
            service.close()

    done = [row.id for row in rows if row.outcome is Outcome.ANSWERED]
    cut = [row for row in rows if row.outcome is Outcome.INTERRUPTED]
    assert sorted(done) == sorted(answered)
    assert len(cut) == 3
    assert all(3 <= row.usage.completion < 200 for row in cut)
    assert all(row.estimated and row.usage.prompt and row.cost_nanos > 0 for row in cut)
