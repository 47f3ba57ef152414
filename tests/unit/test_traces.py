"""What a finished call looks like as a trace, and how traces leave without anybody waiting for them."""

import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hanlin.errors import StartupError
from hanlin.http.traces import Tracer, call_span, make_tracer, parts
from hanlin.service.records import Attempt, CallRecord
from hanlin.types import Served, Usage
from tests.collector import Collector, serving

CALLER = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{CALLER}-b7ad6b7169203331-01"
BEGAN_NS = 1_800_000_000_000_000_000

RECORD = CallRecord(
    operation="chat",
    request_id="0d9c5ae4",
    model="qwen-plus",
    deployment="small",
    fingerprint="small@0123456789ab",
    served=Served.STAND_IN,
    stream=True,
    began_unix_s=1_800_000_000.0,
    phases_s={"body": 0.25, "key": 0.5, "plan": 0.75, "queue": 1.0, "first": 2.0, "end": 4.0},
    status=200,
    code="",
    usage=Usage(prompt=20, completion=41, cached=16, reasoning=8),
    attempts=(Attempt("large", "stalled", 1.0, 1.5), Attempt("small", "", 1.5, 4.0)),
    finish_reasons=("stop",),
)


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def spans_of(record: CallRecord, traceparent: str | None = None) -> list[ReadableSpan]:
    """Return what a tracer makes of a record, the whole call first."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = Tracer(provider)
    tracer.record(record, traceparent)
    tracer.close(1.0)
    return list(reversed(kept.get_finished_spans()))


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with serving() as collector:
        yield collector


# --- what a call becomes ---------------------------------------------------------------------------------------------


def test_a_call_is_a_server_span_with_the_attributes_of_the_conventions() -> None:
    """Tools that know OpenTelemetry's conventions of generative AI show tokens, models and errors without more."""
    span = call_span(RECORD)

    assert (span.name, span.kind, span.failed) == ("chat qwen-plus", "server", False)
    assert (span.began_ns, span.ended_ns) == (BEGAN_NS, BEGAN_NS + 4_000_000_000)
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hanlin",
        "gen_ai.request.model": "qwen-plus",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "small",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 2.0,
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 16,
        "gen_ai.usage.output_tokens": 41,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "http.response.status_code": 200,
        "hanlin.request_id": "0d9c5ae4",
        "hanlin.served": "stand-in",
        "hanlin.fingerprint": "small@0123456789ab",
    }


def test_the_phases_of_a_call_follow_each_other_without_a_gap() -> None:
    """A gap would be time that nobody is responsible for."""
    phases = [part for part in parts(RECORD) if part.kind == "internal"]

    assert [phase.name for phase in phases] == ["body", "key", "plan", "queue", "first token", "answer"]
    assert phases[0].began_ns == BEGAN_NS
    assert [phase.ended_ns for phase in phases[:-1]] == [phase.began_ns for phase in phases[1:]]
    assert phases[-1].ended_ns == call_span(RECORD).ended_ns


def test_each_attempt_is_a_client_span_with_its_fault() -> None:
    """That is where it shows which deployment a call lost its time at."""
    large, small = (part for part in parts(RECORD) if part.kind == "client")

    assert (large.name, large.failed, large.attributes["error.type"]) == ("chat large", True, "stalled")
    assert (large.began_ns - BEGAN_NS, large.ended_ns - BEGAN_NS) == (1_000_000_000, 1_500_000_000)
    assert (small.name, small.failed) == ("chat small", False)
    assert "error.type" not in small.attributes


@pytest.mark.parametrize(
    ("status", "code", "error", "failed"),
    [
        (400, "invalid_parameter_error", "invalid_parameter_error", False),
        (499, "", "499", False),
        (503, "ModelUnavailable", "ModelUnavailable", True),
        (200, "RequestTimeOut", "RequestTimeOut", True),
    ],
)
def test_a_span_fails_where_the_service_did(status: int, code: str, error: str, failed: bool) -> None:
    """A caller's mistake is no failure of a server, as the conventions have it; an error within a stream is, whatever
    its status was."""
    span = call_span(replace(RECORD, status=status, code=code))

    assert (span.attributes["error.type"], span.failed) == (error, failed)


def test_a_call_that_was_refused_early_has_only_what_is_known() -> None:
    """An empty attribute would be a model without a name, and a deployment that nobody has."""
    refused = replace(
        RECORD, model="", deployment="", fingerprint="", phases_s={"body": 0.25}, status=401, code="invalid_api_key"
    )

    span = call_span(replace(refused, usage=Usage(), attempts=(), finish_reasons=(), stream=False))

    assert span.name == "chat"
    assert set(span.attributes) == {
        *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.stream", "error.type"),
        *("http.response.status_code", "hanlin.request_id", "hanlin.served"),
    }


def test_a_name_that_a_caller_invented_is_cut() -> None:
    """A request may be megabytes, and its model's name most of it."""
    assert len(call_span(replace(RECORD, model="x" * 1_000_000)).name) < 200


# --- whose trace it is -----------------------------------------------------------------------------------------------


def test_a_call_goes_on_with_its_callers_trace() -> None:
    """Then a program's trace shows where within Hanlin its time went."""
    whole, *within = spans_of(RECORD, TRACEPARENT)

    assert whole.parent is not None
    assert f"{whole.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {trace_of(span) for span in (whole, *within)} == {CALLER}
    assert whole.context is not None
    assert {span.parent.span_id if span.parent else 0 for span in within} == {whole.context.span_id}
    assert len(within) == 8


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", "x" * 10_000])
def test_a_call_without_a_valid_trace_begins_its_own(traceparent: str | None) -> None:
    """W3C Trace Context: a header that cannot be read is as good as none, and never an error of the caller's."""
    whole, *_ = spans_of(RECORD, traceparent)

    assert whole.parent is None
    assert trace_of(whole) != CALLER


def test_a_caller_that_does_not_sample_is_heeded() -> None:
    """Half of a trace is of no use, and somebody decided what may be collected."""
    assert spans_of(RECORD, TRACEPARENT[:-1] + "0") == []


# --- when it is wanted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_unless_a_collector_is_named(environment: dict[str, str]) -> None:
    """Nothing leaves this machine that nobody asked for."""
    assert make_tracer(environment) is None


def test_a_missing_extra_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Answering is the job; traces are not, and whoever wanted them must learn what to type."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    assert make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is None

    (line,) = caplog.messages
    assert "pip install 'hanlin[otel]'" in line


def test_a_variable_that_makes_no_sense_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any setting does: a service that silently traces otherwise than told is found out months later."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")

    with pytest.raises(StartupError, match=r"OTEL_.*max_queue_size"):
        make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})


# --- how it leaves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "path"), [("OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/")]
)
def test_spans_reach_the_collector(collector: Collector, variable: str, path: str) -> None:
    """OpenTelemetry's specification: one variable is a base, the other one an address as it is."""
    tracer = make_tracer({variable: f"{collector.url}/"})
    assert tracer is not None

    tracer.record(RECORD, TRACEPARENT)
    tracer.close(10.0)

    assert collector.paths == [path]
    assert len(collector.spans) == 9
    assert {span.trace_id.hex() for span in collector.spans} == {CALLER}
    assert b"service.name\x12\x08\n\x06hanlin" in collector.bodies[0]


def test_the_operator_names_the_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them on one collector must be told apart."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "studio-2")
    tracer = make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert tracer is not None

    tracer.record(RECORD)
    tracer.close(10.0)

    assert b"studio-2" in collector.bodies[0]


def test_a_collector_that_is_down_costs_a_line(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """It may be down for days: a line for every call would bury the rest of the log, and fill the disk."""
    collector.status = 400
    tracer = make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert tracer is not None

    for _ in range(600):
        tracer.record(RECORD)
    tracer.close(10.0)

    assert len(collector.bodies) > 1
    (line,) = caplog.messages
    assert line.startswith("traces do not get through: ")
    assert logging.getLogger("opentelemetry").propagate


def test_an_end_does_not_wait_for_a_collector_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop must be over when it was promised to be; the library would wait for half a minute."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with Collector() as silent:  # it accepts, and nobody serves
        tracer = make_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": silent.url})
        assert tracer is not None
        tracer.record(RECORD)

        tracer.close(0.05)

        (sending,) = (thread for thread in threading.enumerate() if thread.name == "traces-end")
    sending.join(30)
    assert not sending.is_alive()
