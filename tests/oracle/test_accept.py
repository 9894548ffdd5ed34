"""The real Envoy accepts every resource the control plane compiles: no NACK, every listener listening."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from envoy.config.listener.v3.listener_pb2 import Listener
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mesh.api import parse
from mesh.control.compile import LISTENER, Resources, compile
from mesh.control.world import ExtAuthz, MeshConfig, Proxy, ServicePort, World
from mesh.proxy.geography import installed
from tests.oracle.ads import Ads, RunningEnvoy, running_envoy
from tests.oracle.certificates import issue
from tests.strategies import virtual_services
from tests.worlds import SAMPLES, bookinfo, by_kind, gateway, objects, sample, service, sidecar

#: Loopback addresses of this run alone.
_ADDRESSES = f"127.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"

EVERYTHING = (Path(__file__).parents[1] / "samples" / "everything.yaml").read_text()


def worlds() -> dict[str, World]:
    """Name -> world: Bookinfo bare, with each of Istio's manifests, and with every field we honour at once."""
    rules = sample("destination-rule-all")
    found = {"bare": bookinfo(first_octets=_ADDRESSES)}
    for name in SAMPLES:
        own = sample(name)
        named = {(each.kind, each.name) for each in own}
        rest = (each for each in rules if (each.kind, each.name) not in named)
        found[name] = bookinfo(*own, *rest, first_octets=_ADDRESSES)
    asked = (
        ExtAuthz(
            "opa", "reviews.default.svc.cluster.local", 9080, timeout=1.0, body_bytes=1024, partial_body=True
        ),
        ExtAuthz(
            *("web", "details.default.svc.cluster.local", 9080),
            http=True,
            path_prefix="/check",
            request_headers=("x-user", "x-a-*"),
            extra_headers=(("x-from", "mesh"),),
            to_upstream=("x-allowed",),
            to_client_on_deny=("*-why",),
            to_client_on_allow=("x-ok",),
        ),
    )
    collector = ("mesh-telemetry.mesh-system.svc.cluster.local", 15011)
    mesh = MeshConfig(
        ext_authz=asked,
        trust_domain_aliases=("old.local",),
        log_providers=(("mesh-telemetry", collector),),
        trace_providers=(("jaeger", collector),),
    )
    found["everything"] = bookinfo(*objects(EVERYTHING), mesh=mesh, first_octets=_ADDRESSES)
    database = service(
        "db", ServicePort("tcp", 27017, 27017, "TCP"), cluster_ip="10.9.0.1", selector={"app": "productpage"}
    )
    secure = service("secure", ServicePort("tls", 443, 8443, "TLS"), cluster_ip="10.9.0.2")
    found["tcp"] = found["everything"].evolve(
        services={**found["everything"].services, database.key: database, secure.key: secure}
    )
    closed = MeshConfig(
        outbound_traffic_policy="REGISTRY_ONLY", access_log_service=None, enable_auto_mtls=False
    )
    found["closed"] = bookinfo(*objects(EVERYTHING), mesh=closed, first_octets=_ADDRESSES)
    return found


def at_own_address(resources: Resources, address: str) -> Resources:
    """The same, but sockets for all addresses (0.0.0.0) are only at `address`, so that tests do not meet."""
    moved = {}
    for name, listener in resources.by_type[LISTENER].items():
        copy = Listener()
        copy.CopyFrom(listener)
        if not copy.HasField("bind_to_port"):
            copy.address.socket_address.address = address
        moved[name] = copy
    return Resources({**resources.by_type, LISTENER: moved})


async def _accepts_all(proxy: Proxy) -> None:
    ads = Ads(*issue(f"spiffe://cluster.local/ns/{proxy.namespace}/sa/{proxy.service_account}"))
    async with running_envoy(proxy, ads) as envoy:
        for name, world in worlds().items():
            resources = compile(world, proxy)
            if proxy.interception == "REDIRECT":
                resources = at_own_address(resources, proxy.ip)
            await ads.serve(resources)
            try:
                await ads.accepted()
            except (AssertionError, TimeoutError) as error:
                pytest.fail(f"{proxy.type}, world {name}: {error!r}\n{envoy.log.read_text()[-4000:]}")
            assert await listening(envoy) == set(resources.by_type[LISTENER]), name


async def listening(envoy: RunningEnvoy) -> set[str]:
    """Names of the listeners Envoy has taken into service; fails on any it holds back with an error."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{envoy.admin}/config_dump?resource=dynamic_listeners") as response:
            dump = json.loads(await response.text())
    found = dump.get("configs", [])
    assert not any("error_state" in each for each in found), found
    return {each["name"] for each in found if "active_state" in each}


@pytest.fixture
def sidecar_proxy() -> Proxy:
    return sidecar(world=bookinfo(first_octets=_ADDRESSES))


async def test_envoy_accepts_what_a_sidecar_gets(sidecar_proxy: Proxy) -> None:
    await _accepts_all(sidecar_proxy)


async def test_envoy_accepts_what_a_sidecar_behind_iptables_gets(sidecar_proxy: Proxy) -> None:
    await _accepts_all(replace(sidecar_proxy, interception="REDIRECT"))


async def test_envoy_accepts_what_a_gateway_gets() -> None:
    proxy = gateway(bookinfo(first_octets=_ADDRESSES))
    await _accepts_all(replace(proxy, geo_database=installed(), is_envoy=True))


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.generate,)
)
@given(st.lists(virtual_services(), min_size=12, max_size=20))
def test_envoy_accepts_whatever_we_accept(documents: list[dict[str, Any]]) -> None:
    """What passes our validation is never refused by the data plane: each document is one more push."""

    async def push_all() -> None:
        world = bookinfo(*sample("destination-rule-all"), first_octets=_ADDRESSES)
        proxy = sidecar(world=world)
        ads = Ads(*issue("spiffe://cluster.local/ns/default/sa/x"))
        async with running_envoy(proxy, ads):
            for document in documents:
                await ads.serve(compile(world.evolve(config=by_kind((parse(document),))), proxy))
                try:
                    await ads.accepted()
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{json.dumps(document)}") from None

    asyncio.run(push_all())
