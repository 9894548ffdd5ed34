"""Plain TCP: bytes pass both ways, with half-close and back-pressure (Envoy's `tcp_proxy`).

For ports that are not HTTP, and those a pod keeps out of the mesh. Each side that ends is ended on the other
side; when one side cannot take more, the other is not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from random import random
from time import monotonic, time
from typing import TYPE_CHECKING, cast

from mesh.proxy.exchange import Exchange
from mesh.proxy.identity import SecretMissing
from mesh.proxy.reply import Flag
from mesh.proxy.socket_options import keep_alive, proxy_line
from mesh.proxy.tls import own_uri, peer_of
from mesh.proxy.tls_stream import open_connection

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Endpoint
    from mesh.proxy.codec import ServerConnection
    from mesh.proxy.filters.rbac import Rules
    from mesh.proxy.hcm import AccessLogSpec, HttpChain
    from mesh.proxy.tls import DownstreamTls, Peer

log = logging.getLogger(__name__)

HELD = 64 * 1024
"""Bytes taken from the client at most before the upstream is connected."""


class TcpSpec:
    """One tcp_proxy as LDS tells it: a cluster, or several by weight. Immutable. Idle time in seconds."""

    __slots__ = ("access_logs", "clusters", "idle_timeout", "name", "rules")

    def __init__(
        self,
        name: str,
        clusters: Sequence[tuple[str, int]],
        idle_timeout: float = 3600.0,
        rules: Sequence[Rules] = (),
        access_logs: Sequence[AccessLogSpec] = (),
    ) -> None:
        self.name = name
        self.clusters = tuple(clusters)
        self.idle_timeout = idle_timeout
        self.rules = tuple(rules)
        self.access_logs = tuple(access_logs)

    def choose(self) -> str:
        """The cluster for one connection."""
        draw = random() * sum(weight for _, weight in self.clusters)
        for name, weight in self.clusters:
            draw -= weight
            if draw < 0:
                return name
        return self.clusters[-1][0]


class TcpChain:
    """The specification at work."""

    __slots__ = ("_moved", "clusters", "connections", "on_finish", "spec", "total")

    def __init__(
        self,
        spec: TcpSpec,
        clusters: Mapping[str, Cluster],
        on_finish: Sequence[Callable[[ClientConnection], None]] = (),
    ) -> None:
        self.spec = spec
        self.clusters = clusters
        self.on_finish = tuple(on_finish)
        self._moved: dict[ClientConnection, tuple[int, float]] = {}
        self.connections: set[ClientConnection] = set()
        self.total = 0

    def sweep(self) -> None:
        """Close connections over which nothing has gone for `idle_timeout`."""
        timeout, now = self.spec.idle_timeout, monotonic()
        if not timeout:
            return
        moved, self._moved = self._moved, {}
        for connection in list(self.connections):
            total = connection.bytes_received + connection.bytes_sent
            before, since = moved.get(connection, (-1, now))
            if total != before:
                since = now
            self._moved[connection] = (total, since)
            if now - since > timeout:
                connection.transport.close()


class _Side(asyncio.Protocol):
    """What both ends have in common."""

    __slots__ = ("ended", "other", "read_paused", "transport")

    def __init__(self) -> None:
        self.transport = cast(asyncio.Transport, None)
        self.other: _Side | None = None
        self.read_paused = False
        self.ended = False

    def pause_reading(self) -> None:
        if self.transport is not None and not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.transport is not None and self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """This side says no more; the other may still have something to say (TLS cannot half-close)."""
        self.ended = True
        other = self.other
        if other is None or other.ended or not other.transport.can_write_eof():
            return False  # both have ended, or the other cannot be ended alone: close
        if self.transport.get_extra_info("ssl_object") is not None:
            return False
        other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            if exc is None:
                other.transport.close()
            else:
                other.transport.abort()


class ClientConnection(_Side):
    """The side that connected to us."""

    __slots__ = (
        "_held",
        "_task",
        "_tls",
        "began_at",
        "bytes_received",
        "bytes_sent",
        "chain",
        "cluster",
        "duration",
        "endpoint",
        "flags",
        "local",
        "own_uri",
        "peer",
        "remote",
        "server_name",
    )

    def __init__(
        self,
        chain: TcpChain,
        tls: DownstreamTls | None = None,
        server_name: str = "",
        meant: tuple[str, int] | None = None,
    ) -> None:
        """`meant` is where a redirected connection was going."""
        super().__init__()
        self.chain = chain
        self.peer: Peer | None = None
        self.own_uri = ""
        self.server_name = server_name.encode()
        self.remote: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = meant or ("", 0)
        self.began_at = time()
        self.duration = 0.0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.cluster: Cluster | None = None
        self.endpoint: Endpoint | None = None
        self.flags = ""
        self._tls = tls
        self._held: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.chain.connections.add(self)
        self.chain.total += 1
        self.remote = transport.get_extra_info("peername") or self.remote
        if not self.local[1]:
            self.local = transport.get_extra_info("sockname") or self.local
        if self._tls is not None:
            self.peer = peer_of(transport)
            self.own_uri = own_uri(transport)
            if self._tls.refuse(self.peer) is not None:
                self.transport.abort()
                return
        if self.chain.spec.rules and not self._permitted():
            log.info("%s: connection of %s: RBAC: access denied", self.chain.spec.name, self.remote)
            self.transport.abort()
            return
        self._task = asyncio.get_running_loop().create_task(self._connect())

    @property
    def http(self) -> HttpChain:
        """There is none: access rules that look at a request find nothing."""
        return cast("HttpChain", None)

    @property
    def tls(self) -> bool:
        return self._tls is not None

    def _permitted(self) -> bool:
        """The access decision: the same rules as for HTTP, on what a connection alone can tell."""
        opening = Exchange(cast("ServerConnection", self))
        return all(rules.permits(opening) for rules in self.chain.spec.rules)

    def data_received(self, data: bytes) -> None:
        self.bytes_received += len(data)
        if self.other is not None:
            self.other.transport.write(data)
            return
        self._held.append(data)
        if sum(map(len, self._held)) > HELD:
            self.pause_reading()

    def eof_received(self) -> bool:
        if self.other is None:
            self.ended = True
            return self.transport.get_extra_info("ssl_object") is None
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.chain.connections.discard(self)
        if self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)
        self.duration = time() - self.began_at
        for record in self.chain.on_finish:
            record(self)

    async def _connect(self) -> None:
        name = self.chain.spec.choose()
        cluster = self.chain.clusters.get(name)
        endpoint = cluster.pick(meant=self.local) if cluster is not None else None
        self.cluster, self.endpoint = cluster, endpoint
        if cluster is None or endpoint is None:
            self.flags = Flag.NO_CLUSTER if cluster is None else Flag.NO_HEALTHY_UPSTREAM
            log.info("%s: no endpoint in cluster %s", self.chain.spec.name, name)
            self.transport.abort()
            return
        tls = endpoint.tls
        upstream = _Upstream()
        version = cluster.spec.proxy_protocol
        first = proxy_line(version, self.remote, self.local) if version else b""
        try:
            async with asyncio.timeout(cluster.connect_timeout):
                await open_connection(upstream, endpoint.address, tls, cluster.spec.source, first)
        except (OSError, TimeoutError, SecretMissing) as error:
            self.flags = Flag.CONNECT_FAILURE
            log.info("%s: %s:%d: %s", self.chain.spec.name, *endpoint.address, error)
            self.transport.abort()
            return
        if cluster.spec.keepalive is not None:
            keep_alive(upstream.transport, cluster.spec.keepalive)
        if tls is not None and (problem := tls.refuse(peer_of(upstream.transport))):
            log.info("%s: %s:%d: %s", self.chain.spec.name, *endpoint.address, problem)
            upstream.transport.abort()
            self.transport.abort()
            return
        self._join(upstream)

    def _join(self, upstream: _Upstream) -> None:
        self.other, upstream.other = upstream, self
        held, self._held = self._held, []
        if held:
            upstream.transport.write(b"".join(held))
        if upstream.early:
            self.transport.write(b"".join(upstream.early))
            upstream.early = []
        self.resume_reading()
        if self.ended:
            super().eof_received()
        if upstream.transport.is_closing():
            self.transport.close()


class _Upstream(_Side):
    """The side we connected to. A server that speaks first may do so before the two are joined."""

    __slots__ = ("early",)

    def __init__(self) -> None:
        super().__init__()
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            cast(ClientConnection, self.other).bytes_sent += len(data)
            self.other.transport.write(data)
