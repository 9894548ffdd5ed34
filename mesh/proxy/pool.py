"""The upstream's side of HTTP/1.1: connections to one endpoint, kept and used again.

A `Pool` belongs to an endpoint of a cluster. A request takes an idle connection or waits for a new one; the
cluster's breaker limits connections, waiting requests and requests under way (`circuit_breakers`). A
connection serves one request at a time and goes back when the answer is complete.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import TYPE_CHECKING

from mesh.proxy import router
from mesh.proxy.identity import SecretMissing
from mesh.proxy.reply import Flag
from mesh.proxy.socket_options import keep_alive, proxy_line
from mesh.proxy.tls import peer_of
from mesh.proxy.tls_stream import open_connection
from mesh.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Endpoint
    from mesh.proxy.exchange import Exchange

log = logging.getLogger(__name__)


class Pool:
    """The connections to one endpoint."""

    __slots__ = ("_tasks", "cluster", "connecting", "endpoint", "idle", "open", "retired", "waiting")

    def __init__(self, cluster: Cluster, endpoint: Endpoint) -> None:
        self.cluster = cluster
        self.endpoint = endpoint
        self.idle: list[UpstreamConnection] = []
        self.waiting: deque[Exchange] = deque()
        self.connecting = 0
        self.open = 0
        self.retired = False
        self._tasks: set[asyncio.Task[None]] = set()

    def acquire(self, exchange: Exchange) -> bool:
        """Bring the exchange a connection, now or later. False if the breaker does not allow it."""
        breaker = self.cluster.breaker
        if breaker.requests >= breaker.max_requests:
            breaker.overflows += 1
            return False
        if self.idle:
            self._give(self.idle.pop(), exchange)
            return True
        if breaker.pending >= breaker.max_pending:
            breaker.overflows += 1
            return False
        breaker.pending += 1
        exchange.pending = True
        self.waiting.append(exchange)
        if breaker.connections < breaker.max_connections and self.connecting < len(self.waiting):
            self._connect()
        elif self.open + self.connecting == 0:
            self._connect()  # Envoy, too, always allows an endpoint its first connection
        return True

    def _give(self, connection: UpstreamConnection, exchange: Exchange) -> None:
        self.cluster.breaker.requests += 1
        self.endpoint.active += 1
        connection.exchange = exchange
        router.connected(exchange, connection)

    def forget(self, exchange: Exchange) -> None:
        """The exchange waits no more."""
        if exchange in self.waiting:
            self.waiting.remove(exchange)
            self.cluster.breaker.pending -= 1

    def ready(self, connection: UpstreamConnection) -> None:
        """A connection is new, or free again: the next waiting request gets it, or it idles."""
        if self.waiting:
            self.cluster.breaker.pending -= 1
            self._give(connection, self.waiting.popleft())
        elif self.retired:
            connection.close()
        else:
            connection.idle_since = asyncio.get_running_loop().time()
            self.idle.append(connection)

    def gone(self, connection: UpstreamConnection) -> None:
        """A connection is closed. Requests that still wait may need another."""
        self.open -= 1
        self.cluster.breaker.connections -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        if self.waiting and self.connecting < len(self.waiting):
            self._connect()

    def retire(self) -> None:
        """The endpoint has left the cluster: what is under way ends, what idles is closed."""
        self.retired = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()

    def close_idle(self, before: float) -> None:
        """Close connections that have idled since before that time of the loop (`idle_timeout`)."""
        for connection in [c for c in self.idle if c.idle_since < before]:
            self.idle.remove(connection)
            connection.close()

    def _connect(self) -> None:
        exchange = self.waiting[min(self.connecting, len(self.waiting) - 1)]
        self.connecting += 1
        self.cluster.breaker.connections += 1
        task = asyncio.get_running_loop().create_task(self._open(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, exchange: Exchange) -> None:
        """Connect, with mutual TLS where the endpoint speaks it; check whom we have reached.

        `exchange` is the request that made this necessary. With the PROXY protocol the connection is for it
        alone; otherwise for whoever has waited longest.
        """
        endpoint, cluster = self.endpoint, self.cluster
        protocol = UpstreamConnection(self)
        conn, version = exchange.conn, cluster.spec.proxy_protocol
        first = proxy_line(version, conn.remote, conn.local) if version else b""
        try:
            async with asyncio.timeout(cluster.connect_timeout):
                await open_connection(protocol, endpoint.address, endpoint.tls, cluster.spec.source, first)
        except (OSError, TimeoutError, SecretMissing) as error:
            self._failed(_why(error))
            return
        protocol.opened_at = asyncio.get_running_loop().time()
        if cluster.spec.keepalive is not None:
            keep_alive(protocol.transport, cluster.spec.keepalive)
        problem = self._identify(protocol) if endpoint.tls is not None else None
        if problem is not None:
            protocol.transport.abort()
            self._failed(problem)
            return
        self.connecting -= 1
        self.open += 1
        endpoint.connected += 1
        protocol.in_pool = True
        if protocol.transport.is_closing():
            self.gone(protocol)
        elif not version:
            self.ready(protocol)
        elif exchange in self.waiting:
            self.forget(exchange)
            self._give(protocol, exchange)
        else:
            protocol.close()

    def _identify(self, protocol: UpstreamConnection) -> str | None:
        """Hold the endpoint's certificate against the names the cluster expects; the problem, or None."""
        tls, peer = self.endpoint.tls, peer_of(protocol.transport)
        assert tls is not None
        if peer is not None:
            self.endpoint.principal = peer.uri
        return tls.refuse(peer)

    def _failed(self, reason: str) -> None:
        self.connecting -= 1
        self.cluster.breaker.connections -= 1
        self.endpoint.connect_failures += 1
        self.endpoint.note_failure(local=True)
        if self.waiting:
            exchange = self.waiting.popleft()
            self.cluster.breaker.pending -= 1
            text = "remote connection failure"
            if self.endpoint.tls is not None:
                text += f", transport failure reason: {reason}"
            router.failed(exchange, Flag.CONNECT_FAILURE, "connect-failure", text)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS_error: {getattr(error, 'reason', None) or error}"
    if isinstance(error, TimeoutError):
        return "connection timeout"
    if isinstance(error, OSError) and error.errno:
        return f"delayed connect error: {error.errno}"
    return f"connection failure: {error}"
