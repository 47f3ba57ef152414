"""What is counted of calls, under which names, and what keeps the page small."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_openmetrics
from prometheus_client.parser import text_string_to_metric_families as of_text

from hanlin import __version__
from hanlin.http.metrics import LABEL_SETS, STATES, DeploymentState, Metrics
from hanlin.service.records import Attempt, CallRecord
from hanlin.types import Served, Usage

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

ANSWERED = CallRecord(
    operation="chat",
    request_id="0d9c5ae4",
    model="qwen-plus",
    deployment="small",
    fingerprint="small@0123456789ab",
    served=Served.STAND_IN,
    stream=True,
    began_unix_s=1_800_000_000.0,
    phases_s={"body": 0.01, "key": 0.02, "plan": 0.03, "queue": 0.23, "first": 0.5, "end": 2.5},
    status=200,
    code="",
    usage=Usage(prompt=20, completion=41),
    attempts=(Attempt("small", began_s=0.23, ended_s=2.5),),
    finish_reasons=("stop",),
)
FAILED = replace(ANSWERED, status=503, code="ModelUnavailable", usage=Usage())

CALL = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "hanlin",
    "gen_ai_request_model": "qwen-plus",
    "gen_ai_response_model": "small",
}
DURATION = "gen_ai_server_request_duration_seconds"
FIRST = "gen_ai_server_time_to_first_token_seconds"
PER_TOKEN = "gen_ai_server_time_per_output_token_seconds"
TOKENS = "gen_ai_client_token_usage"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics({"qwen-plus", "qwen-max"}.__contains__)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    metrics.read()
    return metrics.registry.get_sample_value(name, labels)


def families(metrics: Metrics, accept: str = "") -> dict[str, Metric]:
    """Read the page as a scraper does."""
    metrics.read()
    page, _type = metrics.page(accept)
    return {family.name: family for family in (of_openmetrics if accept else of_text)(page.decode())}


def sets_of(metrics: Metrics, name: str) -> list[dict[str, str]]:
    """Return the sets of labels of a metric, those of its buckets taken together."""
    return [sample.labels for sample in families(metrics)[name].samples if sample.name == f"{name}_count"]


# --- what a call counts ----------------------------------------------------------------------------------------------


def test_calls_that_are_counted_together_fall_where_each_would_alone(metrics: Metrics) -> None:
    """Hundreds are sorted at once: those on a bound, below all of them and beyond the last one included."""
    seconds = [0.001, 0.01, 0.011, 0.02, 0.5, 0.64, 81.92, 82.0, 500.0] * 40
    for each in seconds:
        metrics.note(replace(ANSWERED, phases_s={"end": each}))

    for bound in (0.01, 0.02, 0.64, 81.92):
        labels = {**CALL, "error_type": "", "le": str(bound)}
        assert value(metrics, f"{DURATION}_bucket", **labels) == sum(each <= bound for each in seconds)
    assert value(metrics, f"{DURATION}_count", **CALL, error_type="") == len(seconds)
    assert value(metrics, f"{DURATION}_sum", **CALL, error_type="") == pytest.approx(sum(seconds))


def test_an_answered_call_is_counted_under_the_names_of_the_conventions(metrics: Metrics) -> None:
    """Dashboards that know OpenTelemetry's metrics of generative AI need no other names for us."""
    metrics.note(ANSWERED)

    assert value(metrics, f"{DURATION}_sum", error_type="", **CALL) == 2.5
    assert value(metrics, f"{FIRST}_sum", **CALL) == 0.5
    assert value(metrics, f"{PER_TOKEN}_sum", **CALL) == pytest.approx(0.05)
    assert value(metrics, f"{TOKENS}_sum", gen_ai_token_type="input", **CALL) == 20
    assert value(metrics, f"{TOKENS}_sum", gen_ai_token_type="output", **CALL) == 41


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        (DURATION, [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]),
        (FIRST, [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]),
        (PER_TOKEN, [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]),
        (TOKENS, [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]),
    ],
)
def test_the_buckets_are_those_of_the_conventions(metrics: Metrics, name: str, bounds: list[float]) -> None:
    """Histograms of several services are added up, and quantiles of unlike buckets cannot be compared."""
    metrics.note(ANSWERED)

    samples = [sample for sample in families(metrics)[name].samples if sample.name == f"{name}_bucket"]
    one = [
        float(sample.labels["le"]) for sample in samples if sample.labels.get("gen_ai_token_type") in (None, "input")
    ]
    assert one == [*bounds, float("inf")]


@pytest.mark.parametrize(("seconds", "bucket"), [(0.01, "0.01"), (0.010001, "0.02"), (2.56, "2.56"), (99.0, "+Inf")])
def test_a_value_on_a_bound_belongs_to_the_bucket_below_it(metrics: Metrics, seconds: float, bucket: str) -> None:
    """`le` means less or equal; counting otherwise would shift every quantile."""
    metrics.note(replace(ANSWERED, phases_s={"end": seconds}))

    counts = {
        sample.labels["le"]: sample.value
        for sample in families(metrics)[DURATION].samples
        if sample.name == f"{DURATION}_bucket"
    }
    assert next(le for le, count in counts.items() if count) == bucket
    assert counts["+Inf"] == 1


def test_the_queue_is_the_time_between_the_plan_and_a_place(metrics: Metrics) -> None:
    """It is what an operator adds a deployment for."""
    metrics.note(ANSWERED)

    assert value(metrics, "hanlin_queue_seconds_sum", deployment="small") == pytest.approx(0.2)


def test_a_failed_call_has_its_error_and_counts_as_no_answer(metrics: Metrics) -> None:
    """The conventions speak of successful responses: a refusal within a millisecond is not a fast answer."""
    metrics.note(FAILED)

    assert value(metrics, f"{DURATION}_count", error_type="ModelUnavailable", **CALL) == 1
    assert sets_of(metrics, FIRST) == []
    assert sets_of(metrics, TOKENS) == []


def test_an_error_without_a_code_is_named_by_its_status(metrics: Metrics) -> None:
    """A caller who hung up has none."""
    metrics.note(replace(ANSWERED, status=499))

    assert value(metrics, f"{DURATION}_count", error_type="499", **CALL) == 1


def test_a_call_that_was_refused_early_lasts_as_long_as_its_last_phase(metrics: Metrics) -> None:
    """Phases that were never reached are missing from a record."""
    metrics.note(replace(FAILED, phases_s={"body": 0.25}))
    metrics.note(replace(FAILED, phases_s={}))

    assert value(metrics, f"{DURATION}_sum", error_type="ModelUnavailable", **CALL) == 0.25
    assert value(metrics, f"{DURATION}_count", error_type="ModelUnavailable", **CALL) == 2


def test_a_single_token_has_no_time_between_tokens(metrics: Metrics) -> None:
    """The time after the first token belongs to the tokens that come after it; here there are none."""
    metrics.note(replace(ANSWERED, usage=Usage(prompt=20, completion=1)))

    assert value(metrics, f"{FIRST}_count", **CALL) == 1
    assert sets_of(metrics, PER_TOKEN) == []


def test_each_attempt_is_counted_with_its_fault(metrics: Metrics) -> None:
    """A call that was rescued looks well from outside; the deployment that failed it must be found all the same."""
    metrics.note(replace(ANSWERED, attempts=(Attempt("large", "stalled"), Attempt("small"))))
    metrics.note(ANSWERED)

    assert value(metrics, "hanlin_attempts_total", deployment="large", fault="stalled") == 1
    assert value(metrics, "hanlin_attempts_total", deployment="small", fault="") == 2


# --- how many series there can be ------------------------------------------------------------------------------------


def test_ten_thousand_invented_names_are_one_series(metrics: Metrics) -> None:
    """Whoever has a key can send any name; each one kept would be memory that nobody gets back."""
    metrics.note(ANSWERED)
    before = len(sets_of(metrics, DURATION))

    for number in range(10_000):
        metrics.note(replace(FAILED, model=f"invented-{number}", deployment="", code="model_not_found"))

    assert len(sets_of(metrics, DURATION)) == before + 1
    labels = {**CALL, "gen_ai_request_model": "other", "gen_ai_response_model": ""}
    assert value(metrics, f"{DURATION}_count", error_type="model_not_found", **labels) == 10_000


def test_a_call_without_a_model_is_not_somebodys_invention(metrics: Metrics) -> None:
    """A refused key is refused before the model is read."""
    metrics.note(replace(FAILED, model="", deployment="", code="invalid_api_key"))

    labels = {**CALL, "gen_ai_request_model": "", "gen_ai_response_model": ""}
    assert value(metrics, f"{DURATION}_count", error_type="invalid_api_key", **labels) == 1


def test_no_metric_has_more_series_than_its_bound(metrics: Metrics) -> None:
    """Codes, faults and deployments are few by intent; a mistake in one of them must not fill a disk elsewhere."""
    for number in range(LABEL_SETS + 500):
        name = f"deployment-{number}"
        metrics.note(replace(ANSWERED, deployment=name, attempts=(Attempt(name, f"fault-{number}"),)))

    page = families(metrics)  # once: it is as long as a page can be
    for family in (DURATION, FIRST, PER_TOKEN, TOKENS, "hanlin_queue_seconds"):
        assert 0 < sum(sample.name == f"{family}_count" for sample in page[family].samples) <= LABEL_SETS
    assert len(page["hanlin_attempts"].samples) <= LABEL_SETS
    assert value(metrics, "hanlin_attempts_total", deployment="other", fault="_OTHER") is not None
    total = sum(sample.value for sample in page[DURATION].samples if sample.name == f"{DURATION}_count")
    assert total == LABEL_SETS + 500


# --- what is read when the page is made ------------------------------------------------------------------------------


def test_deployments_are_read_when_the_page_is_made() -> None:
    """A gauge that is written at every change is wrong whenever one change is forgotten."""
    states = [DeploymentState("small", "ready", 1, 2, 4, 800, 3, 5)]
    metrics = Metrics({"qwen-plus"}.__contains__, lambda: states, lambda: 7)

    expected = {
        "calls_running": 1,
        "calls_waiting": 2,
        "slots": 4,
        "outstanding_tokens": 800,
        "restarts_total": 3,
        "connections_open": 5,
    }
    assert {name: value(metrics, f"hanlin_deployment_{name}", deployment="small") for name in expected} == expected
    assert value(metrics, "hanlin_calls_open") == 7

    states[:] = []
    assert value(metrics, "hanlin_deployment_slots", deployment="small") is None


@pytest.mark.parametrize(("word", "shown"), [("ready", "ready"), ("resting", "resting"), ("fetching, 12%", "other")])
def test_a_deployment_is_in_one_state_of_a_known_set(word: str, shown: str) -> None:
    """Alerts compare with words; sentences for people, which change with every percent, would be series without end."""
    metrics = Metrics(bool, lambda: [DeploymentState("small", word)])

    samples = families(metrics)["hanlin_deployment_state"].samples
    standing = {sample.labels["hanlin_deployment_state"]: sample.value for sample in samples}
    assert standing == {state: float(state == shown) for state in STATES}


def test_the_page_says_what_runs_and_what_it_takes(metrics: Metrics) -> None:
    """The first questions after an alert: which version, how much memory, since when."""
    page = families(metrics)

    assert page["hanlin_build_info"].samples[0].labels == {"version": __version__}
    assert page["process_resident_memory_bytes"].samples[0].value > 0
    assert {"process_start_time_seconds", "python_info", "python_gc_collections"} <= set(page)


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html,*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=mine", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_page_is_in_the_format_that_is_asked_for(metrics: Metrics, accept: str, content_type: str) -> None:
    """Browsers and old scrapers get text; a header that makes no sense is no reason to fail."""
    page, said = metrics.page(accept)

    assert said == content_type
    assert page.endswith(b"# EOF\n") is content_type.startswith("application/openmetrics-text")


def test_both_formats_can_be_read_and_say_the_same() -> None:
    """A page that one strict reader refuses is an outage of the monitoring."""
    metrics = Metrics({"qwen-plus"}.__contains__, lambda: [DeploymentState("small", "ready")])
    metrics.note(ANSWERED)
    metrics.note(FAILED)

    assert set(counted(metrics, "")) == set(counted(metrics, OPENMETRICS))


def counted(metrics: Metrics, accept: str) -> Iterator[tuple[Any, ...]]:
    """Yield every sample of ours as a scraper stores it."""
    for family in families(metrics, accept).values():
        for sample in family.samples:
            if sample.name.startswith(("gen_ai", "hanlin")):
                yield sample.name, tuple(sorted(sample.labels.items())), sample.value


def test_the_page_names_no_request() -> None:
    """Ids, fingerprints and keys have no place in a metric: one would be a series for every call."""
    metrics = Metrics({"qwen-plus"}.__contains__)
    metrics.note(ANSWERED)

    page, _type = metrics.page()

    assert ANSWERED.request_id.encode() not in page
    assert b"@0123456789ab" not in page
