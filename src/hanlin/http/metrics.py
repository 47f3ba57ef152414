"""What this service did and how it stands, as Prometheus reads it: one page, made when somebody asks for it.

What is called `gen_ai_…` are the metrics of OpenTelemetry's conventions for generative AI, in Prometheus' spelling and
with the conventions' bucket boundaries (github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/
gen-ai-metrics.md, status Development, read 2026-11-26). Nothing here names a key, a caller, a prompt or an answer.

A call is counted in plain lists and dictionaries, because it is counted thousands of times a second and read every
few seconds: a histogram of the client library would cost more than the rest of a short call's bookkeeping.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from hanlin import __version__
from hanlin.metering.ledger import LedgerState
from hanlin.metering.reserving import Standing
from hanlin.service.records import CallRecord
from hanlin.service.retention import RetentionState

STATES = ("starting", "loading", "ready", "suspected", "resting", "probing", "draining", "exited", "other")
"""The words for how a deployment is; whatever else it is called counts as `other`."""

OTHER = "other"
OTHER_ERROR = "_OTHER"  # the conventions' word
PROVIDER = "hanlin"
"""`gen_ai.provider.name`, which the conventions require: the provider that programs talk to is this service."""

LABEL_SETS = 2000
"""How many sets of labels a metric may have; what comes on top of them is counted as `other`."""

_READ_AT_ONCE = 128

_KINDS = LABEL_SETS // 2 - 8  # kinds of calls: each is two sets of one metric, and what is `other` needs a few

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(4**power for power in range(14))
_QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_OPENMETRICS = "application/openmetrics-text"

Labels = tuple[str, ...]

Kind = tuple[str, str, str, str]
"""Calls that are counted together: their operation, model, deployment and error, "" without one."""


@dataclass(frozen=True)
class DeploymentState:
    """How a deployment is at this moment. `state` is one of STATES; `outstanding_tokens` are those under way."""

    name: str
    state: str
    running: int = 0
    waiting: int = 0
    slots: int = 0
    outstanding_tokens: int = 0
    restarts: int = 0
    connections: int = 0


_GAUGES = (
    ("calls_running", "Calls that a deployment is answering.", attrgetter("running")),
    ("calls_waiting", "Calls that wait for a place at a deployment.", attrgetter("waiting")),
    ("slots", "Calls that a deployment takes at once.", attrgetter("slots")),
    ("outstanding_tokens", "Tokens under way at a deployment.", attrgetter("outstanding_tokens")),
    ("connections_open", "Open connections to a deployment.", attrgetter("connections")),
)


LEDGER_STATES = ("well", "behind", "unwritten", "losing")

_LEDGER_GAUGES = (
    ("pending_rows", "Rows that are in the journal and not in the database yet.", attrgetter("pending_rows")),
    ("journal_bytes", "Size of the journal's files.", attrgetter("journal_bytes")),
    ("oldest_seconds", "Age of the oldest row that waits for a database that fails.", attrgetter("oldest_s")),
)
_LEDGER_COUNTERS = (
    ("stored_rows", "Rows that this process put into the database.", attrgetter("stored_rows")),
    ("lost_rows", "Rows that nothing could keep.", attrgetter("lost_rows")),
    ("refused_rows", "Rows that the database never took; they are in refused.rows.", attrgetter("refused_rows")),
)


_LIMITS_GAUGES = (
    ("subjects", "Keys, workspaces and models whose use is kept in this process.", attrgetter("subjects")),
    ("reservations", "Calls that hold something until they end.", attrgetter("reservations")),
    ("owed", "Settlements that the store has yet to hear.", attrgetter("owed")),
)
_LIMITS_COUNTERS = (
    ("outages", "Times that the store was away.", attrgetter("outages")),
    ("alone", "Decisions that were made without the store, because it was away.", attrgetter("alone")),
)


@dataclass(frozen=True)
class Accounts:
    """How what is kept of calls stands: the ledger's way, limits, retention, and how often the database failed."""

    ledger: LedgerState | None
    limits: Standing
    retention: RetentionState
    database_failures: int


class _Histogram:
    """How often values fell into each bucket, the last one being beyond all bounds, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, values: list[float]) -> None:
        """Count values, which are put into their order for it: then each bucket takes one look."""
        values.sort()
        self.total += sum(values)
        counts, below = self.counts, 0
        for bucket, bound in enumerate(self.bounds):
            if below == len(values):
                return
            upto = bisect_right(values, bound, below)
            counts[bucket] += upto - below
            below = upto
        counts[-1] += len(values) - below


class _Family:
    """A metric with its histograms, one for each set of labels."""

    def __init__(self, name: str, what: str, labels: Labels, bounds: Sequence[float], unit: str = "seconds") -> None:
        self._name, self._what, self._unit = name, what, unit
        self._labels = labels
        self._bounds = bounds
        self._texts = (*(floatToGoString(bound) for bound in bounds), "+Inf")  # type: ignore[no-untyped-call]
        self._histograms: dict[Labels, _Histogram] = {}

    def at(self, labels: Labels) -> _Histogram:
        """Return the histogram of these labels. The caller sees to it that there are never too many."""
        return self._histograms.setdefault(labels, _Histogram(self._bounds))

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._what, labels=self._labels, unit=self._unit)
        # Copies: the page may be made in a thread, while calls go on being counted.
        for labels, histogram in list(self._histograms.items()):
            counts = list(histogram.counts)
            if any(counts):
                family.add_metric(labels, list(zip(self._texts, _running(counts), strict=True)), histogram.total)
        return family


def _running(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total


class _Series:
    """Where one kind of call is counted: found once, so that later calls of this kind cost a single look-up."""

    __slots__ = ("duration", "first", "input", "output", "per_token")

    def __init__(
        self, duration: _Histogram, first: _Histogram, per_token: _Histogram, input: _Histogram, output: _Histogram
    ) -> None:
        self.duration = duration
        self.first = first
        self.per_token = per_token
        self.input = input
        self.output = output


class Metrics:
    """Counts finished calls, and makes the page. One object a process, with a registry of its own.

    `known` says whether a name is one that this service answers to: only such names become labels. `deployments` and
    `calls_open` are asked whenever the page is made.
    """

    def __init__(
        self,
        known: Callable[[str], bool],
        deployments: Callable[[], Sequence[DeploymentState]] = tuple,
        calls_open: Callable[[], int] = int,
        accounts: Callable[[], Accounts | None] = lambda: None,
    ) -> None:
        self._known = known
        self._deployments = deployments
        self._calls_open = calls_open
        self._accounts = accounts
        self._unread: list[CallRecord] = []
        self._series: dict[Kind, _Series] = {}
        self._queues: dict[str, _Histogram] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        call = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
        self._duration = _Family(
            "gen_ai_server_request_duration", "Time from a call's arrival to its end.", (*call, "error_type"), _SECONDS
        )
        self._first = _Family(
            "gen_ai_server_time_to_first_token", "Time to the first token of answered calls.", call, _FIRST_SECONDS
        )
        self._per_token = _Family(
            "gen_ai_server_time_per_output_token", "Time per output token after the first.", call, _TOKEN_SECONDS
        )
        self._tokens = _Family(
            "gen_ai_client_token_usage", "Tokens of a call.", (*call, "gen_ai_token_type"), _TOKENS, unit=""
        )
        self._queue = _Family("hanlin_queue", "Time that a call waited for a place.", ("deployment",), _QUEUE_SECONDS)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def note(self, record: CallRecord) -> None:
        """Take note of a call that is over. It is counted with others: one alone would be twice as dear."""
        self._unread.append(record)
        if len(self._unread) >= _READ_AT_ONCE:
            self.read()

    def read(self) -> None:
        """Count the calls that were noted."""
        unread, self._unread = self._unread, []
        kinds: dict[Kind, list[CallRecord]] = {}
        for record in unread:
            error = record.code or (str(record.status) if record.status >= 400 else "")
            kind = (record.operation, record.model, record.deployment, error)
            if kind in kinds:
                kinds[kind].append(record)
            else:
                kinds[kind] = [record]
        for kind, records in kinds.items():
            self._count(kind, records)

    def _count(self, kind: Kind, records: Sequence[CallRecord]) -> None:
        """Count calls of one kind that are over."""
        series = self._series.get(kind) or self._find(*kind)
        all_phases = [record.phases_s for record in records]
        ends_s = [phases["end"] if "end" in phases else max(phases.values(), default=0.0) for phases in all_phases]
        usages = [record.usage for record in records]
        if not kind[-1]:
            series.first.add([phases["first"] for phases in all_phases if "first" in phases])
            series.per_token.add(
                [
                    (end_s - phases["first"]) / (usage.completion - 1)
                    for end_s, phases, usage in zip(ends_s, all_phases, usages, strict=True)
                    if usage.completion > 1 and "first" in phases
                ]
            )
        series.duration.add(ends_s)
        series.input.add([usage.prompt for usage in usages if usage.prompt])
        series.output.add([usage.completion for usage in usages if usage.completion])
        if waits_s := [phases["queue"] - phases.get("plan", 0.0) for phases in all_phases if "queue" in phases]:
            (self._queues.get(kind[2]) or self._find_queue(kind[2])).add(waits_s)
        attempts = Counter([(attempt.deployment, attempt.fault) for record in records for attempt in record.attempts])
        for tried, count in attempts.items():
            self._attempts[tried if tried in self._attempts else self._find_tried(tried)] += count

    def _find(self, operation: str, model: str, deployment: str, error: str) -> _Series:
        """Return where a kind of call is counted that was not met yet, or whose name is the caller's invention."""
        model = model if not model or self._known(model) else OTHER
        key = (operation, model, deployment, error)
        if key not in self._series and len(self._series) >= _KINDS:
            key = (operation, OTHER, OTHER, OTHER_ERROR if error else "")
        if key not in self._series:
            call = (key[0], PROVIDER, *key[1:3])
            self._series[key] = _Series(
                self._duration.at((*call, key[3])),
                self._first.at(call),
                self._per_token.at(call),
                self._tokens.at((*call, "input")),
                self._tokens.at((*call, "output")),
            )
        return self._series[key]

    def _find_queue(self, deployment: str) -> _Histogram:
        name = deployment if len(self._queues) < LABEL_SETS - 1 else OTHER
        return self._queues.setdefault(name, self._queue.at((name,)))

    def _find_tried(self, tried: tuple[str, str]) -> tuple[str, str]:
        found = tried if len(self._attempts) < LABEL_SETS - 1 else (OTHER, OTHER_ERROR)
        self._attempts.setdefault(found, 0)
        return found

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """Return the page and its content type: OpenMetrics where the Accept header names it, else plain text.

        It may be made in another thread; with hundreds of kinds of calls it takes tens of milliseconds.
        """
        encode, content_type = choose_encoder(openmetrics_if_named(accept))
        return encode(self.registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of ours as the client library wants them."""
        yield InfoMetricFamily("hanlin_build", "What is running.", {"version": __version__})
        for family in (self._duration, self._first, self._per_token, self._tokens, self._queue):
            yield family.collect()
        attempts = CounterMetricFamily(
            "hanlin_attempts", "Tries of calls; without a fault it answered.", labels=("deployment", "fault")
        )
        for tried, count in list(self._attempts.items()):
            attempts.add_metric(tried, count)
        yield attempts
        yield GaugeMetricFamily("hanlin_calls_open", "Requests that are open.", self._calls_open())
        if (accounts := self._accounts()) is not None:
            yield from _of_accounts(accounts)
        yield from _of_deployments(self._deployments())


def openmetrics_if_named(accept: str) -> str:
    """Return what the library is to make of an Accept header: it would read versions out of it, and fail at some."""
    return _OPENMETRICS if _OPENMETRICS in accept else ""


def _of_accounts(accounts: Accounts) -> Iterator[Metric]:
    if accounts.ledger is not None:
        yield from _of_ledger(accounts.ledger)
    yield from _of_limits(accounts.limits)
    retention = accounts.retention
    yield CounterMetricFamily("hanlin_ledger_purged_rows", "Rows deleted because of their age.", retention.purged_rows)
    yield CounterMetricFamily("hanlin_ledger_purge_failures", "Purges that the database broke.", retention.failures)
    yield GaugeMetricFamily("hanlin_ledger_keep_days", "Days that rows are kept; 0: for ever.", retention.keep_days)
    yield GaugeMetricFamily(
        "hanlin_ledger_purged_timestamp_seconds", "When the last purge was over; 0: none was.", retention.done_at or 0.0
    )
    yield CounterMetricFamily(
        "hanlin_database_failures", "Times that the database did not do what it was asked.", accounts.database_failures
    )


def _of_limits(limits: Standing) -> Iterator[Metric]:
    away_s = 0.0 if limits.away_since is None else max(time.time() - limits.away_since, 0.001)
    yield GaugeMetricFamily(
        "hanlin_limits_away_seconds", "How long the store of limits has been away; 0: it is here.", away_s
    )
    yield InfoMetricFamily("hanlin_limits", "Where limits are kept.", {"store": limits.kind})
    for name, what, value in _LIMITS_GAUGES:
        yield GaugeMetricFamily(f"hanlin_limits_{name}", what, value(limits))
    for name, what, value in _LIMITS_COUNTERS:
        yield CounterMetricFamily(f"hanlin_limits_{name}", what, value(limits))


def _of_ledger(ledger: LedgerState) -> Iterator[Metric]:
    standing = StateSetMetricFamily("hanlin_ledger_state", "How the way of rows into the database is.")
    standing.add_metric((), {each: each == ledger.state for each in LEDGER_STATES})
    yield standing
    for name, what, value in _LEDGER_GAUGES:
        yield GaugeMetricFamily(f"hanlin_ledger_{name}", what, value(ledger))
    for name, what, value in _LEDGER_COUNTERS:
        yield CounterMetricFamily(f"hanlin_ledger_{name}", what, value(ledger))


def _of_deployments(states: Sequence[DeploymentState]) -> Iterator[Metric]:
    standing = StateSetMetricFamily("hanlin_deployment_state", "How a deployment is.", labels=("deployment",))
    restarts = CounterMetricFamily(
        "hanlin_deployment_restarts", "Times that a deployment's engine was started again.", labels=("deployment",)
    )
    for state in states:
        word = state.state if state.state in STATES else OTHER
        standing.add_metric((state.name,), {each: each == word for each in STATES})
        restarts.add_metric((state.name,), state.restarts)
    yield standing
    yield restarts
    for name, what, value in _GAUGES:
        gauge = GaugeMetricFamily(f"hanlin_deployment_{name}", what, labels=("deployment",))
        for state in states:
            gauge.add_metric((state.name,), value(state))
        yield gauge


__all__ = ["LABEL_SETS", "STATES", "Accounts", "DeploymentState", "Metrics", "openmetrics_if_named"]
