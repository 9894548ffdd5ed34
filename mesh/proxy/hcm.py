"""What all connections of one HTTP filter chain share: settings, the route table in force, filters, records.

Envoy calls this the HTTP connection manager (HCM). `config.listeners` makes the specification; the running
`HttpChain` points to whatever is newest, so a push of routes or clusters takes effect with the next request
and never touches one under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from time import monotonic
from typing import TYPE_CHECKING

from mesh.proxy import wire
from mesh.proxy.routes import RouteTable

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster
    from mesh.proxy.codec import ServerConnection
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.filters import Filter, Step

SWEEP = 5.0
"""Seconds between looks for idle connections."""
DRAINING_IDLE = 5.0
"""Seconds of silence after which a connection of a draining listener is closed."""


class Settings:
    """The connection manager's own fields. Times in seconds, 0 is never."""

    __slots__ = (
        "accept_http10",
        "certificate_details",
        "certificate_header",
        "escaped_slashes",
        "generate_request_id",
        "idle_timeout",
        "keep_request_id",
        "max_head",
        "max_requests",
        "merge_slashes",
        "normalize_path",
        "overwrite_server",
        "peer_claims",
        "server_header",
        "server_line",
        "server_name",
        "stream_idle_timeout",
        "trusted_hops",
        "use_remote_address",
    )

    def __init__(
        self,
        *,
        use_remote_address: bool = False,
        trusted_hops: int = 0,
        generate_request_id: bool = True,
        keep_request_id: bool = False,
        normalize_path: bool = False,
        merge_slashes: bool = False,
        escaped_slashes: str = "keep",
        accept_http10: bool = False,
        server_name: str = "envoy",
        server_header: str = "overwrite",
        certificate_header: str = "sanitize",
        certificate_details: frozenset[str] = frozenset(),
        max_head: int = wire.MAX_HEAD,
        max_requests: int = 0,
        idle_timeout: float = 3600.0,
        stream_idle_timeout: float = 300.0,
        peer_claims: str = "pass",
    ) -> None:
        self.use_remote_address = use_remote_address
        self.trusted_hops = trusted_hops
        self.generate_request_id = generate_request_id
        self.keep_request_id = keep_request_id
        self.normalize_path = normalize_path
        self.merge_slashes = merge_slashes
        self.escaped_slashes = escaped_slashes
        self.accept_http10 = accept_http10
        self.server_name = server_name.encode()
        self.server_line = b"server: " + self.server_name
        self.server_header = server_header
        self.overwrite_server = server_header == "overwrite"
        self.certificate_header = certificate_header
        self.certificate_details = certificate_details
        self.max_head = max_head
        self.max_requests = max_requests
        """Requests of one connection at most, 0: any number."""
        self.idle_timeout = idle_timeout
        self.stream_idle_timeout = stream_idle_timeout
        self.peer_claims = peer_claims
        """`hear` (inbound: labels come from there), `drop` (outbound, gateway) or `pass` (no direction)."""


class AccessLogSpec:
    """Where to report requests: Envoy's `HttpGrpcAccessLogConfig`."""

    __slots__ = ("buffer_bytes", "cluster", "flush_interval", "headers", "log_name")

    def __init__(
        self,
        log_name: str,
        cluster: str,
        flush_interval: float,
        buffer_bytes: int,
        headers: Sequence[bytes] = (),
    ) -> None:
        self.log_name = log_name
        self.cluster = cluster
        self.flush_interval = flush_interval
        self.buffer_bytes = buffer_bytes
        self.headers = tuple(headers)
        """Request headers to log beyond the usual."""


class HttpSpec:
    """One HTTP connection manager as LDS tells it. Immutable.

    Routes are named (RDS) or given in place.
    """

    __slots__ = ("access_logs", "direction", "filters", "name", "route_name", "routes", "settings")

    def __init__(
        self,
        name: str,
        settings: Settings,
        filters: Sequence[Filter],
        *,
        route_name: str = "",
        routes: RouteTable | None = None,
        direction: str = "UNSPECIFIED",
        access_logs: Sequence[AccessLogSpec] = (),
    ) -> None:
        self.name = name
        self.settings = settings
        self.filters = tuple(filters)
        self.route_name = route_name
        self.routes = routes
        self.direction = direction
        self.access_logs = tuple(access_logs)


class HttpChain:
    """The specification at work."""

    __slots__ = (
        "clusters",
        "connections",
        "direction",
        "draining",
        "name",
        "now",
        "on_finish",
        "on_head",
        "on_request",
        "protocol_errors",
        "routes",
        "settings",
        "spec",
        "upstream_lines",
    )

    def __init__(
        self,
        spec: HttpSpec,
        clusters: Mapping[str, Cluster],
        routes: RouteTable,
        on_finish: Sequence[Callable[[Exchange], None]] = (),
        upstream_lines: bytes = b"",
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.direction = spec.direction
        self.settings = spec.settings
        self.clusters = clusters
        self.routes = routes
        first = list(takewhile(lambda f: f.before_route, spec.filters))
        self.on_head: tuple[Step, ...] = tuple(step for f in first for step in f.steps)
        """Steps before the route is chosen."""
        self.on_request: tuple[Step, ...] = tuple(
            step for f in spec.filters[len(first) :] for step in f.steps
        )
        self.on_finish = tuple(on_finish)
        self.upstream_lines = upstream_lines
        """Header lines that every request into the mesh carries, without the last line end."""
        self.draining = False
        self.connections: set[ServerConnection] = set()
        self.protocol_errors = 0
        self.now = monotonic

    def opened(self, connection: ServerConnection) -> None:
        """A client has connected."""
        connection.last_active = self.now()
        self.connections.add(connection)

    def closed(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)

    def take_over(self, predecessor: HttpChain) -> None:
        """From their next request on the predecessor's connections are this chain's."""
        for connection in predecessor.connections:
            connection.http = self
        self.connections |= predecessor.connections
        predecessor.connections = set()

    def drain(self) -> None:
        """Serve what is under way, and tell clients with the next answer to come back on another connection.

        Idle connections are not cut: the next request may be on its way already. `sweep` closes them when
        they stay silent.
        """
        self.draining = True

    def sweep(self, draining_idle: float = DRAINING_IDLE) -> None:
        """Close what has been silent for too long (`idle_timeout`; when draining, `draining_idle` seconds)."""
        timeout = draining_idle if self.draining else self.settings.idle_timeout
        if not timeout:
            return
        before = self.now() - timeout
        for connection in list(self.connections):
            if connection.current is None and connection.last_active < before:
                connection.close()

    def sweep_streams(self) -> None:
        """End requests in which nothing has moved for `stream_idle_timeout`. Looked at now and then, so that no
        request pays for it.
        """
        timeout, now = self.settings.stream_idle_timeout, self.now()
        if not timeout:
            return
        for connection in list(self.connections):
            exchange = connection.current
            if exchange is None:
                continue
            moved = (id(exchange), exchange.request_bytes, exchange.response_bytes)
            if moved != connection.moved:
                connection.moved, connection.moved_at = moved, now
            elif now - connection.moved_at > timeout:
                exchange.idle()
