"""The whole proxy, told by a real ADS server, between real clients and upstreams."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import xds
from tests.support.ads import CLUSTER, LISTENER, AdsServer
from tests.support.proxies import Lab, until


async def test_a_request_is_routed_and_its_connection_kept(lab: Lab) -> None:
    client = await lab.connect()
    for _ in range(3):
        answer = await client.request("/hello?x=1", headers={"x-mine": "yes"})
        assert (answer.status, answer.header("x-upstream")) == (200, "one")
        assert ["x-mine", "yes"] in answer.json()["headers"]
    assert lab.one.connections == 1


async def test_new_routes_take_effect_on_an_open_connection(lab: Lab) -> None:
    client = await lab.connect()
    assert (await client.request()).header("x-upstream") == "one"
    await lab.push(xds.routes("routes", xds.host(xds.rule("two"))))
    assert (await client.request()).header("x-upstream") == "two"


async def test_a_refused_push_leaves_the_last_good_configuration(lab: Lab) -> None:
    bad = xds.routes("routes", xds.host(xds.rule("two", route={"internal_redirect_policy": {}})))
    await lab.ads.serve(bad)
    reason = await lab.ads.nacked()
    assert "internal_redirect_policy" in reason and "RouteConfiguration routes" in reason
    client = await lab.connect()
    assert (await client.request()).header("x-upstream") == "one"
    await lab.push(xds.routes("routes", xds.host(xds.rule("two"))))
    assert (await client.request()).header("x-upstream") == "two"


async def test_a_listener_that_cannot_bind_is_refused(lab: Lab) -> None:
    taken = lab.one.address
    await lab.ads.serve(xds.listener("taken", *taken, xds.hcm("routes")))
    assert "cannot bind" in await lab.ads.nacked()


async def test_a_missing_cluster_answers_503_until_it_comes(lab: Lab) -> None:
    await lab.push(xds.routes("routes", xds.host(xds.rule("three"))))
    client = await lab.connect()
    assert (await client.request()).status == 503
    await lab.push(xds.cluster("three"), xds.endpoints("three", lab.two.address))
    await until(lambda: "three" in lab.proxy.runtime.clusters)
    assert (await client.request()).header("x-upstream") == "two"


async def test_a_removed_listener_closes_its_port_and_asks_clients_to_leave(lab: Lab) -> None:
    client = await lab.connect()
    await client.request()
    await lab.ads.serve(remove=[(LISTENER, "web")])
    await lab.ads.acked(LISTENER)
    assert (await client.request()).header("connection") == "close"
    assert await client.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await lab.connect()


async def test_a_replaced_listener_keeps_its_port_and_its_connections_meet_the_new_rules(lab: Lab) -> None:
    idle, slow = await lab.connect(), await lab.connect()
    assert (await idle.request()).header("server") == "envoy"
    pending = asyncio.create_task(slow.request("/slow?delay=0.2"))
    await until(lambda: lab.one.requests == 2)
    await lab.push(xds.listener("web", lab.address, 8080, xds.hcm("routes", server_name="other")))
    fresh = await lab.connect()
    assert (await fresh.request()).header("server") == "other"
    assert (await idle.request()).header("server") == "other"
    answer = await pending
    assert (answer.status, answer.header("server"), answer.header("connection")) == (200, "envoy", None)
    assert (await slow.request()).header("server") == "other"


async def test_connections_of_a_door_that_is_gone_drain(lab: Lab) -> None:
    """Such as the plaintext ones when mutual TLS becomes STRICT."""
    slow = await lab.connect()
    pending = asyncio.create_task(slow.request("/slow?delay=0.2"))
    await until(lambda: lab.one.connections == 1)
    other_door = {"filters": [xds.hcm("routes")], "filter_chain_match": {"server_names": ["example.com"]}}
    await lab.push(xds.listener("web", lab.address, 8080, other_door))
    answer = await pending
    assert (answer.status, answer.header("connection")) == (200, "close")


async def test_pushes_under_load_fail_no_request(lab: Lab) -> None:
    stop = asyncio.Event()
    answers: list[tuple[int, str | None]] = []

    async def visit() -> None:
        while not stop.is_set():
            client = await lab.connect()
            for _ in range(20):
                answer = await client.request(headers={"connection": "keep-alive"})
                answers.append((answer.status, answer.header("x-upstream")))
                if answer.header("connection") == "close":
                    break
            client.close()

    visitors = [asyncio.create_task(visit()) for _ in range(4)]
    for number in range(20):
        name = "two" if number % 2 else "one"
        timeout = f"{number + 1}s"
        await lab.push(
            xds.routes("routes", xds.host(xds.rule(name))),
            xds.cluster("one", connect_timeout=timeout),
            xds.listener("web", lab.address, 8080, xds.hcm("routes", server_name=f"v{number}")),
        )
    stop.set()
    await asyncio.gather(*visitors)
    assert {status for status, _ in answers} == {200}
    assert {name for _, name in answers} == {"one", "two"}


async def test_serving_goes_on_while_the_control_plane_is_away(lab: Lab) -> None:
    port = lab.ads.port
    await lab.ads.stop()
    await until(lambda: not lab.proxy.subscription.connected)
    client = await lab.connect()
    assert (await client.request()).status == 200
    again = AdsServer()
    again.resources = lab.ads.resources
    again.versions = {type_url: version + 1 for type_url, version in lab.ads.versions.items()}
    await again.start(port)
    await again.serve(xds.routes("routes", xds.host(xds.rule("two"))))
    await again.acked(CLUSTER, LISTENER, seconds=20)
    await again.acked(seconds=20)
    assert (await client.request()).header("x-upstream") == "two"
    await again.stop()
