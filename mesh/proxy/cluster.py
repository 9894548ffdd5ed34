"""A cluster as it runs: its endpoints with their connections, its balancer and its breaker.

`cluster_spec` is what xDS says; this is what lives on while specifications come and go. An endpoint that stays keeps
its connections, one that leaves lets its requests end, so a push disturbs nothing under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING

from mesh.proxy.balancer import Balancer
from mesh.proxy.breaker import Breaker
from mesh.proxy.cluster_spec import ClusterSpec, EndpointSpec
from mesh.proxy.outlier import Outliers
from mesh.proxy.pool import Pool
from mesh.proxy.selection import select

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.peers import Workload
    from mesh.proxy.retry import RetryPolicy

_OTHER_HOST_TRIES = 4
WARM_AGAIN = 1.0
"""Seconds between looks at endpoints that warm up (slow start)."""
_ASKED_FOR_KEPT = 256
"""Addresses outside the mesh to which connections are kept."""


class Endpoint:
    """One place to send requests to, and how it fares."""

    __slots__ = (
        "active",
        "address",
        "born",
        "connect_failures",
        "connected",
        "ejected",
        "errors_in_row",
        "healthy",
        "in_mesh",
        "local_errors_in_row",
        "locality",
        "locality_weight",
        "outliers",
        "own_weight",
        "pool",
        "principal",
        "priority",
        "requests",
        "tls",
        "warmth",
        "weight",
        "workload",
    )

    address: tuple[str, int]

    def __init__(self, cluster: Cluster, spec: EndpointSpec) -> None:
        self.address = spec.address
        self.tls = cluster.spec.transport(spec)
        self.in_mesh = self.tls is not None and bool(spec.match)
        self.workload: Workload | None = cluster.workload(spec.workload)
        self.pool = Pool(cluster, self)
        self.principal = ""
        """The SPIFFE URI it proved with its certificate, once it has."""
        self.outliers = cluster.outliers
        self.active = 0
        self.requests = 0
        self.connected = 0
        self.connect_failures = 0
        self.ejected = False
        self.errors_in_row = 0
        self.local_errors_in_row = 0
        self.born = monotonic()
        self.warmth = 1.0
        """The share of its weight it gets while it warms up."""
        self.update(spec)
        self.weight: float = self.own_weight
        """What balancers go by: its own weight, its warmth and its locality's share."""

    def update(self, spec: EndpointSpec) -> None:
        """What may change while the endpoint stays."""
        self.own_weight = max(spec.weight, 1)
        self.locality = spec.locality
        self.locality_weight = spec.locality_weight
        self.healthy = spec.healthy
        self.priority = spec.priority

    @property
    def usable(self) -> bool:
        """Healthy, as far as EDS and its answers tell."""
        return self.healthy and not self.ejected

    def note_status(self, status: int) -> None:
        """An answer has come; outlier detection counts the bad ones in a row."""
        self.requests += 1
        if self.outliers is not None:
            self.outliers.status(self, status)

    def note_failure(self, local: bool = False) -> None:
        """No connection (`local`), or one that broke: counts as an error for outlier detection."""
        if self.outliers is not None:
            self.outliers.failure(self, local)


class Cluster:
    """A named set of endpoints that requests are spread over."""

    __slots__ = (
        "_balancer",
        "_warmer",
        "_workloads",
        "breaker",
        "connect_timeout",
        "endpoints",
        "max_requests_per_connection",
        "name",
        "outliers",
        "service",
        "spec",
    )

    name: str

    def __init__(self, spec: ClusterSpec, workloads: WorkloadNames) -> None:
        self.name = spec.name
        self.spec = spec
        self.service = spec.service
        self.connect_timeout = spec.connect_timeout
        self.max_requests_per_connection = spec.max_requests_per_connection
        self.breaker = Breaker(*spec.breaker, spec.retry_budget)
        self.outliers = Outliers(self, spec.outliers) if spec.outliers else None
        self.endpoints: dict[tuple[object, ...], Endpoint] = {}
        self._workloads = workloads
        self._balancer: Balancer | None = None
        self._warmer: asyncio.TimerHandle | None = None
        self.assign(spec.endpoints)

    def workload(self, text: str) -> Workload | None:
        return self._workloads.parse(text) if text else None

    def assign(self, specs: Sequence[EndpointSpec]) -> None:
        """New endpoints from EDS: those that stay keep their connections."""
        old, self.endpoints = self.endpoints, {}
        for spec in specs:
            endpoint = old.pop(spec.key, None)
            if endpoint is None:
                endpoint = Endpoint(self, spec)
            else:
                endpoint.update(spec)
            self.endpoints[spec.key] = endpoint
        for endpoint in old.values():
            endpoint.pool.retire()
        self.rebalance()

    def rebalance(self) -> None:
        """Choose anew whom the balancer may pick (`selection`); while some warm up, again in a second."""
        endpoints = list(self.endpoints.values())
        slow = self.spec.slow_start
        warming = False
        if slow is not None:
            now = monotonic()
            for endpoint in endpoints:
                endpoint.warmth = slow.share(now - endpoint.born)
                warming = warming or endpoint.warmth < 1.0
        spec = self.spec
        self._balancer = select(endpoints, spec.make_balancer, spec.panic_threshold, spec.locality_weighted)
        if warming and self._warmer is None:
            self._warmer = asyncio.get_running_loop().call_later(WARM_AGAIN, self._warm)

    def _warm(self) -> None:
        self._warmer = None
        self.rebalance()

    def pick(self, exchange: Exchange | None = None, meant: tuple[str, int] | None = None) -> Endpoint | None:
        """The endpoint for a request; on a retry another than before, if the policy says so.

        `meant` is where a connection without requests was going.
        """
        if self._balancer is None:
            return self._asked_for(exchange, meant) if self.spec.kind == "ORIGINAL_DST" else None
        if exchange is not None and exchange.tried:
            return self._pick_other(exchange, self._balancer)
        return self._balancer(exchange)

    def _pick_other(self, exchange: Exchange, balancer: Balancer) -> Endpoint:
        """A retry: if the policy says so not in a priority, not at an endpoint that was tried before."""
        policy: RetryPolicy | None = getattr(exchange.route and exchange.route.action, "retry", None)
        if policy is not None and policy.other_priority:
            tried = {endpoint.priority for endpoint in exchange.tried}
            others = [e for e in self.endpoints.values() if e.usable and e.priority not in tried]
            if others:
                return self.spec.make_balancer(others)(exchange)
        endpoint = balancer(exchange)
        for _ in range(_OTHER_HOST_TRIES):
            if policy is None or not policy.avoid(exchange.tried, endpoint):
                break
            endpoint = balancer(exchange)
        return endpoint

    def _asked_for(self, exchange: Exchange | None, meant: tuple[str, int] | None) -> Endpoint | None:
        """ORIGINAL_DST: where the connection was going, or the address that the request names as IP:PORT."""
        if self.spec.by_authority:
            address = _named_address(exchange.authority if exchange is not None else b"")
        else:
            address = exchange.conn.local if exchange is not None else meant
        if address is None:
            return None
        spec = EndpointSpec(address)
        endpoint = self.endpoints.get(spec.key)
        if endpoint is None:
            if len(self.endpoints) >= _ASKED_FOR_KEPT:
                self.endpoints.pop(next(iter(self.endpoints))).pool.retire()
            endpoint = self.endpoints[spec.key] = Endpoint(self, spec)
        return endpoint

    def close_idle(self) -> None:
        """Called now and then: connections idle for longer than the cluster allows go."""
        before = asyncio.get_running_loop().time() - self.spec.idle_timeout
        for endpoint in self.endpoints.values():
            endpoint.pool.close_idle(before)

    def retire(self) -> None:
        """The cluster is gone or replaced: requests under way end, nothing new begins."""
        for endpoint in self.endpoints.values():
            endpoint.pool.retire()
        if self._warmer is not None:
            self._warmer.cancel()
        if self.outliers is not None:
            self.outliers.stop()


def _named_address(authority: bytes) -> tuple[str, int] | None:
    """`IP:PORT` as an address; None for anything else."""
    host, _, port = authority.decode("latin-1").rpartition(":")
    try:
        return (str(ip_address(host.strip("[]"))), int(port))
    except ValueError:
        return None


class WorkloadNames:
    """Turns the `istio.workload` metadata of an endpoint into a workload, each text once."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Workload] = {}

    def parse(self, text: str) -> Workload:
        from mesh.proxy.peers import from_endpoint

        known = self._known.get(text)
        if known is None:
            known = self._known[text] = from_endpoint(text)
        return known
