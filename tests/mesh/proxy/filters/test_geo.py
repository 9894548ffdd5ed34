"""The gateway's headers about where a client is: set from the trusted address, never from what the client says."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.control.compile import edge
from mesh.proxy.filters.geo import Geo
from mesh.proxy.geography import atlas, installed
from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.proxies import Lab, environment, own_address, running, until

MALAGA = "83.36.1.1"
SPAIN = {"x-geo-country": "ES", "x-geo-region": "AN", "x-geo-city": "Vélez-Málaga"}


def gateway(database: str, hops: int = 1) -> dict[str, Any]:
    """A connection manager as gateways have it."""
    from google.protobuf.json_format import MessageToDict

    filters = [
        MessageToDict(f, preserving_proto_field_name=True) for f in (edge.strip(), edge.geoip(database))
    ]
    return xds.hcm("routes", filters=filters, use_remote_address=True, xff_num_trusted_hops=hops)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    ads, one, two = (
        await AdsServer().start(),
        await EchoServer("one").start(),
        await EchoServer("two").start(),
    )
    address = own_address()
    spanish = {"prefix": "/", "headers": [{"name": "x-geo-region", "string_match": {"exact": "AN"}}]}
    async with running(ads.port, environment("gateway")) as proxy:
        found = Lab(ads, proxy, one, two, address)
        await found.push(
            xds.cluster("one"),
            xds.endpoints("one", one.address),
            xds.cluster("two"),
            xds.endpoints("two", two.address),
            xds.listener("web", address, 8080, gateway(installed())),
            xds.routes("routes", xds.host(xds.rule("two", spanish), xds.rule("one"))),
        )
        await until(lambda: proxy.ready)
        yield found
    for server in (one, two, ads):
        await server.stop()


async def seen(lab: Lab, forwarded: str | None = None, **claims: str) -> tuple[str, dict[str, str]]:
    """Which upstream was chosen, and what it was told of geography."""
    client = await lab.connect()
    headers = {name.replace("_", "-"): value for name, value in claims.items()}
    if forwarded is not None:
        headers["x-forwarded-for"] = forwarded
    answer = await client.request(headers=headers)
    assert answer.status == 200
    told = {name: value.encode("latin-1").decode() for name, value in answer.json()["headers"]}
    client.close()
    return answer.header("x-upstream"), {k: v for k, v in told.items() if k.startswith(("x-geo", "x-device"))}


async def test_routes_see_where_the_client_is(lab: Lab) -> None:
    assert await seen(lab, MALAGA) == ("two", SPAIN)
    assert await seen(lab, "8.8.8.8") == ("one", {"x-geo-country": "US"})


NOWHERE = """
10.0.0.1|nonsense|83.36.1.1:80|83.36.1.1%eth0|fe80::1%eth0|,,,|ÿþ|83.36.1.1, 10.0.0.1|83.36.1.1, nonsense
""".strip().split("|")


@pytest.mark.parametrize("forwarded", ["", *NOWHERE, f"{MALAGA}, " * 9 + "192.168.0.1", "a" * 8000])
async def test_an_address_that_tells_nothing_gets_no_header(lab: Lab, forwarded: str) -> None:
    assert await seen(lab, forwarded) == ("one", {})


async def test_ten_hops_count_from_the_end(lab: Lab) -> None:
    assert await seen(lab, "8.8.8.8, " * 9 + MALAGA) == ("two", SPAIN)
    await lab.push(xds.listener("web", lab.address, 8080, gateway(installed(), hops=10)))
    assert await seen(lab, MALAGA + ", 8.8.8.8" * 9) == ("two", SPAIN)
    assert await seen(lab, "8.8.8.8, " + MALAGA) == ("one", {})  # too few hops: the connection's own address


async def test_without_trusted_hops_nobody_is_believed(lab: Lab) -> None:
    await lab.push(xds.listener("web", lab.address, 8080, gateway(installed(), hops=0)))
    assert await seen(lab, MALAGA) == ("one", {})


async def test_claims_are_removed_whatever_the_lookup_finds(lab: Lab) -> None:
    claims = {"x_geo_country": "ES", "X_Geo_Region": "AN", "x_geo_city": "Cádiz", "x_device_family": "iPhone"}
    assert await seen(lab, **claims) == ("one", {})
    assert await seen(lab, "8.8.8.8", **claims) == ("one", {"x-geo-country": "US"})
    assert await seen(lab, MALAGA, X_GEO_COUNTRY="FR") == ("two", SPAIN)


async def test_a_gateway_without_database_serves_and_matches_nothing(lab: Lab) -> None:
    await lab.push(xds.listener("web", lab.address, 8080, gateway("/does/not/exist.mmdb")))
    assert await seen(lab, MALAGA) == ("one", {})


def test_many_addresses_do_not_grow_memory() -> None:
    place = Geo("geo", atlas(installed()), {"country": "c", "region": "r", "city": "t"})

    def ask(first: int, last: int) -> int:
        for number in range(first, last):
            address = f"{80 + number // 65536 % 16}.{number // 256 % 256}.{number % 256}.1"
            exchange: Any = SimpleNamespace(headers=[], client_address=address)
            place.on_request(exchange)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = ask(0, 20_000)
        after = ask(20_000, 60_000)
    finally:
        tracemalloc.stop()
    assert full < 16_000_000
    assert after < full * 1.2
