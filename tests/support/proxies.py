"""Starts our proxy in the test's own event loop, with a CA that signs at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from mesh.ca.identity import Identity
from mesh.ca.issue import issue
from mesh.ca.root import Root, new_root
from mesh.proxy.app import Proxy
from mesh.proxy.bootstrap import Bootstrap
from mesh.proxy.identity import Signer
from mesh.proxy.xds import Upstream
from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.http import Client, connect

_NUMBERS = itertools.count(1)


def own_address() -> str:
    """A loopback address that no other test uses: by process, then counted."""
    number = next(_NUMBERS)
    pid = os.getpid()
    return f"127.{100 + pid % 90}.{pid // 90 % 250}.{number % 250 + 1}"


@cache
def root() -> Root:
    """The CA of this test run."""
    return new_root("cluster.local", datetime.now(UTC))


def signer(service_account: str, namespace: str = "default", life: float = 3600.0) -> Signer:
    """A CA for one workload, without network. `life` in seconds."""

    async def sign(csr: str) -> list[str]:
        identity = Identity("cluster.local", namespace, service_account)
        return issue(root(), csr, identity, timedelta(seconds=life), datetime.now(UTC))

    return sign


def environment(name: str, namespace: str = "default", **more: str) -> dict[str, str]:
    """What the injector would give; no admin servers unless asked for."""
    return {
        "POD_NAME": f"{name}-0",
        "POD_NAMESPACE": namespace,
        "ISTIO_META_WORKLOAD_NAME": name,
        "ISTIO_METAJSON_LABELS": f'{{"app": "{name.partition("-")[0]}", "version": "v1"}}',
        "PROXY_ADMIN_PORT": "0",
        "STATUS_PORT": "0",
        "ISTIO_HEALTH_PORT": "0",
        "TERMINATION_DRAIN_DURATION_SECONDS": "1",
        **more,
    }


@contextlib.asynccontextmanager
async def running(ads_port: int, environ: dict[str, str], sign: Signer | None = None) -> AsyncIterator[Proxy]:
    """A running proxy, connected to an ADS server on this machine."""
    proxy = Proxy(Bootstrap(environ), Upstream(f"127.0.0.1:{ads_port}", "", None, None), sign)
    task = asyncio.create_task(proxy.run())
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        await task


class Lab:
    """A proxy, its control plane, two upstreams, and the address it listens on."""

    def __init__(self, ads: AdsServer, proxy: Proxy, one: EchoServer, two: EchoServer, address: str) -> None:
        self.ads, self.proxy, self.one, self.two, self.address = ads, proxy, one, two, address

    async def push(self, *messages: Any) -> None:
        """Publish and wait until the proxy has accepted."""
        await self.ads.serve(*messages)
        await self.ads.acked()

    async def route(self, *rules: dict[str, Any], **fields: Any) -> None:
        """Replace the routes."""
        await self.push(xds.routes("routes", xds.host(*rules), **fields))

    async def connect(self, port: int = 8080) -> Client:
        return await connect(self.address, port)


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until a condition of the proxy's own state holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
