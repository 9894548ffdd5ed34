"""Hundreds of clients that lie, break off, stay silent or leave: afterwards nothing of them is left."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.mesh.proxy.test_codec import _PIECES, ATTACKS
from tests.mesh.proxy.test_identity import inbound
from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.http import connect
from tests.support.proxies import environment, own_address, running, signer, until

DESCRIPTORS = Path("/proc/self/fd")


def _descriptors() -> int:
    """Open file descriptors of this process."""
    return sum(1 for _ in DESCRIPTORS.iterdir())


async def _visit(address: str, draw: random.Random) -> None:
    """One bad client of a PERMISSIVE port: nonsense, attacks, half of a ClientHello, or requests it does not await."""
    kinds = [
        b"".join(draw.choice(_PIECES) for _ in range(draw.randint(1, 12))),
        draw.choice(ATTACKS),
        b"\x16\x03\x01\x02\x00" + draw.randbytes(draw.randint(1, 300)),
        b"GET /?delay=1 HTTP/1.1\r\nhost: t\r\n\r\n",
        b"GET /?reset=1 HTTP/1.1\r\nhost: t\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: t\r\n\r\n" * draw.randint(1, 5),
    ]
    try:
        client = await connect(address, 9080)
        await client.send(draw.choice(kinds))
        if draw.random() < 0.5:
            async with asyncio.timeout(0.05):
                await client.reader.read(1000)
        client.close()
    except (OSError, TimeoutError):
        pass


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="counts descriptors where Linux shows them")
async def test_nothing_is_left_of_bad_clients() -> None:
    ads, app, address = await AdsServer().start(), await EchoServer("app").start(), own_address()
    await ads.serve(
        xds.cluster("app"),
        xds.endpoints("app", app.address),
        inbound(address, strict=False),
        xds.routes("in", xds.host(xds.rule("app", route={"timeout": "0.2s"}))),
    )
    async with running(ads.port, environment("a-v1"), signer("a")) as proxy:
        await until(lambda: proxy.ready)
        client = await connect(address, 9080)
        assert (await client.request()).status == 200
        descriptors, tasks, draw = _descriptors(), len(asyncio.all_tasks()), random.Random(1)
        for _ in range(3):
            await asyncio.gather(*(_visit(address, draw) for _ in range(200)))
        cluster = proxy.runtime.clusters["app"]
        chains = [c.http for each in proxy.runtime.listeners.values() for c in each.chains if c.http]
        await until(lambda: sum(len(chain.connections) for chain in chains) == 1)
        await until(lambda: cluster.breaker.requests == 0 and cluster.breaker.pending == 0)
        # What idles in the pool is no leak; everything else is.
        await until(lambda: _descriptors() <= descriptors + 2 * cluster.breaker.connections)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert (await client.request()).status == 200
    await app.stop()
    await ads.stop()
