"""The real Envoy, told by our control plane and reading the same file, finds the same places and
devices, and routes by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from google.protobuf.json_format import MessageToDict

from mesh.control.compile import edge
from mesh.proxy.geography import installed
from mesh.shop.population import people
from tests.oracle.test_same import _open, envoy
from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.http import connect
from tests.support.proxies import environment, own_address, running, until
from tests.worlds import gateway

SPANISH = {"prefix": "/", "headers": [{"name": "x-geo-country", "string_match": {"exact": "ES"}}]}
ADDRESSES = [
    *("83.36.1.1", "8.8.8.8", "2a0c:5a80::1", "::ffff:83.36.1.1", "10.0.0.1", "nonsense", "83.36.1.1:80", ""),
    *(
        "fe80::1%eth0",
        "127.0.0.1",
        "192.0.2.1",
        "83.36.1.1, 8.8.8.8",
        "8.8.8.8,83.36.1.1",
        "83.36.1.1, 10.0.0.1",
    ),
    *(person.address for person in people(150, 3, installed())),
]


def manager(is_envoy: bool) -> dict[str, Any]:
    proxy = replace(gateway(), geo_database=installed(), is_envoy=is_envoy)
    filters = [MessageToDict(each, preserving_proto_field_name=True) for each in edge.filters(proxy)]
    return xds.hcm("routes", filters=filters, use_remote_address=True, xff_num_trusted_hops=1)


async def told(place: tuple[str, int]) -> list[tuple[str, list[Any]]]:
    """For each address: which upstream was chosen, and the geography it saw."""
    client = await connect(*place)
    found = []
    for address in ADDRESSES:
        claims = {"x-forwarded-for": address, "x-geo-country": "XX", "X-Geo-City": "Nowhere"}
        answer = await client.request(headers=claims)
        headers = sorted(tuple(pair) for pair in answer.json()["headers"] if pair[0].startswith("x-geo"))
        found.append((answer.header("x-upstream"), headers))
    return found


async def devices(place: tuple[str, int], agents: set[str]) -> list[Any]:
    """What each User-Agent is taken for, whatever the client claims."""
    client = await connect(*place)
    found = []
    for agent in sorted(agents):
        answer = await client.request(headers={"user-agent": agent, "x-device-family": "toaster"})
        headers = answer.json()["headers"]
        found.append(sorted(tuple(pair) for pair in headers if pair[0].startswith("x-device")))
    assert all(found)
    return found


async def test_both_find_the_same_places() -> None:
    one, two = await EchoServer("one").start(), await EchoServer("two").start()
    theirs, ours = (own_address(), 8080), (own_address(), 8080)
    ads = [await AdsServer().start() for _ in range(2)]
    async with envoy(ads[0].port), running(ads[1].port, environment("geo")) as proxy:
        for place, server in ((theirs, ads[0]), (ours, ads[1])):
            await server.serve(
                xds.cluster("one"),
                xds.endpoints("one", one.address),
                xds.cluster("two"),
                xds.endpoints("two", two.address),
                xds.listener("web", *place, manager(is_envoy=place is theirs)),
                xds.routes("routes", xds.host(xds.rule("two", SPANISH), xds.rule("one"))),
            )
        await until(lambda: proxy.ready)
        await _open(theirs)
        assert not ads[0].nacks and not ads[1].nacks
        by_us, by_envoy = await told(ours), await told(theirs)
        differing = [each for each in zip(ADDRESSES, by_us, by_envoy, strict=True) if each[1] != each[2]]
        assert differing == []
        assert {upstream for upstream, _ in by_us} == {"one", "two"}
        for name in ("iPhone", "Mac", "iPad", "PC"):
            agents = {person.agent for person in people(300, 3, installed()) if person.device == name}
            assert await devices(ours, agents) == await devices(theirs, agents)
    for server in (one, two, *ads):
        await server.stop()
