"""One proxy with one listener `web` on port 8080, and two upstreams as clusters `one` and `two`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.proxies import Lab, environment, own_address, running, until


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    ads = await AdsServer().start()
    one, two = await EchoServer("one").start(), await EchoServer("two").start()
    address = own_address()
    async with running(ads.port, environment("test-v1")) as proxy:
        found = Lab(ads, proxy, one, two, address)
        await found.push(
            xds.cluster("one"),
            xds.endpoints("one", one.address),
            xds.cluster("two"),
            xds.endpoints("two", two.address),
            xds.listener("web", address, 8080, xds.hcm("routes")),
            xds.routes("routes", xds.host(xds.rule("one"))),
        )
        await until(lambda: proxy.ready)
        yield found
    for server in (one, two):
        await server.stop()
    await ads.stop()
