"""Traces of finished calls for whoever runs a collector: OpenTelemetry spans, sent by OTLP over HTTP in the background.

Made from `CallRecord` alone, so that no prompt, answer or key can be in them. Names and attributes are those of
OpenTelemetry's conventions for generative AI (github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/
gen-ai-spans.md, status Development, read 2026-11-26); what is ours is called `hanlin.…`.

The variables are OpenTelemetry's own: this module reads where to send, its libraries read the rest (headers,
certificates, sampling, the size of the queue) from the process's environment.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from hanlin import __version__
from hanlin.errors import StartupError
from hanlin.service.records import Attempt, CallRecord
from hanlin.words import say

if TYPE_CHECKING:  # an extra (`hanlin[otel]`), and slow to import: only where traces are wanted
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OpenSpan

log = logging.getLogger("hanlin.traces")

PROVIDER = "hanlin"

_PHASES = {"first": "first token", "end": "answer"}
"""Spans that are not called like their phase."""

_MODEL_CHARACTERS = 128
_COMPLAINT_EVERY_S = 60.0

Value = str | bool | int | float | Sequence[str]


class Span(msgspec.Struct, frozen=True):
    """A stretch of a call. Times are nanoseconds since 1970; `failed`: it ended with an error of the service."""

    name: str
    kind: Literal["server", "internal", "client"]
    began_ns: int
    ended_ns: int
    attributes: dict[str, Value] = {}
    failed: bool = False


def call_span(record: CallRecord) -> Span:
    """Return the span of the whole call."""
    model = record.model[:_MODEL_CHARACTERS]
    error = record.code or (str(record.status) if record.status >= 400 else "")
    first_s = record.phases_s.get("first")
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.model": record.deployment,
        "gen_ai.response.finish_reasons": record.finish_reasons,
        "gen_ai.usage.input_tokens": record.usage.prompt,
        "gen_ai.usage.cache_read.input_tokens": record.usage.cached,
        "gen_ai.usage.output_tokens": record.usage.completion,
        "gen_ai.usage.reasoning.output_tokens": record.usage.reasoning,
        "error.type": error,
        "http.response.status_code": record.status,
        "hanlin.request_id": record.request_id,
        "hanlin.served": str(record.served),
        "hanlin.fingerprint": record.fingerprint,
    }
    if record.stream and first_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = first_s
    return Span(
        f"{record.operation} {model}".rstrip(),
        "server",
        _ns(record, 0.0),
        _ns(record, _end_s(record)),
        {name: value for name, value in attributes.items() if value or value is False},
        # A caller's mistake, or a caller who left, is no failure of a server; one after the status has left is.
        record.status >= 500 or (record.status < 400 and bool(error)),
    )


def parts(record: CallRecord) -> list[Span]:
    """Return what a call consists of: its phases one after the other, and its attempts, which lie within them."""
    spans = []
    before_s = 0.0
    for phase, end_s in record.phases_s.items():
        name = _PHASES.get(phase, phase)
        spans.append(Span(name, "internal", _ns(record, before_s), _ns(record, end_s)))
        before_s = end_s
    return [*spans, *(_attempt_span(record, attempt) for attempt in record.attempts)]


def _attempt_span(record: CallRecord, attempt: Attempt) -> Span:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": record.operation,
        "gen_ai.provider.name": attempt.deployment,
        "hanlin.continued": attempt.continued,
    }
    if attempt.fault:
        attributes["error.type"] = attempt.fault
    began_ns, ended_ns = _ns(record, attempt.began_s), _ns(record, attempt.ended_s)
    name = f"{record.operation} {attempt.deployment}"
    return Span(name, "client", began_ns, ended_ns, attributes, bool(attempt.fault))


def _end_s(record: CallRecord) -> float:
    return max((*record.phases_s.values(), *(attempt.ended_s for attempt in record.attempts)), default=0.0)


def _ns(record: CallRecord, since_s: float) -> int:
    return int((record.began_unix_s + since_s) * 1e9)


class Tracer:
    """Turns records into spans and hands them to a bounded queue, from which a thread sends them."""

    def __init__(self, provider: "TracerProvider", complaints: "_Complaints | None" = None) -> None:
        from opentelemetry import trace  # not at the top: see there
        from opentelemetry.context import Context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._complaints = complaints
        self._tracer = provider.get_tracer("hanlin", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._nothing = Context()
        self._within = trace.set_span_in_context
        self._failed = trace.Status(trace.StatusCode.ERROR)
        self._kinds = {kind.name.lower(): kind for kind in trace.SpanKind}

    def record(self, record: CallRecord, traceparent: str | None = None) -> None:
        """Queue a finished call's spans, within the trace of `traceparent` where that is valid.

        Never waits: what the queue has no room for is dropped. A caller who decided against sampling is heeded.
        """
        around = self._extract({"traceparent": traceparent}, self._nothing) if traceparent else self._nothing
        whole = call_span(record)
        span = self._begin(whole, around)
        if span.is_recording():
            within = self._within(span, self._nothing)
            for part in parts(record):
                self._end(self._begin(part, within), part)
        self._end(span, whole)

    def _begin(self, span: Span, context: "Context") -> "OpenSpan":
        kind = self._kinds[span.kind]
        return self._tracer.start_span(span.name, context, kind, span.attributes, start_time=span.began_ns)

    def _end(self, open_span: "OpenSpan", span: Span) -> None:
        if span.failed:
            open_span.set_status(self._failed)
        open_span.end(span.ended_ns)

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for at most so long. Blocks meanwhile."""
        # The library would wait half a minute for a collector that does not answer.
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(timeout_s)
        if self._complaints is not None:
            self._complaints.leave()


def make_tracer(environment: Mapping[str, str] = os.environ) -> Tracer | None:
    """Return a tracer when the environment names a collector, else None. A missing extra is said in one line.

    Raises StartupError when a variable of OpenTelemetry's has a value that its library refuses.
    """
    endpoint = _endpoint(environment)
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # not at the top: see there
    except ImportError:
        log.warning(
            say(
                "no traces are sent to OTEL_EXPORTER_OTLP_ENDPOINT: run `pip install 'hanlin[otel]'` first",
                "未向 OTEL_EXPORTER_OTLP_ENDPOINT 发送追踪数据：请先运行 `pip install 'hanlin[otel]'`",
            )
        )
        return None
    complaints = _Complaints()
    try:
        tracer = Tracer(_provider(OTLPSpanExporter(endpoint)), complaints)
    except ValueError as error:
        raise StartupError(say(f"a variable OTEL_… does not fit: {error}", f"OTEL_… 变量无效：{error}")) from error
    complaints.listen()
    return tracer


def _endpoint(environment: Mapping[str, str]) -> str | None:
    """Return the address that spans go to, as OpenTelemetry's specification of OTLP exporters has it."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    if address := environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return address
    if address := environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return f"{address.rstrip('/')}/v1/traces"
    return None


def _provider(exporter: "SpanExporter") -> "TracerProvider":
    from opentelemetry.sdk.resources import Resource  # not at the top: see there
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # the operator gave no name
        resource = resource.merge(Resource({"service.name": "hanlin"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class _Complaints(logging.Handler):
    """Passes on what OpenTelemetry's libraries complain about, one line a minute: a collector may be away for days."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._library = logging.getLogger("opentelemetry")
        self._next_s = 0.0

    def listen(self) -> None:
        self._library.addHandler(self)
        self._library.propagate = False

    def leave(self) -> None:
        self._library.removeHandler(self)
        self._library.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + _COMPLAINT_EVERY_S
        said = record.getMessage()
        log.warning(say(f"traces do not get through: {said}", f"追踪数据未能送达：{said}"))


__all__ = ["Span", "Tracer", "call_span", "make_tracer", "parts"]
