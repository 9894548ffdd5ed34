"""Services that Kubernetes does not know of, and what a Sidecar object lets a workload see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesh.api import parse, validate
from mesh.control.compile import CLUSTER, ENDPOINT, LISTENER, ROUTE, compile
from mesh.control.registry import by_hostname, endpoints_of
from mesh.control.world import Proxy, World
from tests.worlds import bookinfo, objects, service, sidecar


def entry(spec: str, name: str = "e", namespace: str = "default", kind: str = "ServiceEntry") -> Any:
    head = f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return objects(f"{head}spec: {spec}")[0]


HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"


def cluster(world: World, name: str, proxy: Proxy | None = None) -> Any:
    return compile(world, proxy or sidecar()).by_type[CLUSTER][name]


def addresses(assignment: Any) -> list[tuple[str, int]]:
    sockets = [
        e.endpoint.address.socket_address for place in assignment.endpoints for e in place.lb_endpoints
    ]
    return [(socket.address, socket.port_value) for socket in sockets]


def domains(world: World, proxy: Proxy | None = None) -> set[str]:
    table: Any = compile(world, proxy or sidecar()).by_type[ROUTE]["http_proxy"]
    return {domain for host in table.virtual_hosts for domain in host.domains}


def test_dns_endpoints_are_looked_up_by_the_proxy() -> None:
    world = bookinfo(entry(f"{{hosts: [a.example.com], {HTTP}, resolution: DNS}}"))
    found = cluster(world, "outbound|80||a.example.com")
    assert found.type == found.STRICT_DNS
    assert addresses(found.load_assignment) == [("a.example.com", 80)]
    assert not found.transport_socket_matches, "outside of the mesh nobody speaks its TLS"
    assert {"a.example.com", "a.example.com:80"} <= domains(world)
    many = bookinfo(
        entry(f"{{hosts: [a.b], {HTTP}, resolution: DNS_ROUND_ROBIN, endpoints: [{{address: x.y}}]}}")
    )
    assert cluster(many, "outbound|80||a.b").type == found.LOGICAL_DNS


def test_without_resolution_the_client_says_where_to() -> None:
    world = bookinfo(entry(f'{{hosts: ["*.example.com", b.example.com], {HTTP}}}'))
    wild = cluster(world, "outbound|80||*.example.com")
    assert wild.type == wild.ORIGINAL_DST
    assert wild.lb_policy == wild.CLUSTER_PROVIDED
    named = cluster(world, "outbound|80||b.example.com")
    assert named.type == named.STRICT_DNS, "through an HTTP proxy all that is known is the name"
    captured = cluster(world, "outbound|80||b.example.com", replace(sidecar(), interception="REDIRECT"))
    assert captured.type == captured.ORIGINAL_DST


def test_static_endpoints_are_pods_and_workload_entries_that_are_selected() -> None:
    ports = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9080}]"
    spec = (
        f"{{hosts: [r.internal], {ports}, location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {{labels: \
{{app: ratings}}}}}}"
    )
    old = entry(
        "{address: 10.9.9.9, labels: {app: ratings}, ports: {http: 1}, serviceAccount: old}",
        kind="WorkloadEntry",
    )
    world = bookinfo(entry(spec), old)
    found: Any = compile(world, sidecar()).by_type[ENDPOINT]["outbound|80||r.internal"]
    assert addresses(found) == [("10.0.0.6", 9080), ("10.9.9.9", 1)]
    modes = [
        e.metadata.filter_metadata["envoy.transport_socket_match"]["tlsMode"]
        for e in found.endpoints[0].lb_endpoints
    ]
    assert modes == ["istio", "istio"]
    kubernetes: Any = compile(world, sidecar()).by_type[ENDPOINT][
        "outbound|9080||ratings.default.svc.cluster.local"
    ]
    assert addresses(kubernetes) == [("10.0.0.6", 9080), ("10.9.9.9", 1)], "a Service selects them too"


def test_an_external_name_is_another_name() -> None:
    world = bookinfo()
    other = service("other", type="ExternalName", external_name="x.example", resolution="DNS", external=True)
    world = world.evolve(services={**world.services, other.key: other})
    found = cluster(world, "outbound|9080||other.default.svc.cluster.local")
    assert addresses(found.load_assignment) == [("x.example", 9080)]


def test_of_two_for_one_host_the_own_namespace_wins() -> None:
    one = entry(
        f"{{hosts: [a.b], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.1.1}}]}}", namespace="shop"
    )
    two = entry(f"{{hosts: [a.b], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.1.2}}]}}")
    world = bookinfo(one, two)
    shop = replace(sidecar(), namespace="shop", id="sidecar~1~a.shop~x")
    for proxy, expected in ((sidecar(), "10.0.1.2"), (shop, "10.0.1.1")):
        found: Any = compile(world, proxy).by_type[CLUSTER]["outbound|80||a.b"]
        assert found.metadata.filter_metadata["istio"]["services"][0]["namespace"] == proxy.namespace, (
            expected
        )


def test_an_unchanged_entry_keeps_its_services_and_endpoints() -> None:
    world = bookinfo(
        entry(f"{{hosts: [a.b], {HTTP}, resolution: STATIC, endpoints: [{{address: 10.0.1.1}}]}}")
    )
    first = by_hostname(world)["a.b"]
    later = world.evolve(services=dict(world.services))
    assert by_hostname(later)["a.b"] is first
    assert endpoints_of(later, first) is endpoints_of(world, first)


NARROW = """{egress: [{hosts: ["./reviews.default.svc.cluster.local", "mesh-system/*"]}],
             outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"""


def test_a_sidecar_object_hides_what_it_does_not_name() -> None:
    world = bookinfo(entry(NARROW, kind="Sidecar"))
    assert "reviews:9080" in domains(world)
    assert "ratings:9080" not in domains(world)
    resources = compile(world, sidecar()).by_type
    assert "outbound|9080||ratings.default.svc.cluster.local" not in resources[CLUSTER]
    table: Any = resources[ROUTE]["http_proxy"]
    assert table.virtual_hosts[-1].routes[0].direct_response.status == 502


def test_the_nearest_sidecar_object_holds() -> None:
    selecting = entry(
        '{workloadSelector: {labels: {app: ratings}}, egress: [{hosts: ["./details.default.svc.cluster.local"]}]}',
        "z",
        kind="Sidecar",
    )
    whole = entry('{egress: [{hosts: ["~/*"]}]}', "root", "mesh-system", kind="Sidecar")
    world = bookinfo(entry(NARROW, kind="Sidecar"), selecting, whole)
    assert "details:9080" in domains(world, sidecar("ratings-v1"))
    assert "reviews:9080" in domains(world)
    shop = replace(sidecar(), namespace="shop", id="sidecar~1~a.shop~x")
    assert domains(world, shop) == {"*"}


def test_ports_of_a_sidecar_object_are_listeners() -> None:
    spec = """{workloadSelector: {labels: {app: productpage}},
      ingress: [{port: {number: 9080, protocol: HTTP}, defaultEndpoint: "127.0.0.1:9999"}],
      egress: [{port: {number: 9080, protocol: HTTP}, hosts: ["./reviews.default.svc.cluster.local"]},
               {port: {number: 27017, protocol: TCP}, hosts: ["./*"]}, {hosts: ["./*"]}]}"""
    resources = compile(bookinfo(entry(spec, kind="Sidecar")), sidecar()).by_type
    own = sidecar().app_address
    assert {f"{own}_9080", f"{own}_27017", "http_proxy", "10.0.0.1_9080"} == set(resources[LISTENER])
    app: Any = resources[CLUSTER]["inbound|9080||"]
    assert addresses(app.load_assignment) == [(own, 9999)]
    table: Any = resources[ROUTE]["9080"]
    assert [host.name for host in table.virtual_hosts] == [
        "reviews.default.svc.cluster.local:9080",
        "allow_any",
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "path", "sentence"),
    [
        ("ServiceEntry", {"hosts": ["*"]}, "spec.hosts[0]", "everything"),
        ("ServiceEntry", {"hosts": ["*.a.b"], "resolution": "DNS"}, "spec.hosts[0]", "cannot look"),
        (
            "ServiceEntry",
            {"resolution": "STATIC", "endpoints": [{"address": "a.b"}]},
            "spec.endpoints[0].address",
            "IP",
        ),
        ("ServiceEntry", {"endpoints": [{"address": "1.2.3.4"}]}, "spec.endpoints", "no effect"),
        ("ServiceEntry", {"resolution": "DYNAMIC_DNS"}, "spec.resolution", "not supported"),
        ("ServiceEntry", {"addresses": ["x"]}, "spec.addresses[0]", "IP address"),
        ("WorkloadEntry", {"address": "unix:///x"}, "spec.address", "Unix socket"),
        ("WorkloadEntry", {"address": "1.2.3.4", "network": "n"}, "spec.network", "not supported"),
        ("Sidecar", {}, "spec", "at least one of"),
        ("Sidecar", {"egress": [{"hosts": ["x"]}]}, "spec.egress[0].hosts[0]", "NAMESPACE/HOST"),
        (
            "Sidecar",
            {"ingress": [{"port": {"number": 1, "protocol": "TCP"}}]},
            "spec.ingress",
            "workloadSelector",
        ),
    ],
)
def test_what_is_wrong_is_said(kind: str, spec: dict[str, Any], path: str, sentence: str) -> None:
    if kind == "ServiceEntry":
        spec = {"hosts": ["a.b"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], **spec}
    (problem, *_) = validate(
        {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    )
    assert problem.path == path
    assert sentence in problem.sentence


def test_a_service_entry_survives_the_round_trip() -> None:
    found = entry(f"{{hosts: [a.b], {HTTP}, resolution: DNS, endpoints: [{{address: x.y, weight: 3}}]}}")
    document = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "e"}}
    assert parse({**document, "spec": found.spec.to_yaml()}).spec == found.spec
