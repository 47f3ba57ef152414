"""What operators and their tools see of calls: the page at /metrics, the timings header, and spans at a collector."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.collector import Collector, serving
from tests.service import KEY, Service, toml_of

DOCS = Path(__file__).parents[2] / "docs"
CHAT = "/compatible-mode/v1/chat/completions"
UPSTREAM_KEY = "sk-planted-for-the-upstream"
PROMPT = "planted-in-the-prompt"
ANSWER = "planted-in-the-answer"

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
TIMINGS = {"x-hanlin-timings": "1"}

DURATION = "gen_ai_server_request_duration_seconds"
ANSWERED = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "hanlin",
    "gen_ai_request_model": "qwen-plus",
    "gen_ai_response_model": "fake",
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with serving() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "UPSTREAM_KEY": UPSTREAM_KEY,
    }
    answer = Rule(text=ANSWER, first_delay_s=0.05, chunk_delay_s=0.005)
    with FakeEngine([Rule(model="sick", status=500), Rule(contains="wait", stall_after_chunks=0), answer]) as engine:
        home = tmp_path_factory.mktemp("home")
        with Service(home, config=config(engine.base_url), environment=environment) as service:
            yield service


def config(url: str) -> str:
    """Return a `hanlin.toml` with a healthy deployment for every name, and two sick ones for a name or two each."""
    return toml_of(
        {"name": "fake", "url": url, "key_env": "UPSTREAM_KEY"},
        {"name": "sick", "url": url, "model": "sick"},
        {"name": "ill", "url": url, "model": "sick"},
        routes=[
            {"names": ["qwen-max"], "deployments": ["sick", "fake"]},
            {"names": ["qwen-turbo"], "deployments": ["sick"]},
            {"names": ["qwen-flash"], "deployments": ["ill", "fake"]},
            {"names": ["*"], "deployments": ["fake"]},
        ],
        probe_s=3600,
        retry_share=10,
    )


@pytest.fixture
def http(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http:
        yield http


def ask(http: httpx2.Client, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": PROMPT}], **fields}
    return http.post(CHAT, json=body, headers=headers)


def value(http: httpx2.Client, name: str, **labels: str) -> float:
    """Return a sample of the page, 0 where it is not there yet."""
    return summed(http, name, **labels)[0]


def summed(http: httpx2.Client, name: str, **labels: str) -> tuple[float, int]:
    """Return the sum of all samples that have these labels, and how many they are."""
    found = [
        sample.value
        for family in of_text(http.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found), len(found)


def grows(http: httpx2.Client, before: float, name: str, **labels: str) -> None:
    """Wait until a count is more: a call is counted once it is over, which is after its caller has the answer."""
    wait_until(lambda: value(http, name, **labels) > before, f"{name} beyond {before}")


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_needs_no_key_and_names_nobody(http: httpx2.Client, service: Service) -> None:
    """Scrapers are seldom given secrets, and so must find none."""
    assert ask(http).status_code == 200

    page = httpx2.get(f"{service.url}/metrics", timeout=30)

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert not any(planted in page.text for planted in (KEY, PROMPT, ANSWER))


def test_a_scraper_that_asks_for_openmetrics_gets_it(http: httpx2.Client) -> None:
    """Prometheus prefers it; its reader is the stricter one."""
    page = http.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})

    assert page.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    names = {family.name for family in of_openmetrics(page.text)}  # type: ignore[no-untyped-call]
    assert {"hanlin_deployment_state", "hanlin_calls_open"} <= names


def test_only_get_reads_the_page(http: httpx2.Client) -> None:
    """As with every path of one method."""
    assert http.post("/metrics").status_code == 405


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_counted_with_its_times_and_tokens(http: httpx2.Client, stream: bool) -> None:
    """The name that was asked for and the deployment that answered, side by side."""
    calls = value(http, f"{DURATION}_count", error_type="", **ANSWERED)
    tokens = value(http, "gen_ai_client_token_usage_count", gen_ai_token_type="output", **ANSWERED)
    tried = value(http, "hanlin_attempts_total", deployment="fake", fault="")

    assert ask(http, stream=stream).status_code == 200

    grows(http, calls, f"{DURATION}_count", error_type="", **ANSWERED)
    grows(http, tokens, "gen_ai_client_token_usage_count", gen_ai_token_type="output", **ANSWERED)
    grows(http, tried, "hanlin_attempts_total", deployment="fake", fault="")
    assert value(http, "gen_ai_server_time_to_first_token_seconds_count", **ANSWERED) > 0


def test_a_name_that_a_caller_invented_is_counted_as_other(http: httpx2.Client) -> None:
    """Otherwise every typing error would be a series for ever."""
    labels = {"gen_ai_request_model": "other", "error_type": "model_not_found"}
    before = value(http, f"{DURATION}_count", **labels)

    assert ask(http, model="no-such-model").status_code == 404

    grows(http, before, f"{DURATION}_count", **labels)
    assert "no-such-model" not in http.get("/metrics").text


def test_a_refused_key_is_counted(http: httpx2.Client) -> None:
    """Somebody who tries keys shows up here first."""
    before = value(http, f"{DURATION}_count", error_type="invalid_api_key")

    assert ask(http, {"authorization": "Bearer sk-wrong"}).status_code == 401

    grows(http, before, f"{DURATION}_count", error_type="invalid_api_key")


def test_a_deployment_shows_its_state_and_places(http: httpx2.Client) -> None:
    """What an alert and an autoscaler look at."""
    assert value(http, "hanlin_deployment_state", deployment="fake", hanlin_deployment_state="ready") == 1
    assert value(http, "hanlin_deployment_slots", deployment="fake") == 64
    assert value(http, "hanlin_deployment_calls_running", deployment="fake") == 0


# --- calls of every kind ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bill(service: Service) -> dict[str, int]:
    """Make calls of every kind, wait until they are counted, and return the tokens of those that were answered."""
    with httpx2.Client(base_url=service.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http:
        before = value(http, f"{DURATION}_count", gen_ai_operation_name="chat")
        answered = [ask(http, model="qwen-long") for _ in range(3)] + [ask(http, model="qwen-max")]
        streamed = ask(http, model="qwen-long", stream=True)
        failed = ask(http, model="qwen-turbo")
        refused = ask(http, {"authorization": "Bearer sk-planted-for-nobody"})
        unknown = ask(http, model="planted-name")
        with pytest.raises(httpx2.ReadTimeout):
            http.post(CHAT, json={"model": "qwen-long", "messages": WAIT}, timeout=0.2)
        wait_until(
            lambda: value(http, f"{DURATION}_count", gen_ai_operation_name="chat") == before + 9,
            "9 calls to be counted",
        )
    responses = [*answered, streamed, failed, refused, unknown]
    assert [response.status_code for response in responses] == [200] * 5 + [500, 401, 404]
    usages = [response.json()["usage"] for response in answered]
    return {"prompt": sum(u["prompt_tokens"] for u in usages), "output": sum(u["completion_tokens"] for u in usages)}


WAIT = [{"role": "user", "content": f"wait {PROMPT}"}]
LONG = {**ANSWERED, "gen_ai_request_model": "qwen-long"}
NOBODY = {**ANSWERED, "gen_ai_response_model": ""}

KINDS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "answered": (4, {**LONG, "error_type": ""}),
    "hung up": (1, {"gen_ai_request_model": "qwen-long", "error_type": "499"}),
    "failed over": (1, {**ANSWERED, "gen_ai_request_model": "qwen-max", "error_type": ""}),
    "failed": (1, {"gen_ai_request_model": "qwen-turbo", "error_type": "internal_error"}),
    "unknown": (1, {"gen_ai_request_model": "other", "error_type": "model_not_found"}),
    "without a key": (1, {"gen_ai_request_model": "", "error_type": "invalid_api_key"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_call_is_counted_as_what_it_was(http: httpx2.Client, bill: dict[str, int], kind: str) -> None:
    """An alert on errors is worth what their labels are worth."""
    count, labels = KINDS[kind]

    found, _ = summed(http, f"{DURATION}_count", **labels)

    assert found >= count if kind in ("unknown", "without a key") else found == count  # other tests have made some


def test_attempts_are_counted_by_deployment_and_fault(http: httpx2.Client, bill: dict[str, int]) -> None:
    """A caller who noticed nothing is no reason for the operator to notice nothing."""
    assert value(http, "hanlin_attempts_total", deployment="sick", fault="failed") == 3  # one passed on, two in vain
    assert value(http, "hanlin_attempts_total", deployment="sick", fault="") == 0

    ask(http, model="qwen-turbo")  # it may have rested enough by now, and rests again

    assert value(http, "hanlin_deployment_state", deployment="sick", hanlin_deployment_state="ready") == 0


def test_tokens_add_up_to_the_callers_bills(http: httpx2.Client, bill: dict[str, int]) -> None:
    """What a dashboard says of tokens must be what was billed; a stream counts though its caller asked for no usage."""
    for kind, billed in (("input", bill["prompt"]), ("output", bill["output"])):
        long, _ = summed(http, "gen_ai_client_token_usage_sum", gen_ai_token_type=kind, **LONG)
        over, _ = summed(http, "gen_ai_client_token_usage_sum", gen_ai_token_type=kind, gen_ai_request_model="qwen-max")

        assert long + over == billed * 5 / 4  # the stream said the same as the other four


def test_everything_that_the_documentation_names_is_on_the_page(http: httpx2.Client, bill: dict[str, int]) -> None:
    """And nothing of ours is on it that is not documented."""
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = page.partition("| Metric | What |")[2].partition("\n\n")[0].splitlines()[2:]
    documented = {name.removesuffix("_total") for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}

    on_it = {family.name for family in of_text(http.get("/metrics").text)}

    assert len(documented) > 10
    assert documented <= on_it
    assert {name for name in on_it if name.startswith(("gen_ai", "hanlin"))} <= documented


def test_nothing_private_is_on_the_page(http: httpx2.Client, service: Service, bill: dict[str, int]) -> None:
    """Nor in the log, at the level that is usual."""
    page, log = http.get("/metrics").text, service.output()

    assert "planted" not in page
    assert not any(secret in log for secret in (KEY, UPSTREAM_KEY, PROMPT, ANSWER, "sk-planted"))


# --- timings ---------------------------------------------------------------------------------------------------------


def durations(response: httpx2.Response) -> dict[str, float]:
    """Return the phases of `server-timing` in milliseconds."""
    found = re.findall(r"(\w+);dur=([\d.]+)", response.headers["server-timing"])
    return {phase: float(text) for phase, text in found}


def test_a_caller_who_asks_gets_the_time_of_every_phase(http: httpx2.Client) -> None:
    """Slow is a complaint; slow in the queue, or before the first token, is a diagnosis."""
    response = ask(http, TIMINGS)

    phases = durations(response)
    assert {"body", "key", "plan", "queue", "first"} <= set(phases)
    assert phases["first"] >= 40  # the engine takes 50 by its script
    assert sum(phases.values()) <= response.elapsed.total_seconds() * 1000


def test_a_stream_says_what_is_known_at_its_first_byte(http: httpx2.Client) -> None:
    """Headers leave before the rest has happened."""
    phases = durations(ask(http, TIMINGS, stream=True))

    assert {"body", "key", "plan", "queue", "first"} == set(phases)


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_else_is_told(http: httpx2.Client, stream: bool) -> None:
    """How busy the service is concerns those who look into it."""
    assert "server-timing" not in ask(http, stream=stream).headers


# --- traces ----------------------------------------------------------------------------------------------------------


def test_a_call_appears_in_its_callers_trace(http: httpx2.Client, collector: Collector) -> None:
    """From the program's span down to the attempt that answered, and without a word of what was said."""
    response = ask(http, TRACEPARENT)

    def traced() -> list[Any]:
        return [span for span in collector.spans if span.trace_id.hex() == TRACE_ID]

    wait_until(lambda: any(span.name == "chat qwen-plus" for span in traced()), "the call's span")
    spans = {span.name: span for span in traced()}
    whole = spans["chat qwen-plus"]
    about = {one.key: one.value for one in whole.attributes}
    assert whole.parent_span_id.hex() == "b7ad6b7169203331"
    assert about["hanlin.request_id"].string_value == response.headers["x-request-id"]
    assert about["gen_ai.usage.output_tokens"].int_value == response.json()["usage"]["completion_tokens"]
    assert {"body", "key", "plan", "queue", "first token", "chat fake"} <= set(spans)
    assert all(span.parent_span_id == whole.span_id for name, span in spans.items() if span is not whole)
    sent = b"".join(collector.bodies)
    assert not any(planted.encode() in sent for planted in (KEY, PROMPT, ANSWER))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_attempts_are_spans_of_their_call(http: httpx2.Client, collector: Collector, stream: bool) -> None:
    """A slow call explains itself: who was asked first, how long that took, and what came of it."""
    trace_id = ("a" if stream else "b") * 32
    ask(http, {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}, model="qwen-flash", stream=stream)

    def traced() -> dict[str, Any]:
        return {span.name: span for span in collector.spans if span.trace_id.hex() == trace_id}

    wait_until(lambda: {"chat qwen-flash", "chat ill", "chat fake"} <= traced().keys(), "the spans")
    spans = traced()
    failed, answered = spans["chat ill"], spans["chat fake"]
    assert failed.parent_span_id == answered.parent_span_id == spans["chat qwen-flash"].span_id
    assert {one.key: one.value.string_value for one in failed.attributes}["error.type"] == "failed"
    assert "error.type" not in {one.key for one in answered.attributes}
    assert failed.start_time_unix_nano <= failed.end_time_unix_nano <= answered.end_time_unix_nano
