"""Behind iptables: two real sockets, and routes for each port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesh.control.compile import CLUSTER, LISTENER, ROUTE, compile
from mesh.control.world import MeshConfig, ServicePort, World
from tests.worlds import bookinfo, sample, service, sidecar


def compiled(world: World) -> Any:
    return compile(world, replace(sidecar("reviews-v1", world), interception="REDIRECT")).by_type


def with_database(world: World) -> World:
    database = service("db", ServicePort("tcp", 27017, 27017, "TCP"), cluster_ip="10.9.0.1")
    return world.evolve(services={**world.services, database.key: database})


def test_only_the_two_virtual_listeners_have_sockets() -> None:
    found = compiled(with_database(bookinfo()))[LISTENER]
    bound = {name for name, listener in found.items() if not listener.HasField("bind_to_port")}
    assert bound == {"virtualOutbound", "virtualInbound"}
    ports = {"0.0.0.0_80", "0.0.0.0_8080", "0.0.0.0_9080", "0.0.0.0_15011", "0.0.0.0_15013"}
    assert set(found) == {*bound, *ports, "10.9.0.1_27017"}
    assert found["virtualOutbound"].use_original_dst.value


def test_each_port_has_its_routes_without_ports_in_domains() -> None:
    found = compiled(bookinfo(*sample("virtual-service-reviews-v3")))[ROUTE]
    assert set(found) == {"80", "8080", "9080", "15011", "15013"}
    table = found["9080"]
    assert table.ignore_port_in_host_matching
    hosts = {host.name: host for host in table.virtual_hosts}
    reviews = hosts["reviews.default.svc.cluster.local:9080"]
    assert list(reviews.domains)[-1] == "reviews"
    assert "|v3|" in reviews.routes[0].route.cluster
    assert "mesh-telemetry.mesh-system.svc.cluster.local:15013" not in hosts


def test_inbound_chains_are_chosen_by_port() -> None:
    inbound = compiled(bookinfo())[LISTENER]["virtualInbound"]
    names = [(chain.name, chain.filter_chain_match.destination_port.value) for chain in inbound.filter_chains]
    assert names == [
        ("15006-blackhole", 15006),
        ("9080-mtls", 9080),
        ("9080-plaintext", 9080),
        ("virtualInbound-catchall-mtls", 0),
        ("virtualInbound-catchall-plaintext", 0),
    ]


def test_clusters_for_what_nobody_declares() -> None:
    found = compiled(bookinfo())[CLUSTER]
    assert found["InboundPassthroughCluster"].upstream_bind_config.source_address.address == "127.0.0.6"
    assert not found["PassthroughCluster"].HasField("original_dst_lb_config")


def test_a_closed_mesh_lets_no_unknown_connection_out() -> None:
    world = bookinfo(mesh=MeshConfig(outbound_traffic_policy="REGISTRY_ONLY"))
    outbound = compiled(world)[LISTENER]["virtualOutbound"]
    assert b"BlackHoleCluster" in outbound.filter_chains[1].filters[0].typed_config.value


def test_the_app_is_reached_at_the_pods_own_address_from_one_that_is_not_caught() -> None:
    world = bookinfo()
    cluster = compiled(world)[CLUSTER]["inbound|9080||"]
    endpoint = cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint
    assert endpoint.address.socket_address.address == sidecar("reviews-v1", world).ip
    assert cluster.upstream_bind_config.source_address.address == "127.0.0.6"


def test_where_nothing_stands_before_the_app_there_is_no_inbound_listener() -> None:
    world = bookinfo()
    proxy = replace(sidecar("reviews-v1", world), inbound_capture=False)
    found = compile(world, proxy).by_type
    assert set(found[LISTENER]) == {"http_proxy"}
    assert not any(name.startswith("inbound|") for name in found[CLUSTER])
