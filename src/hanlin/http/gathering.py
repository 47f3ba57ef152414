"""One page of metrics for a service of several processes: what each counts, under a label `worker` of its own."""

from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hanlin.http.metrics import openmetrics_if_named

Pages = Mapping[str, bytes | None]
"""What processes count, packed, by the names of the processes; None where one did not answer."""


class Others(Protocol):
    """The processes of the service beside this one, which is called `here`."""

    here: str

    async def pages(self) -> Pages: ...


class _Family(msgspec.Struct, array_like=True):
    """A metric with its samples: their names, labels and values."""

    name: str
    documentation: str
    type: str
    unit: str
    samples: list[tuple[str, dict[str, str], float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Family]).decode


def packed(registry: CollectorRegistry) -> bytes:
    """Return everything that a process counts, to be sent to another one."""
    return _encode(
        [
            _Family(
                metric.name,
                metric.documentation,
                metric.type,
                metric.unit,
                [(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples],
            )
            for metric in registry.collect()
        ]
    )


def page_of_all(pages: Pages, accept: str = "") -> tuple[bytes, str]:
    """Return one page of them all and its content type, as `Metrics.page` does."""
    encode, content_type = choose_encoder(openmetrics_if_named(accept))
    return encode(_Together(pages)), content_type


class _Together(Collector):
    """The metrics of several processes as the client library wants them: each once, its samples told apart."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        heard = GaugeMetricFamily("hanlin_worker_up", "Whether a process is part of this page.", labels=("worker",))
        metrics: dict[str, Metric] = {}
        for worker, page in sorted(self._pages.items()):
            heard.add_metric((worker,), page is not None)
            for family in [] if page is None else _decode(page):
                metric = metrics.get(family.name)
                if metric is None:
                    metric = Metric(family.name, family.documentation, family.type, family.unit)
                    metrics[family.name] = metric
                for name, labels, value in family.samples:
                    metric.add_sample(name, {**labels, "worker": worker}, value)
        yield heard
        yield from metrics.values()
