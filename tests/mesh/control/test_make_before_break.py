"""Make before break, judged by a real Envoy: while clusters and routes are exchanged under load, no request fails."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from mesh.control.publish import Publisher
from mesh.control.server import DiscoveryServer
from mesh.control.world import MeshConfig, Proxy, World
from tests.oracle.ads import Ads, running_envoy
from tests.oracle.certificates import issue
from tests.worlds import bookinfo, objects, sidecar

ADDRESSES = f"127.{160 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
"""Loopback addresses of this run alone."""

RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {tls: {mode: DISABLE}}
  subsets:
  - {name: round%(round)d, labels: {version: v1}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: round%(round)d}
"""


class Published(Ads):
    """The oracle's server of secrets with our own publication of everything else."""

    def __init__(self, publisher: Publisher, proxy: Proxy) -> None:
        super().__init__(*issue(f"spiffe://cluster.local/ns/default/sa/{proxy.service_account}"))
        self._discovery, self._proxy = DiscoveryServer(publisher, None), proxy

    async def StreamAggregatedResources(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        await self._discovery.stream(self._introduced(requests), context)

    async def _introduced(self, requests: Any) -> AsyncIterator[Any]:
        """The requests, with what the oracle's bootstrap does not say of the node."""
        async for request in requests:
            if request.HasField("node"):
                request.node.metadata.update({"APP_ADDRESS": self._proxy.app_address})
            yield request


def world(number: int) -> World:
    """Each round has a subset of a new name, so that a cluster comes and another goes."""
    rules = objects(RULES % {"round": number})
    return bookinfo(*rules, first_octets=ADDRESSES, mesh=MeshConfig(access_log_service=None))


@asynccontextmanager
async def reviews(address: str) -> AsyncIterator[None]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="fine")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, 9080).start()
    yield
    await runner.cleanup()


async def current(publisher: Publisher, wanted: World) -> None:
    """Wait until the one proxy has accepted all of this world."""
    async with asyncio.timeout(30):
        while not (publisher.connections and publisher.connections[0].accepted is wanted):
            await asyncio.sleep(0.002)


async def load(session: aiohttp.ClientSession, proxy: str, seen: Counter[str]) -> None:
    while True:
        async with session.get("http://reviews:9080/", proxy=proxy) as response:
            flags = "" if response.status == 200 else await response.text()
            seen[f"{response.status} {flags}".strip()] += 1


async def test_no_request_fails_while_clusters_and_routes_are_exchanged() -> None:
    first = world(0)
    proxy, publisher, seen = sidecar("productpage-v1", first), Publisher(), Counter[str]()
    publishing = asyncio.ensure_future(publisher.run())
    publisher.update(first)
    endpoint = first.endpoints["default", "reviews"][0].address
    async with (
        reviews(endpoint),
        running_envoy(proxy, Published(publisher, proxy)),
        aiohttp.ClientSession() as session,
    ):
        await current(publisher, first)
        through = f"http://{proxy.app_address}:15001"
        async with asyncio.timeout(10):  # the listener is bound a moment after it has been accepted
            while True:
                try:
                    async with session.get("http://reviews:9080/", proxy=through):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)
        clients = [asyncio.ensure_future(load(session, through, seen)) for _ in range(4)]
        for number in range(1, 16):
            before, latest = seen.total(), world(number)
            publisher.update(latest)
            await current(publisher, latest)
            while seen.total() < before + 20 and not any(client.done() for client in clients):
                await asyncio.sleep(0.002)
        connection = publisher.connections[0]
        names = connection.stream.types["type.googleapis.com/envoy.config.cluster.v3.Cluster"].accepted
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    publishing.cancel()
    assert seen.keys() == {"200"}, seen
    assert connection.refusals == {}
    rounds = [name for name in names if "round" in name]
    assert rounds == ["outbound|9080|round15|reviews.default.svc.cluster.local"], "the old clusters are gone"
