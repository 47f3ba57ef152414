"""Metrics of several processes on one page."""

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hanlin.http.gathering import packed, page_of_all
from hanlin.http.metrics import Metrics


def counted(calls: int) -> bytes:
    """Return what a process counts that had so many calls."""
    registry = CollectorRegistry()
    Counter("calls", "Calls.", ["model"], registry=registry).labels("qwen-plus").inc(calls)
    Gauge("open", "Open ones.", registry=registry).set(calls % 2)
    histogram = Histogram("took_seconds", "How long.", ["model"], registry=registry, buckets=(0.1, 1.0))
    for _ in range(calls):
        histogram.labels("qwen-plus").observe(0.5)
    return packed(registry)


def test_every_sample_names_who_counted_it_and_sums_are_true() -> None:
    """A page that showed one process of four would be wrong by a factor that nobody knows."""
    page, content_type = page_of_all({"1": counted(3), "2": counted(4), "main": counted(0)})

    families = {family.name: family for family in text_string_to_metric_families(page.decode())}
    totals = {
        sample.labels["worker"]: sample.value for sample in families["calls"].samples if sample.name == "calls_total"
    }
    assert totals == {"1": 3, "2": 4, "main": 0}
    buckets = [
        (sample.labels["worker"], sample.labels["le"], sample.value)
        for sample in families["took_seconds"].samples
        if sample.name == "took_seconds_bucket"
    ]
    assert ("2", "1.0", 4) in buckets
    assert page.count(b"# TYPE took_seconds histogram") == 1
    assert content_type.startswith("text/plain")


def test_a_process_that_does_not_answer_is_missing_and_said_to_be() -> None:
    """Its samples would be old, and nobody could tell."""
    page, _ = page_of_all({"1": counted(3), "2": None})

    (up,) = [one for one in text_string_to_metric_families(page.decode()) if one.name == "hanlin_worker_up"]
    assert {sample.labels["worker"]: sample.value for sample in up.samples} == {"1": 1, "2": 0}
    assert b'worker="2"} 3' not in page


def test_it_is_strict_openmetrics_where_that_is_asked_for() -> None:
    """What our own metrics are made of: counters, gauges, histograms, an info and sets of states."""
    own = packed(Metrics(lambda _: True).registry)

    page, content_type = page_of_all({"1": own, "main": own}, "application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family.type for family in read_openmetrics(page.decode())}  # type: ignore[no-untyped-call]
    assert families["hanlin_build"] == "info"
    assert families["gen_ai_server_request_duration_seconds"] == "histogram"
    assert msgspec.msgpack.decode(own)
