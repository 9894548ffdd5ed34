"""Gateways: ports from Gateway objects, hosts both sides name, rules of all VirtualServices bound to them."""

from __future__ import annotations

from typing import Any

from mesh.control.compile import LISTENER, ROUTE, compile
from tests.mesh.control.compile.test_listeners import manager
from tests.worlds import bookinfo, gateway, objects, sample

EDGE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: mesh-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [HOSTS]}]
"""
SHOP = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec:
  hosts: [VHOSTS]
  gateways: [mesh-system/edge]
  http: [{name: NAME, match: [{uri: {prefix: /NAME}}], route: [{destination: {host: productpage}}]}]
"""


def edge(hosts: str) -> Any:
    return objects(EDGE.replace("HOSTS", hosts))[0]


def shop(name: str, hosts: str) -> Any:
    return objects(SHOP.replace("VHOSTS", hosts).replace("NAME", name))[0]


def virtual_hosts(*config: Any, port: int = 8080) -> dict[str, list[str]]:
    """Domain -> names of its routes."""
    world = bookinfo(*config)
    table: Any = compile(world, gateway(world)).by_type[ROUTE][f"http.{port}"]
    return {domain: [r.name for r in host.routes] for host in table.virtual_hosts for domain in host.domains}


def test_istios_bookinfo_gateway_serves_the_product_page() -> None:
    world = bookinfo(*sample("bookinfo-gateway"))
    found = compile(world, gateway(world)).by_type
    assert set(found[LISTENER]) == {"10.0.0.51_8080"}
    table: Any = found[ROUTE]["http.8080"]
    (host,) = table.virtual_hosts
    assert list(host.domains) == ["*"]
    assert [route.match.path or route.match.prefix for route in host.routes] == [
        "/productpage",
        "/static",
        "/login",
        "/logout",
        "/api/v1/products",
    ]
    assert {route.route.cluster for route in host.routes} == {
        "outbound|9080||productpage.default.svc.cluster.local"
    }


def test_the_port_of_the_service_leads_to_the_port_of_the_pod() -> None:
    world = bookinfo(edge('"*"'))
    assert set(compile(world, gateway(world)).by_type[LISTENER]) == {"10.0.0.51_8080"}


def test_without_gateway_objects_nothing_listens() -> None:
    assert not compile(bookinfo(), gateway()).by_type[LISTENER]


def test_without_rules_every_request_is_unknown() -> None:
    assert virtual_hosts(edge('"*"')) == {"*": []}


def test_the_narrower_host_counts() -> None:
    assert virtual_hosts(edge('"*"'), shop("a", "shop.example")) == {"shop.example": ["a"]}
    assert virtual_hosts(edge("shop.example"), shop("a", '"*.example"')) == {"shop.example": ["a"]}
    assert virtual_hosts(edge("other.example"), shop("a", "shop.example")) == {"*": []}


def test_a_host_may_be_for_rules_of_one_namespace_only() -> None:
    assert virtual_hosts(edge("default/*"), shop("a", "shop.example")) == {"shop.example": ["a"]}
    assert virtual_hosts(edge("other/*"), shop("a", "shop.example")) == {"*": []}
    assert virtual_hosts(edge("./*"), shop("a", "shop.example")) == {"*": []}


def test_rules_for_one_host_are_joined() -> None:
    found = virtual_hosts(edge('"*"'), shop("a", "shop.example"), shop("b", "shop.example"))
    assert found == {"shop.example": ["a", "b"]}


def test_the_edge_believes_nobody() -> None:
    world = bookinfo(edge('"*"'))
    found = compile(world, gateway(world)).by_type
    listener: Any = found[LISTENER]["10.0.0.51_8080"]
    http = manager(listener.filter_chains[0])
    assert http.use_remote_address.value
    assert http.forward_client_cert_details == http.SANITIZE_SET
    table: Any = found[ROUTE]["http.8080"]
    assert "x-envoy-peer-metadata" in table.request_headers_to_remove
