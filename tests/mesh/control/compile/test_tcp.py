"""Routes for connections: by server name, by port and by who asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from mesh.control.compile import LISTENER, compile
from mesh.control.world import ServicePort, World
from tests.worlds import bookinfo, objects, service, sidecar

RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: streams}
spec:
  hosts: [db]
  tcp:
    - match: [{port: 27017, sourceLabels: {app: productpage}}]
      route: [{destination: {host: db, subset: v1}, weight: 1}, {destination: {host: db, subset: v2}, weight: 3}]
    - route: [{destination: {host: db, subset: v3}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: names}
spec:
  hosts: ["*.secure.example", secure.default.svc.cluster.local]
  tls:
    - {match: [{sniHosts: [a.secure.example]}, {sniHosts: [b.secure.example]}], route: [{destination: {host: db}}]}
"""


def world() -> World:
    found = bookinfo(*objects(RULES))
    database = service("db", ServicePort("tcp", 27017, 27017, "TCP"), cluster_ip="10.9.0.1")
    secure = service("secure", ServicePort("tls", 443, 8443, "TLS"), cluster_ip="10.9.0.2")
    return found.evolve(services={**found.services, database.key: database, secure.key: secure})


def chains(name: str, workload: str = "productpage-v1") -> list[tuple[list[str], Any]]:
    """(server names, TCP proxy) of each filter chain."""
    proxy = replace(sidecar(workload), interception="REDIRECT")
    listener: Any = compile(world(), proxy).by_type[LISTENER][name]
    found = []
    for chain in listener.filter_chains:
        read = tcp_proxy_pb2.TcpProxy()
        assert chain.filters[0].typed_config.Unpack(read)
        found.append((list(chain.filter_chain_match.server_names), read))
    return found


def test_weights_divide_connections_and_labels_say_whose() -> None:
    ((_, split),) = chains("10.9.0.1_27017")
    assert [(to.name.split("|")[2], to.weight) for to in split.weighted_clusters.clusters] == [
        ("v1", 1),
        ("v2", 3),
    ]
    ((_, other),) = chains("10.9.0.1_27017", "ratings-v1")
    assert other.cluster == "outbound|27017|v3|db.default.svc.cluster.local"


def test_server_names_choose_and_the_rest_goes_to_the_service() -> None:
    found = chains("10.9.0.2_443")
    assert [(names, read.cluster.split("|")[3].split(".")[0]) for names, read in found] == [
        (["a.secure.example"], "db"),
        (["b.secure.example"], "db"),
        ([], "secure"),
    ]
