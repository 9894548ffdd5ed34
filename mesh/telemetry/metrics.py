"""The requests as Istio's standard metrics, for Prometheus to scrape.

Names, labels and histogram bounds as in https://istio.io/latest/docs/reference/config/metrics/, so that
Istio's Grafana dashboards work on what telemetry saw. Counts only rise; labels that were not seen for an
hour are dropped, as Mixer's Prometheus adapter did (its `metricsExpirationPolicy`).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mesh.telemetry.attributes import Labels
from mesh.telemetry.directory import UNKNOWN

EXPIRE_S = 3600.0
MOST_LABELS = 20_000

# Upper bounds of the buckets of all of Istio's histograms (milliseconds or bytes).
BOUNDS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6)

# Istio's "canonical" names: of a service its app label, of a revision its version label.
_CANONICAL = {
    "source_canonical_service": "source_app",
    "source_canonical_revision": "source_version",
    "destination_canonical_service": "destination_app",
    "destination_canonical_revision": "destination_version",
}
LABEL_NAMES = (*Labels._fields, *_CANONICAL)


class Histogram:
    """Counts by bucket, not cumulative, and the sum of all values."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus wants them: how many were at most as large as each bound."""
        buckets = []
        total = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class Counts:
    """Everything counted for one set of labels."""

    __slots__ = ("duration_ms", "request_bytes", "requests", "response_bytes", "seen")

    def __init__(self) -> None:
        self.requests = 0
        self.seen = 0.0
        self.duration_ms, self.request_bytes, self.response_bytes = Histogram(), Histogram(), Histogram()


class Metrics(Collector):
    """Collects requests; `exposition` writes them as Prometheus's text format."""

    def __init__(self) -> None:
        self._counts: dict[Labels, Counts] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def add(
        self, labels: Labels, duration_ms: float, request_bytes: int, response_bytes: int, now: float
    ) -> None:
        """Count one request, seen at `now` (seconds)."""
        counts = self._counts.get(labels)
        if counts is None:
            if len(self._counts) >= MOST_LABELS:
                labels = Labels(reporter=labels.reporter)
            counts = self._counts.setdefault(labels, Counts())
        counts.requests += 1
        counts.seen = now
        counts.duration_ms.observe(duration_ms)
        counts.request_bytes.observe(request_bytes)
        counts.response_bytes.observe(response_bytes)

    def exposition(self, now: float) -> bytes:
        """All metrics as text; what was not seen for an hour is dropped first."""
        for labels in [labels for labels, counts in self._counts.items() if counts.seen < now - EXPIRE_S]:
            del self._counts[labels]
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: metrics appear with the first request."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client asks for them."""
        total = CounterMetricFamily("istio_requests_total", "Requests.", labels=LABEL_NAMES)
        duration, request, response = (
            HistogramMetricFamily(name, text, labels=LABEL_NAMES)
            for name, text in (
                ("istio_request_duration_milliseconds", "Time from the first byte in to the last byte out."),
                ("istio_request_bytes", "Size of requests, headers and body."),
                ("istio_response_bytes", "Size of responses, headers and body."),
            )
        )
        for labels, counts in self._counts.items():
            values = _values(labels)
            total.add_metric(values, counts.requests)
            duration.add_metric(values, counts.duration_ms.cumulative(), counts.duration_ms.sum)
            request.add_metric(values, counts.request_bytes.cumulative(), counts.request_bytes.sum)
            response.add_metric(values, counts.response_bytes.cumulative(), counts.response_bytes.sum)
        yield from (total, duration, request, response)


def _values(labels: Labels) -> list[str]:
    canonical = (getattr(labels, source) for source in _CANONICAL.values())
    # Istio calls the revision of a workload without a version "latest".
    return [
        *labels,
        *(
            "latest" if value == UNKNOWN and name.endswith("revision") else value
            for name, value in zip(_CANONICAL, canonical, strict=True)
        ),
    ]
