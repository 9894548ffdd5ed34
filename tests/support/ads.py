"""A small control plane for tests: serves given resources over ADS, to our proxy and to the real Envoy alike.

`serve(...)` replaces resources by type and name; `acked` waits until every connected proxy has accepted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = PREFIX + "envoy.config.route.v3.RouteConfiguration"
ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE)


def _name(message: Any) -> str:
    return str(getattr(message, "cluster_name", "") or message.name)


class AdsServer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """State-of-the-world ADS. One version counter for all types."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Message]] = {type_url: {} for type_url in ORDER}
        self.versions: dict[str, int] = dict.fromkeys(ORDER, 0)
        self.acks: dict[str, int] = defaultdict(int)
        self.nacks: list[tuple[str, str]] = []
        self.nodes: list[Any] = []
        self.requests: list[discovery_pb2.DiscoveryRequest] = []
        self.port = 0
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> AdsServer:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{host}:{port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    async def serve(self, *messages: Message, remove: Iterable[tuple[str, str]] = ()) -> None:
        """Add or replace resources, remove others, and publish what changed."""
        changed = set()
        for message in messages:
            type_url = PREFIX + message.DESCRIPTOR.full_name
            self.resources[type_url][_name(message)] = message
            changed.add(type_url)
        for type_url, name in remove:
            self.resources[type_url].pop(name, None)
            changed.add(type_url)
        async with self._changed:
            for type_url in changed:
                self.versions[type_url] += 1
            self._changed.notify_all()

    async def acked(self, *type_urls: str, seconds: float = 10.0) -> None:
        """Wait until the newest version of these types (default: all published) is accepted."""
        wanted = type_urls or tuple(t for t in ORDER if self.versions[t])
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: all(self.acks[t] >= self.versions[t] for t in wanted))

    async def nacked(self, count: int = 1, seconds: float = 10.0) -> str:
        """Wait for the `count`-th NACK; its reason."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.nacks) >= count)
        return self.nacks[count - 1][1]

    async def StreamAggregatedResources(
        self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest], context: Any
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        watched: dict[str, set[str]] = {}
        sent: dict[str, tuple[int, set[str]]] = {}
        reader = asyncio.ensure_future(self._read(requests, watched))
        try:
            while True:
                due = None
                async with self._changed:
                    await self._changed.wait_for(lambda: reader.done() or self._due(watched, sent))
                    if reader.done():
                        return
                    due = self._due(watched, sent)
                assert due is not None
                sent[due] = (self.versions[due], set(watched[due]))
                yield self._response(due, watched[due])
        finally:
            reader.cancel()

    async def _read(self, requests: Any, watched: dict[str, set[str]]) -> None:
        async for request in requests:
            async with self._changed:
                self.requests.append(request)
                if request.node.id:
                    self.nodes.append(request.node)
                if request.HasField("error_detail"):
                    self.nacks.append((request.type_url, request.error_detail.message))
                elif request.response_nonce:
                    version = int(request.version_info or 0)
                    self.acks[request.type_url] = max(self.acks[request.type_url], version)
                watched[request.type_url] = set(request.resource_names)
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    def _due(self, watched: dict[str, set[str]], sent: dict[str, tuple[int, set[str]]]) -> str | None:
        """The first type that has something to send. Wildcard types from the start, others when named."""
        for type_url in ORDER:
            if type_url not in watched or not self.versions[type_url]:
                continue
            version, names = sent.get(type_url, (0, set()))
            if version < self.versions[type_url] or watched[type_url] - names:
                return type_url
        return None

    def _response(self, type_url: str, names: set[str]) -> discovery_pb2.DiscoveryResponse:
        everything = type_url in (CLUSTER, LISTENER)
        version = str(self.versions[type_url])
        response = discovery_pb2.DiscoveryResponse(version_info=version, type_url=type_url, nonce=version)
        for name, message in self.resources[type_url].items():
            if everything or name in names:
                packed = AnyMessage()
                packed.Pack(message, deterministic=True)
                response.resources.append(packed)
        return response
