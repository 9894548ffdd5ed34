"""Mutual TLS between two of our proxies: who is let in, and certificates that change under load."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mesh.ca.identity import Identity
from mesh.ca.issue import issue
from mesh.proxy.app import Proxy
from mesh.proxy.identity import CaError, Certificate, Secrets, keep_renewed, new_key_and_request
from mesh.proxy.tls import TlsSpec
from tests.support import xds
from tests.support.ads import LISTENER, AdsServer
from tests.support.echo import EchoServer
from tests.support.http import connect
from tests.support.proxies import environment, own_address, root, running, signer, until

RBAC = {
    "@type": xds.RBAC,
    "rules": {
        "action": "ALLOW",
        "policies": {
            "friends": {
                "permissions": [{"any": True}],
                "principals": [
                    {
                        "authenticated": {
                            "principal_name": {"exact": "spiffe://cluster.local/ns/default/sa/friend"}
                        }
                    }
                ],
            }
        },
    },
}


SNI = "outbound_.9080_._.server.default.svc.cluster.local"


class Pair:
    """A client's sidecar (`out`) and a server's (`into`), and the app behind it."""

    def __init__(self, ads: dict[str, AdsServer], app: EchoServer, into: str, out: str) -> None:
        self.ads, self.app, self.into, self.out = ads, app, into, out
        self.proxies: dict[str, Proxy] = {}


def inbound(address: str, *, strict: bool, rules: dict[str, Any] | None = None) -> Any:
    filters = [{"name": "envoy.filters.http.rbac", "typed_config": rules}] if rules else []
    manager = xds.hcm("in", filters=filters, forward_client_cert_details="APPEND_FORWARD",
                      set_current_client_cert_details={"uri": True})  # fmt: skip
    chains = [
        {
            "filter_chain_match": {"transport_protocol": "tls"},
            "filters": [manager],
            "transport_socket": xds.mutual_tls(xds.DOWNSTREAM_TLS, require_client_certificate=True),
        }
    ]
    if not strict:
        chains.append({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager]})
    return xds.listener(
        "in", address, 9080, *chains, listener_filters=[xds.tls_inspector()], traffic_direction="INBOUND"
    )


@contextlib.asynccontextmanager
async def pair(
    *,
    client: str = "friend",
    life: float = 3600.0,
    strict: bool = True,
    server_name: str = "spiffe://cluster.local/ns/default/sa/server",
) -> AsyncIterator[Pair]:
    app = await EchoServer("app").start()
    ads = {"in": await AdsServer().start(), "out": await AdsServer().start()}
    found = Pair(ads, app, own_address(), own_address())
    await ads["in"].serve(
        xds.cluster("app"),
        xds.endpoints("app", app.address),
        inbound(found.into, strict=strict, rules=RBAC if strict else None),
        xds.routes("in", xds.host(xds.rule("app"))),
    )
    await ads["out"].serve(
        xds.cluster("server", transport_socket=xds.mutual_tls(xds.UPSTREAM_TLS, (server_name,), sni=SNI)),
        xds.endpoints("server", (found.into, 9080)),
        xds.listener("out", found.out, 15001, xds.hcm("out"), traffic_direction="OUTBOUND"),
        xds.routes("out", xds.host(xds.rule("server"))),
    )
    async with (
        running(ads["in"].port, environment("server-v1"), signer("server", life=life)) as into,
        running(ads["out"].port, environment("client-v1"), signer(client, life=life)) as out,
    ):
        found.proxies = {"in": into, "out": out}
        await until(lambda: into.ready and out.ready)
        yield found
    await app.stop()
    for server in ads.values():
        await server.stop()


async def test_the_app_learns_who_called_and_metrics_say_so() -> None:
    async with pair() as found:
        client = await connect(found.out, 15001)
        answer = await client.request()
        assert answer.status == 200
        headers = dict(answer.json()["headers"])
        assert headers["x-forwarded-client-cert"].endswith("URI=spiffe://cluster.local/ns/default/sa/friend")
        assert "x-envoy-peer-metadata" not in headers
        into, out = ("\n".join(found.proxies[side].metrics.render()) for side in ("in", "out"))
    assert 'source_principal="spiffe://cluster.local/ns/default/sa/friend"' in into
    assert 'connection_security_policy="mutual_tls"' in into
    assert 'reporter="source"' in out
    assert 'destination_principal="spiffe://cluster.local/ns/default/sa/server"' in out


async def test_a_stranger_is_denied() -> None:
    async with pair(client="stranger") as found:
        client = await connect(found.out, 15001)
        answer = await client.request()
        assert (answer.status, answer.body) == (403, b"RBAC: access denied")
        assert found.app.requests == 0


async def test_strict_refuses_plain_text() -> None:
    async with pair() as found:
        client = await connect(found.into, 9080)
        await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await client.closed() == b""
        assert found.app.requests == 0


async def test_strict_refuses_a_client_without_certificate() -> None:
    async with pair() as found:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            client = await connect(found.into, 9080, ssl=context)
            await client.request()
        assert found.app.requests == 0


async def test_permissive_takes_both_on_one_port() -> None:
    async with pair(strict=False) as found:
        plain, mutual = await connect(found.into, 9080), await connect(found.out, 15001)
        assert (await plain.request()).status == 200
        assert (await mutual.request()).status == 200


async def test_a_server_with_another_name_is_not_spoken_to() -> None:
    async with pair(server_name="spiffe://cluster.local/ns/default/sa/other") as found:
        client = await connect(found.out, 15001)
        answer = await client.request()
        assert answer.status == 503 and b"verify SAN" in answer.body
        assert found.app.requests == 0


async def test_certificates_that_live_two_seconds_rotate_under_load_and_fail_no_request() -> None:
    async with pair(life=2.0) as found:
        stop = asyncio.get_running_loop().time() + 4.5
        serials: set[str] = set()
        statuses: list[int] = []

        async def visit() -> None:
            while asyncio.get_running_loop().time() < stop:
                client = await connect(found.out, 15001)
                for _ in range(5):
                    statuses.append((await client.request()).status)
                    certificate = found.proxies["in"].secrets.certificate
                    assert certificate is not None
                    serials.add(certificate.serial)
                client.close()
                # New connections to the server too, each with the newest certificates.
                for endpoint in found.proxies["out"].runtime.clusters["server"].endpoints.values():
                    endpoint.pool.close_idle(asyncio.get_running_loop().time())

        await asyncio.gather(*(visit() for _ in range(3)))
        assert set(statuses) == {200} and len(statuses) > 50
        assert len(serials) >= 3


async def test_a_listener_waits_for_its_certificate() -> None:
    ads, address = await AdsServer().start(), own_address()
    answers: asyncio.Queue[bool] = asyncio.Queue()
    sign = signer("server")

    async def late(csr: str) -> list[str]:
        if not await answers.get():
            raise CaError("not yet")
        return await sign(csr)

    await ads.serve(
        xds.cluster("app"), inbound(address, strict=True), xds.routes("in", xds.host(xds.rule("app")))
    )
    async with running(ads.port, environment("server-v1"), late) as proxy:
        await ads.acked(LISTENER)
        assert not proxy.ready
        assert "certificate" in proxy.runtime.waiting_for[0]
        await answers.put(False)
        await answers.put(True)
        await until(lambda: proxy.ready)
    await ads.stop()


async def test_the_ca_is_asked_again_until_it_signs() -> None:
    secrets, failures = Secrets(), 3

    async def sign(csr: str) -> list[str]:
        nonlocal failures
        if failures:
            failures -= 1
            raise CaError("away")
        return await signer("a")(csr)

    task = asyncio.create_task(keep_renewed(secrets, sign))
    await until(lambda: secrets.certificate is not None)
    task.cancel()
    assert secrets.uri == "spiffe://cluster.local/ns/default/sa/a"


def test_contexts_are_made_once_for_a_certificate_and_anew_for_the_next() -> None:
    secrets, spec = Secrets(), TlsSpec("default", "ROOTCA")
    identity, now = Identity("cluster.local", "default", "a"), datetime.now(UTC)
    contexts = []
    for _ in range(2):
        key, csr = new_key_and_request()
        secrets.set_certificate(Certificate(issue(root(), csr, identity, timedelta(hours=1), now), key))
        contexts.append(secrets.client_context(spec))
        assert secrets.client_context(spec) is contexts[-1]
    assert contexts[0] is not contexts[1]
