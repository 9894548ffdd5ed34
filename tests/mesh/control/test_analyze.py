"""Findings between objects, with Istio's codes."""

from __future__ import annotations

from mesh.control.analyze import analyze, findings_about
from mesh.control.world import Credential
from tests.worlds import bookinfo, objects, sample, service

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r}\nspec: "


def said(text: str, *others: object) -> list[tuple[str, str]]:
    """(code, path) of the findings for YAML documents in Bookinfo."""
    world = bookinfo(*objects(text), *others)  # type: ignore[arg-type]
    return [(finding.code, finding.path) for finding in analyze(world)]


def test_istios_samples_are_clean() -> None:
    for name in (
        "virtual-service-all-v1",
        "virtual-service-reviews-90-10",
        "virtual-service-reviews-test-v2",
    ):
        assert analyze(bookinfo(*sample("destination-rule-all"), *sample(name))) == []
    assert analyze(bookinfo(*sample("bookinfo-gateway"))) == []


def test_a_subset_nobody_defines() -> None:
    world = bookinfo(*sample("virtual-service-reviews-v3"))
    (finding,) = analyze(world)
    assert (finding.code, finding.path) == ("IST0101", "spec.http[0].route[0].destination.subset")
    assert "503 (NC)" in finding.sentence
    assert str(finding).startswith("Error [IST0101] (VirtualService default/reviews) spec.http[0]")
    assert findings_about(world, "VirtualService", "default", "reviews") == [finding]
    assert not findings_about(world, "VirtualService", "default", "other")


def test_a_host_that_is_no_service_and_a_hint_for_half_a_name() -> None:
    world = bookinfo(
        *objects(HEAD + "{hosts: [reviews], http: [{route: [{destination: {host: reviews.default}}]}]}")
    )
    (finding,) = analyze(world)
    assert finding.path == "spec.http[0].route[0].destination.host"
    assert "did you mean reviews.default.svc.cluster.local?" in finding.sentence


def test_ports_mirrors_gateways_and_rule_hosts_are_looked_up() -> None:
    text = (
        HEAD
        + """{hosts: [reviews], gateways: [nowhere, mesh], http: [{mirror: {host: gone},
        route: [{destination: {host: reviews, port: {number: 1}}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: gone}"""
    )
    assert said(text) == [
        ("IST0101", "spec.http[0].route[0].destination.port.number"),
        ("IST0101", "spec.http[0].mirror.host"),
        ("IST0101", "spec.gateways[0]"),
        ("IST0101", "spec.host"),
    ]


def test_unreachable_and_repeated_rules() -> None:
    text = (
        HEAD
        + """{hosts: [reviews], http: [
      {match: [{uri: {prefix: /a}}], directResponse: {status: 200}},
      {match: [{uri: {prefix: /a}, name: again}], directResponse: {status: 200}},
      {directResponse: {status: 200}},
      {match: [{uri: {prefix: /b}}], directResponse: {status: 200}}]}"""
    )
    assert said(text) == [("IST0131", "spec.http[1].match[0]"), ("IST0130", "spec.http[3]")]


def test_a_catch_all_for_some_clients_shadows_nothing() -> None:
    text = (
        HEAD
        + """{hosts: [reviews], http: [
      {match: [{sourceLabels: {app: x}}], directResponse: {status: 200}}, {directResponse: {status: 200}}]}"""
    )
    assert said(text) == []


def test_two_virtual_services_for_one_host() -> None:
    rule = "{hosts: [reviews], http: [{directResponse: {status: 200}}]}"
    other = HEAD.replace("name: r", "name: second") + rule
    world = bookinfo(*objects(f"{HEAD}{rule}\n---\n{other}"))
    (finding,) = analyze(world)
    assert (finding.code, finding.name) == ("IST0109", "second")


def test_a_host_the_gateway_does_not_serve() -> None:
    gateway, _ = sample("bookinfo-gateway")
    text = (
        HEAD + "{hosts: [a.example], gateways: [bookinfo-gateway], http: [{directResponse: {status: 200}}]}"
    )
    assert said(text, gateway) == []
    narrow = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bookinfo-gateway}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [b.example]}]}
"""
    assert said(text, *objects(narrow)) == [("IST0132", "spec.hosts[0]")]


def test_a_policy_that_selects_nobody() -> None:
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {selector: {matchLabels: {app: nobody}}}
"""
    assert said(text) == [("IST0127", "spec.selector")]


def test_a_gateway_nobody_plays() -> None:
    gateway, routes = sample("bookinfo-gateway")
    world = bookinfo(gateway, routes)
    (finding,) = analyze(world.evolve(workloads={}))
    assert (finding.code, finding.kind, finding.path) == ("IST0101", "Gateway", "spec.selector")


def test_a_service_that_is_only_a_name() -> None:
    text = HEAD + "{hosts: [reviews], http: [{route: [{destination: {host: outside}}]}]}"
    world = bookinfo(*objects(text))
    outside = service("outside", type="ExternalName", external_name="a.example")
    assert not analyze(world.evolve(services={**world.services, outside.key: outside}))


def test_a_gateway_without_its_certificate() -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: c}}]
"""
    world = bookinfo(*objects(text))
    (finding,) = analyze(world)
    assert (finding.code, finding.path) == ("IST0101", "spec.servers[0].tls.credentialName")
    assert not analyze(world.evolve(secrets={("mesh-system", "c"): Credential(certificate=b"c", key=b"k")}))
