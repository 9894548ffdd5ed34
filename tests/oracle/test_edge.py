"""What Gateway objects mean to a real Envoy: TLS ended, demanded of clients, passed on; redirects; bare TCP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mesh.control.compile import compile
from mesh.control.compile.secrets import SECRET
from mesh.control.world import Credential, Proxy, World
from tests.oracle.ads import Ads, running_envoy
from tests.oracle.certificates import issue
from tests.worlds import bookinfo, gateway, objects

_ADDRESSES = f"127.{60 + os.getpid() % 30}.{os.getpid() // 30 % 250}"
CERTIFICATE, KEY, ROOT = issue("spiffe://outside/edge")

RULES = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: mesh-system}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ["plain.example"]}
    - {port: {number: 8080, name: redirect, protocol: HTTP}, hosts: ["simple.example"], tls: {httpsRedirect: true}}
    - port: {number: 8443, name: simple, protocol: HTTPS}
      hosts: ["*/simple.example"]
      tls: {mode: SIMPLE, credentialName: server}
    - port: {number: 8443, name: mutual, protocol: HTTPS}
      hosts: ["mutual.example", "elsewhere/hidden.example"]
      tls: {mode: MUTUAL, credentialName: server}
    - {port: {number: 8443, name: through, protocol: TLS}, hosts: ["through.example"], tls: {mode: PASSTHROUGH}}
    - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [plain.example, simple.example, mutual.example, through.example, hidden.example]
  gateways: [mesh-system/edge]
  http: [{route: [{destination: {host: app.internal, port: {number: 80}}}]}]
  tls: [{match: [{sniHosts: [through.example]}], route: [{destination: {host: app.internal, port: {number: 443}}}]}]
  tcp: [{route: [{destination: {host: app.internal, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app.internal]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: ADDRESS, ports: {http: 8001, tls: 8002}}]
"""


def context(*, own: bool) -> ssl.SSLContext:
    """A client outside of the mesh, with a certificate of its own or without."""
    found = ssl.create_default_context(cadata=ROOT.decode())
    found.check_hostname = False
    if own:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pair.pem"
            path.write_bytes(KEY + CERTIFICATE)
            found.load_cert_chain(path)
    return found


def server_context() -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.write_bytes(KEY + CERTIFICATE)
        found.load_cert_chain(path)
    return found


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.scheme} {request.headers.get('x-forwarded-client-cert', '')}")


@contextlib.asynccontextmanager
async def app(address: str) -> AsyncIterator[None]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, address, 8001).start()
    await web.TCPSite(runner, address, 8002, ssl_context=server_context()).start()
    yield
    await runner.cleanup()


@dataclass
class Edge:
    proxy: Proxy
    ads: Ads
    session: aiohttp.ClientSession

    async def get(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> tuple[int, str, str]:
        """(status, body, location) of a request to this host that arrives at this port of the gateway."""
        url = f"{'https' if tls else 'http'}://{self.proxy.ip}:{port}/"
        asked = self.session.get(
            url,
            ssl=tls or False,
            server_hostname=host if tls else None,
            headers={"Host": host},
            allow_redirects=False,
        )
        async with asked as response:
            return response.status, await response.text(), response.headers.get("location", "")


def world() -> World:
    found = bookinfo(*objects(RULES.replace("ADDRESS", f"{_ADDRESSES}.200")), first_octets=_ADDRESSES)
    return found.evolve(
        secrets={("mesh-system", "server"): Credential(certificate=CERTIFICATE, key=KEY, ca=ROOT)}
    )


async def test_what_a_gateway_does_with_tls() -> None:
    proxy = gateway(world())
    resources = compile(world(), proxy)
    assert set(resources.by_type[SECRET]) == {"kubernetes://server", "kubernetes://server-cacert"}
    ads = Ads(*issue("spiffe://cluster.local/ns/mesh-system/sa/mesh-gateway"))
    async with app(f"{_ADDRESSES}.200"), running_envoy(proxy, ads), aiohttp.ClientSession() as session:
        await ads.serve(resources)
        await ads.accepted()
        edge = Edge(proxy, ads, session)
        for _ in range(100):
            with contextlib.suppress(aiohttp.ClientError):
                if (await edge.get("simple.example", 8443, context(own=False)))[0] == 200:
                    break
            await asyncio.sleep(0.05)
        assert (await edge.get("plain.example", 8080))[0] == 200
        assert (await edge.get("other.example", 8080))[0] == 404
        status, _, location = await edge.get("simple.example", 8080)
        assert (status, location) == (301, "https://simple.example/")
        assert (await edge.get("simple.example", 8443, context(own=False)))[0] == 200
        status, body, _ = await edge.get("mutual.example", 8443, context(own=True))
        assert status == 200
        assert "URI=spiffe://outside/edge" in body, "the app is told who called"
        with pytest.raises(aiohttp.ClientError):
            await edge.get("mutual.example", 8443, context(own=False))
        assert (await edge.get("hidden.example", 8443, context(own=True)))[0] == 404, "for another namespace"
        assert (await edge.get("through.example", 8443, context(own=False)))[1].startswith("https"), (
            "ends in the app"
        )
        assert (await edge.get("whatever", 9000))[0] == 200, "bytes both ways"
