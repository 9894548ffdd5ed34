"""A cluster and its endpoints as xDS tells them: immutable, made by `config.clusters`, run by `cluster`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mesh.proxy.balancer import POLICIES
from mesh.proxy.outlier import OutlierSpec
from mesh.proxy.selection import Make, SlowStart

if TYPE_CHECKING:
    from mesh.proxy.tls import UpstreamTls


class EndpointSpec:
    """One endpoint as EDS (or the cluster itself) tells it. Immutable."""

    __slots__ = (
        "address",
        "healthy",
        "locality",
        "locality_weight",
        "match",
        "priority",
        "weight",
        "workload",
    )

    def __init__(
        self,
        address: tuple[str, int],
        weight: int = 1,
        *,
        healthy: bool = True,
        priority: int = 0,
        match: Mapping[str, str] | None = None,
        workload: str = "",
        locality: tuple[str, str, str] = ("", "", ""),
        locality_weight: int = 1,
    ) -> None:
        self.address = address
        self.locality = locality
        """Region, zone, sub-zone."""
        self.locality_weight = locality_weight
        self.weight = weight
        self.healthy = healthy
        self.priority = priority
        self.match = match or {}
        self.workload = workload

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it the same endpoint as before: its connections are kept."""
        return (self.address, tuple(sorted(self.match.items())), self.workload)


class ClusterSpec:
    """One cluster as CDS tells it. Immutable. Times in seconds, limits as Envoy's."""

    __slots__ = (
        "breaker",
        "by_authority",
        "connect_timeout",
        "endpoints",
        "http2",
        "idle_timeout",
        "keepalive",
        "kind",
        "locality_weighted",
        "make_balancer",
        "max_connection_seconds",
        "max_requests_per_connection",
        "name",
        "outliers",
        "panic_threshold",
        "policy",
        "proxy_protocol",
        "retry_budget",
        "service",
        "service_name",
        "slow_start",
        "source",
        "tls",
        "tls_matches",
        "version",
    )

    def __init__(
        self,
        name: str,
        *,
        kind: str = "EDS",
        policy: str = "ROUND_ROBIN",
        service_name: str = "",
        endpoints: Sequence[EndpointSpec] = (),
        http2: bool = False,
        connect_timeout: float = 5.0,
        idle_timeout: float = 3600.0,
        max_requests_per_connection: int = 0,
        breaker: tuple[int, int, int, int] = (1024, 1024, 1024, 3),
        tls: UpstreamTls | None = None,
        tls_matches: Sequence[tuple[Mapping[str, str], UpstreamTls | None]] = (),
        panic_threshold: float = 50.0,
        outliers: OutlierSpec | None = None,
        service: tuple[str, str, str] = ("", "", ""),
        make_balancer: Make | None = None,
        slow_start: SlowStart | None = None,
        locality_weighted: bool = False,
        retry_budget: tuple[float, int] | None = None,
        keepalive: tuple[int, int, int] | None = None,
        max_connection_seconds: float = 0.0,
        proxy_protocol: int = 0,
        by_authority: bool = False,
        source: tuple[str, int] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.policy = policy
        self.service_name = service_name or name
        self.endpoints = tuple(endpoints)
        self.http2 = http2
        self.connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        self.max_requests_per_connection = max_requests_per_connection
        self.breaker = breaker
        self.tls = tls
        self.tls_matches = tuple(tls_matches)
        self.panic_threshold = panic_threshold
        self.outliers = outliers
        self.service = service
        """(host, name, namespace) of the Kubernetes service, for metric labels."""
        self.make_balancer = make_balancer or POLICIES[policy]
        self.slow_start = slow_start
        self.locality_weighted = locality_weighted
        self.retry_budget = retry_budget
        """(share of the requests under way, number that is always allowed) instead of a fixed limit."""
        self.keepalive = keepalive
        """TCP keep-alive: (probes, seconds until the first, seconds between); 0 is the system's choice."""
        self.max_connection_seconds = max_connection_seconds
        self.proxy_protocol = proxy_protocol
        """Version of the PROXY protocol that begins each connection, 0 for none."""
        self.by_authority = by_authority
        """ORIGINAL_DST: the destination stands in the request's authority, not in the connection."""
        self.source = source
        """Own address for connections to the endpoints (`upstream_bind_config`); None: the system's choice."""
        self.version = ""

    def transport(self, endpoint: EndpointSpec) -> UpstreamTls | None:
        """How to speak to an endpoint: the first of `transport_socket_matches` that fits its metadata."""
        for wanted, tls in self.tls_matches:
            if all(endpoint.match.get(key) == value for key, value in wanted.items()):
                return tls
        return self.tls
