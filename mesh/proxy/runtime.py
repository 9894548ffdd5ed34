"""The configuration in force: listeners, routes, clusters, endpoints, and how a new one takes over.

Each `apply_...` takes all resources of one type, checked and translated, and changes only what differs. What
is new warms up first: a cluster until its endpoints have come, a listener until its routes and certificates
have. Requests under way keep the route, cluster and endpoint they started with.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mesh.proxy.cluster import Cluster, WorkloadNames
from mesh.proxy.cluster_spec import ClusterSpec, EndpointSpec
from mesh.proxy.config import ConfigError
from mesh.proxy.hcm import SWEEP, HttpChain, HttpSpec
from mesh.proxy.listener import BACKLOG, Chain, Listener
from mesh.proxy.listener_spec import ListenerSpec
from mesh.proxy.resolve import keep_resolved
from mesh.proxy.routes import RouteTable
from mesh.proxy.tcp import TcpChain, TcpSpec

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.identity import Secrets
    from mesh.proxy.tcp import ClientConnection

log = logging.getLogger(__name__)

WARMING = 15.0
"""Seconds a new resource waits at most for what it depends on (Envoy's `initial_fetch_timeout`)."""

HttpRecords = Callable[[HttpSpec], Sequence[Callable[["Exchange"], None]]]
"""Says who hears of the finished requests of a chain: metrics, access logs."""
TcpRecords = Callable[[TcpSpec], Sequence[Callable[["ClientConnection"], None]]]
"""The same for connections."""


class Runtime:
    """Everything that runs by configuration. One per process."""

    def __init__(
        self, secrets: Secrets, http_records: HttpRecords, tcp_records: TcpRecords, claim: bytes = b""
    ) -> None:
        self.secrets = secrets
        self.clusters: dict[str, Cluster] = {}
        self.listeners: dict[str, Listener] = {}
        self.routes: dict[str, RouteTable] = {}
        self.assignments: dict[str, tuple[EndpointSpec, ...]] = {}
        self.warming_listeners: dict[str, Listener] = {}
        self.warming_clusters: dict[str, ClusterSpec] = {}
        self.draining: list[Listener] = []
        self._predecessors: dict[tuple[str, int], Listener] = {}
        """Those whose place a listener that still warms will take, by address."""
        self.on_change: list[Callable[[], None]] = []
        self._unbound_by_address: dict[tuple[str, int], Listener] = {}
        """Listeners that the kernel's redirection reaches through another's socket."""
        self._cluster_specs: dict[str, ClusterSpec] = {}
        self._http_records = http_records
        self._tcp_records = tcp_records
        self._claim = claim
        self._workloads = WorkloadNames()
        self._resolvers: dict[str, asyncio.Task[None]] = {}
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        secrets.changed.append(self._warm_listeners)

    # -- clusters -----------------------------------------------------------------------------------------

    def apply_clusters(self, specs: Mapping[str, ClusterSpec]) -> None:
        """All clusters there are to be."""
        for name in set(self._cluster_specs) - set(specs):
            self._remove_cluster(name)
        for name, spec in specs.items():
            if self._cluster_specs.get(name) is not spec:
                self._cluster_specs[name] = spec
                self._warm_cluster(spec)
        self._changed()

    def _remove_cluster(self, name: str) -> None:
        del self._cluster_specs[name]
        self.warming_clusters.pop(name, None)
        self._stop_resolver(name)
        cluster = self.clusters.pop(name, None)
        if cluster is not None:
            cluster.retire()

    def _warm_cluster(self, spec: ClusterSpec) -> None:
        """Begin to use a new or changed cluster, at once if its endpoints are known."""
        if spec.kind == "EDS":
            known = self.assignments.get(spec.service_name)
            if known is None:
                self.warming_clusters[spec.name] = spec
                loop = asyncio.get_running_loop()
                loop.call_later(WARMING, self._stop_waiting, spec)
                return
            self._activate(spec, known)
        elif spec.kind in ("STATIC", "ORIGINAL_DST"):
            self._activate(spec, spec.endpoints)
        else:
            self._activate(spec, ())
            self._stop_resolver(spec.name)
            self._resolvers[spec.name] = asyncio.get_running_loop().create_task(
                keep_resolved(self.clusters[spec.name])
            )

    def _stop_waiting(self, spec: ClusterSpec) -> None:
        if self.warming_clusters.get(spec.name) is spec:
            log.warning("cluster %s: no endpoints after %.0f s; going on without", spec.name, WARMING)
            self._activate(spec, ())

    def _activate(self, spec: ClusterSpec, endpoints: Sequence[EndpointSpec]) -> None:
        self.warming_clusters.pop(spec.name, None)
        old = self.clusters.get(spec.name)
        cluster = Cluster(spec, self._workloads)
        if spec.kind == "EDS":
            cluster.assign(endpoints)
        self.clusters[spec.name] = cluster
        if old is not None:
            old.retire()

    def _stop_resolver(self, name: str) -> None:
        resolver = self._resolvers.pop(name, None)
        if resolver is not None:
            resolver.cancel()

    @property
    def eds_names(self) -> set[str]:
        """The endpoint sets that clusters wait for or use."""
        return {spec.service_name for spec in self._cluster_specs.values() if spec.kind == "EDS"}

    def apply_assignments(self, assignments: Mapping[str, tuple[EndpointSpec, ...]]) -> None:
        """Endpoint sets that have come; those not named stay as they are."""
        for name, endpoints in assignments.items():
            if self.assignments.get(name) is endpoints:
                continue
            self.assignments[name] = endpoints
            for spec in [s for s in self.warming_clusters.values() if s.service_name == name]:
                self._activate(spec, endpoints)
            for cluster in self.clusters.values():
                if cluster.spec.kind == "EDS" and cluster.spec.service_name == name:
                    cluster.assign(endpoints)
        wanted = self.eds_names
        for name in [name for name in self.assignments if name not in wanted]:
            del self.assignments[name]
        self._changed()

    # -- routes -------------------------------------------------------------------------------------------

    @property
    def route_names(self) -> set[str]:
        """The route tables that listeners wait for or use."""
        listeners = [*self.listeners.values(), *self.warming_listeners.values()]
        chains = [chain for listener in listeners for chain in listener.spec.all_chains]
        return {chain.http.route_name for chain in chains if chain.http and chain.http.route_name}

    def apply_routes(self, tables: Mapping[str, RouteTable]) -> None:
        """Route tables that have come; those not named stay. The next request already goes by the new one."""
        self.routes.update(tables)
        listeners = [*self.listeners.values(), *self.warming_listeners.values(), *self.draining]
        for listener in listeners:
            for chain in listener.chains:
                if chain.http is not None and chain.http.spec.route_name in tables:
                    chain.http.routes = tables[chain.http.spec.route_name]
        self._warm_listeners()
        self._changed()

    # -- listeners ----------------------------------------------------------------------------------------

    def apply_listeners(self, specs: Mapping[str, ListenerSpec]) -> None:
        """All listeners there are to be. Raises ConfigError, with nothing changed, if one cannot bind."""
        running = {**self.listeners, **self.warming_listeners}
        changed = [
            spec for name, spec in specs.items() if name not in running or running[name].spec is not spec
        ]
        leaving = [
            listener
            for name, listener in running.items()
            if name not in specs or listener.spec is not specs[name]
        ]
        held = {listener.spec.address for listener in leaving if listener.spec.bound}
        places = {(spec.address, spec.bound) for spec in changed}
        sockets = self._bind([spec for spec in changed if spec.bound and spec.address not in held])
        for listener in leaving:
            name, address = listener.spec.name, listener.spec.address
            self.listeners.pop(name, None)
            self.warming_listeners.pop(name, None)
            if (address, listener.spec.bound) in places:
                if listener.spec.bound:
                    sockets[address] = listener.hand_over()
                self._predecessors.setdefault(address, listener)
            else:
                listener.close()
                self._unbound_by_address.pop(address, None)
            self.draining.append(listener)
        for spec in changed:
            self.warming_listeners[spec.name] = self._listener(spec, sockets.get(spec.address))
        self._warm_listeners()
        self._changed()

    def _bind(self, specs: Sequence[ListenerSpec]) -> dict[tuple[str, int], socket.socket]:
        bound: dict[tuple[str, int], socket.socket] = {}
        for spec in specs:
            try:
                bound[spec.address] = bind(spec.address)
            except OSError as error:
                for listening in bound.values():
                    listening.close()
                host, port = spec.address
                raise ConfigError(
                    f"listener {spec.name}: cannot bind {host}:{port}: {error.strerror}"
                ) from error
        return bound

    def _listener(self, spec: ListenerSpec, listening: socket.socket | None) -> Listener:
        chains = []
        for chain in spec.all_chains:
            http = self._http(chain.http) if chain.http is not None else None
            tcp = self._tcp(chain.tcp) if chain.tcp is not None else None
            chains.append(Chain(chain, http, tcp))
        return Listener(spec, chains, listening if spec.bound else None, self._unbound)

    def _unbound(self, meant: tuple[str, int]) -> Listener | None:
        """The listener without socket for that destination: for the very address, else for all of that port."""
        return self._unbound_by_address.get(meant) or self._unbound_by_address.get(("0.0.0.0", meant[1]))

    def _http(self, spec: HttpSpec) -> HttpChain:
        routes = spec.routes or self.routes.get(spec.route_name) or RouteTable(spec.route_name, ())
        lines = self._claim if spec.direction == "OUTBOUND" else b""
        return HttpChain(spec, self.clusters, routes, self._http_records(spec), lines)

    def _tcp(self, spec: TcpSpec) -> TcpChain:
        return TcpChain(spec, self.clusters, self._tcp_records(spec))

    def _warm_listeners(self) -> None:
        """Open those that have all they need."""
        for name, listener in list(self.warming_listeners.items()):
            if not self._missing(listener.spec):
                del self.warming_listeners[name]
                self.listeners[name] = listener
                if not listener.spec.bound:
                    self._unbound_by_address[listener.spec.address] = listener
                if predecessor := self._predecessors.pop(listener.spec.address, None):
                    listener.succeed(predecessor)
                listener.start()
                log.info("listener %s: serving on %s:%d", name, *listener.spec.address)
        for callback in self.on_change:
            callback()

    def _missing(self, spec: ListenerSpec) -> list[str]:
        """What a listener waits for."""
        missing: list[str] = []
        for chain in spec.all_chains:
            if chain.tls is not None and not self.secrets.has(chain.tls.spec.secrets):
                missing.append("certificate")
            if chain.http is not None and chain.http.route_name and chain.http.route_name not in self.routes:
                missing.append(f"routes {chain.http.route_name}")
        return missing

    @property
    def waiting_for(self) -> list[str]:
        """Why not everything is served yet, for `/ready` and logs."""
        return [
            f"listener {name}: {', '.join(self._missing(listener.spec))}"
            for name, listener in self.warming_listeners.items()
        ]

    # -- housekeeping -------------------------------------------------------------------------------------

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    def _sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        self.sweep()

    def sweep(self) -> None:
        """Look for what has idled too long, and forget listeners that have drained."""
        for listener in [*self.listeners.values(), *self.draining]:
            listener.sweep()
        for cluster in self.clusters.values():
            cluster.close_idle()
        self.draining = [listener for listener in self.draining if listener.connections]

    def drain(self) -> None:
        """Serve what is under way and ask clients to leave; new connections are still taken."""
        for listener in self.listeners.values():
            listener.drain()

    def close(self) -> None:
        """Stop everything."""
        self._sweeper.cancel()
        for resolver in self._resolvers.values():
            resolver.cancel()
        for listener in [*self.listeners.values(), *self.warming_listeners.values()]:
            listener.close()
        for cluster in self.clusters.values():
            cluster.retire()


def bind(address: tuple[str, int]) -> socket.socket:
    """A listening socket. It accepts when `Listener.start` is called; until then clients wait. Raises OSError."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
