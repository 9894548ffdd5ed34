"""Istio's standard metrics, counted by this proxy, in Prometheus' text format.

Names, labels and units: https://istio.io/latest/docs/reference/config/metrics/. Labels are resolved once for
each different combination; the path of a request adds a few numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mesh.proxy.peers import UNKNOWN, Claims, Workload

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

BOUNDS = (
    0.5,
    1,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1000,
    2500,
    5000,
    10000,
    30000,
    60000,
    300000,
    600000,
    1800000,
    3600000,
)
"""Upper bounds of the histograms' buckets, those of Istio's proxy; milliseconds or bytes."""

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts by bucket, and the sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(BOUNDS, value)] += 1
        self.sum += value


class Series:
    """The four metrics of one combination of labels."""

    __slots__ = ("duration", "labels", "request_bytes", "requests", "response_bytes")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.requests = 0
        self.duration = Histogram()
        self.request_bytes = Histogram()
        self.response_bytes = Histogram()


class Metrics:
    """All series of this proxy."""

    __slots__ = ("_by_labels", "_resolved", "claims", "identity", "me")

    _LIMIT = 8192

    def __init__(self, me: Workload, identity: Callable[[], str]) -> None:
        self.me = me
        self.identity = identity
        self.claims = Claims()
        self._by_labels: dict[Labels, Series] = {}
        self._resolved: dict[tuple[object, ...], Series] = {}

    def forget(self) -> None:
        """Configuration has changed: resolve labels anew (their counts stay)."""
        self._resolved.clear()

    def inbound(self, exchange: Exchange) -> None:
        """Count a request that came to this workload (`reporter="destination"`)."""
        conn = exchange.conn
        peer = conn.peer
        key = (
            exchange.cluster,
            exchange.peer_claim,
            None if peer is None else peer.uri,
            conn.tls,
            exchange.code,
            exchange.flags,
        )
        series = self._resolved.get(key)
        if series is None:
            series = self._resolve(key, self._inbound_labels(exchange))
        _add(series, exchange)

    def outbound(self, exchange: Exchange) -> None:
        """Count a request that this workload sent (`reporter="source"`)."""
        key = (exchange.cluster, exchange.endpoint, exchange.code, exchange.flags)
        series = self._resolved.get(key)
        if series is None:
            series = self._resolve(key, self._outbound_labels(exchange))
        _add(series, exchange)

    def _resolve(self, key: tuple[object, ...], labels: Labels) -> Series:
        series = self._by_labels.get(labels)
        if series is None:
            series = self._by_labels[labels] = Series(labels)
        if len(self._resolved) >= self._LIMIT:
            self._resolved.clear()
        self._resolved[key] = series
        return series

    def _inbound_labels(self, exchange: Exchange) -> Labels:
        claim, peer = exchange.peer_claim, exchange.conn.peer
        source = self.claims.workload(claim) if claim is not None else UNKNOWN
        mutual = peer is not None
        return _labels(
            exchange,
            reporter="destination",
            source=source,
            source_principal=peer.uri if peer is not None and peer.uri else "unknown",
            destination=self.me,
            destination_principal=self.identity() if mutual else "unknown",
            security="mutual_tls" if mutual else "none",
        )

    def _outbound_labels(self, exchange: Exchange) -> Labels:
        endpoint = exchange.endpoint
        known = endpoint.workload if endpoint is not None else None
        principal = endpoint.principal if endpoint is not None else ""
        return _labels(
            exchange,
            reporter="source",
            source=self.me,
            source_principal=self.identity() if principal else "unknown",
            destination=known or UNKNOWN,
            destination_principal=principal or "unknown",
            security="unknown",
        )

    def render(self) -> Iterator[str]:
        """Lines of the exposition format
        (https://prometheus.io/docs/instrumenting/exposition_formats/).
        """
        series = list(self._by_labels.values())
        yield "# HELP istio_requests_total Requests handled by this proxy."
        yield "# TYPE istio_requests_total counter"
        for one in series:
            yield f"istio_requests_total{{{_text(one.labels)}}} {one.requests}"
        for name, text, pick in _HISTOGRAMS:
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} histogram"
            for one in series:
                yield from _histogram(name, _text(one.labels), pick(one))


_HISTOGRAMS: tuple[tuple[str, str, Callable[[Series], Histogram]], ...] = (
    ("istio_request_duration_milliseconds", "Duration of requests.", lambda series: series.duration),
    ("istio_request_bytes", "Size of request bodies.", lambda series: series.request_bytes),
    ("istio_response_bytes", "Size of response bodies.", lambda series: series.response_bytes),
)


def _add(series: Series, exchange: Exchange) -> None:
    series.requests += 1
    series.duration.add(exchange.duration * 1000.0)
    sent = exchange.request_bytes
    if sent:
        series.request_bytes.add(sent)
    else:  # most requests have no body
        series.request_bytes.counts[0] += 1
    series.response_bytes.add(exchange.response_bytes)


def _labels(
    exchange: Exchange,
    *,
    reporter: str,
    source: Workload,
    source_principal: str,
    destination: Workload,
    destination_principal: str,
    security: str,
) -> Labels:
    """Istio's labels in Istio's order."""
    cluster = exchange.cluster
    host, name, namespace = cluster.service if cluster is not None else ("", "", "")
    if not host and reporter == "destination":
        name, namespace = destination.service, destination.namespace
        host = f"{name}.{namespace}.svc.cluster.local"
    return (
        ("reporter", reporter),
        ("source_workload", source.name),
        ("source_canonical_service", source.service),
        ("source_canonical_revision", source.revision),
        ("source_workload_namespace", source.namespace),
        ("source_principal", source_principal),
        ("source_app", source.app),
        ("source_version", source.version),
        ("source_cluster", source.cluster),
        ("destination_workload", destination.name),
        ("destination_workload_namespace", destination.namespace),
        ("destination_principal", destination_principal),
        ("destination_app", destination.app),
        ("destination_version", destination.version),
        ("destination_service", host or "unknown"),
        ("destination_canonical_service", destination.service),
        ("destination_canonical_revision", destination.revision),
        ("destination_service_name", name or "unknown"),
        ("destination_service_namespace", namespace or "unknown"),
        ("destination_cluster", destination.cluster),
        ("request_protocol", "http"),
        ("response_code", str(exchange.code)),
        ("grpc_response_status", ""),
        ("response_flags", exchange.flags or "-"),
        ("connection_security_policy", security),
    )


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _histogram(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip((*BOUNDS, "+Inf"), histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {histogram.sum:.6g}"
    yield f"{name}_count{{{labels}}} {total}"
