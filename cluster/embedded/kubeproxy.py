"""Stands where kube-proxy stands: listens on every Service's address and relays to a random ready endpoint.

A real kube-proxy tells the kernel to rewrite addresses; unprivileged, a relay in user space has the same
effect for TCP: one random endpoint per connection, no retries once connected, half-closed connections stay
half-closed. The endpoint sees the client's own address, as it does behind kube-proxy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from cluster.embedded.controllers.endpointslice import SERVICE_NAME
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers, Key, WorkQueue, key_of
from cluster.embedded.kube import ENDPOINTSLICES, SERVICES, Object
from cluster.embedded.ports import Listening

ATTEMPTS = 3
"""Endpoints tried before a connection is given up."""


Changed = Callable[[], None]
"""Called when a Service is found at other ports than before."""


class Listen(NamedTuple):
    """An address to listen on: a Service's, or (`node`) the node's."""

    host: str
    port: int
    node: bool = False


@dataclass(frozen=True)
class Route:
    """Where a Service port leads."""

    namespace: str
    service: str
    port_name: str


class KubeProxy:
    """Keeps one listener per Service address and port."""

    def __init__(
        self,
        informers: Informers,
        recorder: Recorder,
        node_address: str,
        listening: Listening,
        changed: Changed,
    ) -> None:
        self._services = informers.of(SERVICES)
        self._slices = informers.of(ENDPOINTSLICES)
        self._recorder = recorder
        self._node = node_address
        self._listening = listening
        self._changed = changed
        self._listeners: dict[tuple[Listen, Route], asyncio.Server] = {}
        self._queue = WorkQueue("kube-proxy", self._reconcile, workers=1)

    def start(self) -> None:
        """Follow Services from now on."""
        self._services.subscribe(lambda old, new: self._queue.add(key_of(new or old or {})))

    async def _reconcile(self, key: Key) -> None:
        service = self._services.get(*key)
        wanted = routes_of(service, self._node) if service else set()
        for listener, server in list(self._listeners.items()):
            _, route = listener
            if (route.namespace, route.service) == key and listener not in wanted:
                del self._listeners[listener]
                server.close()
        for address, route in wanted - self._listeners.keys():
            await self._listen(address, route, service or {})
        if self._single:
            self._publish(key)

    async def _listen(self, address: Listen, route: Route, service: Object) -> None:
        loop = asyncio.get_running_loop()
        port = 0 if self._single and not address.node else address.port
        try:
            server = await loop.create_server(lambda: _Client(self, route), address.host, port, backlog=512)
        except OSError as error:
            where = f"{address.host}:{address.port}"
            reason = (
                "ports below 1024 need privileges here"
                if isinstance(error, PermissionError)
                else error.strerror
            )
            self._recorder.warning(
                "kube-proxy", service, "FailedToListen", f"cannot listen on {where}: {reason}"
            )
            return
        self._listeners[address, route] = server

    @property
    def _single(self) -> bool:
        return self._node == "127.0.0.1"

    def _publish(self, key: Key) -> None:
        """Where every Service has the same address: say at which port each of its ports is really found."""
        found = {
            address.port: server.sockets[0].getsockname()[1]
            for (address, route), server in self._listeners.items()
            if (route.namespace, route.service) == key and not address.node
        }
        if found != self._listening.get(key):
            self._listening[key] = found
            self._changed()

    def backends(self, route: Route) -> list[tuple[str, int]]:
        """Ready endpoints of a route, in random order; those that are terminating only if there are no
        others.
        """
        slices = [
            item
            for item in self._slices.all(route.namespace)
            if (item["metadata"].get("labels") or {}).get(SERVICE_NAME) == route.service
        ]
        found = backends_of(slices, route.port_name)
        random.shuffle(found)
        return found

    async def stop(self) -> None:
        """Close all listeners."""
        await self._queue.stop()
        for server in self._listeners.values():
            server.close()


def routes_of(service: Object, node: str) -> set[tuple[Listen, Route]]:
    """What to listen on for a Service, and where that leads."""
    meta, spec = service["metadata"], service["spec"]
    found: set[tuple[Listen, Route]] = set()
    for port in spec.get("ports") or []:
        if port.get("protocol", "TCP") != "TCP":
            continue
        route = Route(meta["namespace"], meta["name"], port.get("name") or "")
        if spec.get("clusterIP") not in (None, "", "None"):
            found.add((Listen(spec["clusterIP"], port["port"]), route))
        if port.get("nodePort"):
            found.add((Listen(node, port["nodePort"], node=True), route))
    return found


def backends_of(slices: list[Object], port_name: str) -> list[tuple[str, int]]:
    """Addresses and ports behind a port name."""
    ready: list[tuple[str, int]] = []
    draining: list[tuple[str, int]] = []
    for item in slices:
        for port in item.get("ports") or []:
            if (port.get("name") or "") != port_name or not port.get("port"):
                continue
            for endpoint in item.get("endpoints") or []:
                conditions = endpoint.get("conditions") or {}
                places = [(address, port["port"]) for address in endpoint["addresses"]]
                if conditions.get("ready", True):
                    ready += places
                elif conditions.get("serving") and conditions.get("terminating"):
                    draining += places
    return ready or draining


class _Pipe(asyncio.Protocol):
    """One direction of a relayed connection: what it receives, its peer sends; a slow peer pauses it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.peer: _Pipe | None = None
        self._early: list[bytes] = []
        self._early_eof = False

    def join(self, peer: _Pipe) -> None:
        """Relay to `peer` from now on, beginning with what came before there was one."""
        self.peer = peer
        if self._early:
            peer.transport.write(b"".join(self._early))
            self._early.clear()
        if self._early_eof:
            self.eof_received()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        if self.peer:
            self.peer.transport.write(data)
        else:
            self._early.append(data)
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.peer is None:
            self._early_eof = True
        elif not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer:
            self.peer.transport.close() if error is None else self.peer.transport.abort()
            self.peer = None

    def pause_writing(self) -> None:
        if self.peer and not self.peer.transport.is_closing():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()


class _Client(_Pipe):
    """The side that connected to the Service: keeps what it sends until an endpoint has answered."""

    def __init__(self, proxy: KubeProxy, route: Route) -> None:
        super().__init__()
        self._proxy = proxy
        self._route = route
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        source: Any = self.transport.get_extra_info("peername")
        for host, port in self._proxy.backends(self._route)[:ATTEMPTS]:
            local = (source[0], 0) if source and source[0] != "127.0.0.1" else None
            try:
                _, upstream = await loop.create_connection(_Pipe, host, port, local_addr=local)
            except OSError:
                continue
            if self.transport.is_closing():
                upstream.transport.close()
                return
            for pipe in (self, upstream):
                pipe.transport.resume_reading()
            self.join(upstream)
            upstream.join(self)
            return
        self.transport.abort()  # the nearest thing to "connection refused" after having accepted

    def connection_lost(self, error: Exception | None) -> None:
        if self._connecting:
            self._connecting.cancel()
        super().connection_lost(error)
