"""The control plane as a whole: a real API server on one side, proxies that speak ADS on the other."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from mesh import manifests
from mesh.ca.protocol import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from mesh.control.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.mesh.control.ads import Ads, ads, node
from tests.mesh.control.conftest import Mesh, Object, path_of, until

NODE = node("productpage-v1-x", "default", "bookinfo-productpage", app="productpage", version="v1")


def virtual_service(weight: int, name: str = "reviews") -> Object:
    routes = [
        {"destination": {"host": name, "subset": "v1"}, "weight": 100 - weight},
        {"destination": {"host": name, "subset": "v2"}, "weight": weight},
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"hosts": [name], "http": [{"route": routes}]},
    }


def weights(response: DiscoveryResponse) -> dict[str, int]:
    """The weighted clusters of the first weighted route in a response."""
    assert response.type_url == ROUTE
    for packed in response.resources:
        for host in RouteConfiguration.FromString(packed.value).virtual_hosts:
            for route in host.routes:
                if route.route.HasField("weighted_clusters"):
                    found = route.route.weighted_clusters.clusters
                    return {one.name.split("|")[2]: one.weight.value for one in found}
    return {}


@asynccontextmanager
async def proxy(mesh: Mesh) -> AsyncIterator[tuple[Ads, DiscoveryResponse]]:
    """A proxy that has taken everything it was given, and its routes."""
    token = mesh.token("bookinfo-productpage")
    async with ads(f"ipv4:{mesh.address}:15012", NODE, mesh.root, token) as stream:
        await stream.ask(CLUSTER)
        clusters = await stream.next()
        found = [Cluster.FromString(packed.value) for packed in clusters.resources]
        await stream.ask(
            ENDPOINT, *(one.eds_cluster_config.service_name for one in found if one.type == Cluster.EDS)
        )
        await stream.ack(clusters)
        await stream.ack(await stream.next())
        await stream.ask(LISTENER)
        listeners = await stream.next()
        await stream.ask(ROUTE, "http_proxy")
        await stream.ack(listeners)
        routes = await stream.next()
        await stream.ack(routes)
        yield stream, routes


def condition(mesh: Mesh, obj: Object, kind: str = "Reconciled") -> Object:
    found = mesh.get(obj).get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


async def test_a_change_of_a_rule_is_pushed_to_the_proxy(mesh: Mesh) -> None:
    async with proxy(mesh) as (stream, _):
        for weight in (10, 20):
            assert mesh.apply(virtual_service(weight))[0] < 300
            response = await stream.next()
            assert weights(response) == {"v1": 100 - weight, "v2": weight}
            await stream.ack(response)
        mesh.api.must("DELETE", path_of(virtual_service(0)))
        response = await stream.next()
        assert weights(response) == {}


async def test_a_refused_rule_is_told_and_the_last_good_one_stays(mesh: Mesh) -> None:
    rule = virtual_service(30)
    async with proxy(mesh) as (stream, _):
        mesh.apply(rule)
        await stream.ack(await stream.next())
        until(lambda: condition(mesh, rule).get("status") == "True", "Reconciled status")
        mesh.apply(virtual_service(40))
        await stream.nack(await stream.next(), "weights I do not like")
        said = until(
            lambda: c if (c := condition(mesh, rule)).get("status") == "False" else None, "refusal in status"
        )
        assert said["reason"] == "Refused"
        assert "productpage-v1-x.default: RDS: weights I do not like" in said["message"]
        row = mesh.debug("/debug/syncz")["proxies"][0]
        assert row["proxy"] == "productpage-v1-x.default"
        assert (
            row["types"]["RDS"]["state"] == "STALE"
            and row["types"]["RDS"]["error"] == "weights I do not like"
        )
        assert row["types"]["CDS"]["state"] == "SYNCED"
        mesh.apply(virtual_service(50))
        response = await stream.next()
        assert weights(response)["v2"] == 50
        await stream.ack(response)
        until(lambda: condition(mesh, rule).get("status") == "True", "healed status")
        assert mesh.get(rule)["status"]["observedGeneration"] == mesh.get(rule)["metadata"]["generation"]
    mesh.api.must("DELETE", path_of(rule))


async def test_a_missing_subset_is_a_warning_and_a_status_until_it_comes(mesh: Mesh) -> None:
    rule = virtual_service(50, "ratings")
    answer = mesh.api.send(
        "PATCH", f"{path_of(rule)}?fieldManager=test&force=true", rule, media="application/apply-patch+yaml"
    )
    assert answer.status < 300
    assert "no DestinationRule defines the subset 'v1'" in answer.headers["Warning"]
    until(lambda: condition(mesh, rule, "PassedAnalysis").get("status") == "False", "finding in status")
    subsets = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "ratings", "namespace": "default"},
        "spec": {
            "host": "ratings",
            "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")],
        },
    }
    mesh.apply(subsets)
    until(lambda: condition(mesh, rule, "PassedAnalysis").get("status") == "True", "status without findings")
    for obj in (rule, subsets):
        mesh.api.must("DELETE", path_of(obj))


def test_a_wrong_rule_is_refused_at_apply_and_nothing_changes(mesh: Mesh) -> None:
    bad = virtual_service(50)
    bad["spec"]["http"][0]["route"][0]["weigth"] = 3
    code, answer = mesh.apply(bad)
    assert code == 422
    assert (
        "spec.http[0].route[0].weigth: is not a field Istio has here; did you mean weight?"
        in answer["message"]
    )
    assert mesh.api.call("GET", path_of(bad))[0] == 404


POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one", "namespace": "default", "labels": {"app": "one"}},
    "spec": {"containers": [{"name": "one", "image": "any"}]},
}


def test_a_pod_of_the_shops_namespace_gets_a_sidecar_and_may_opt_out(mesh: Mesh) -> None:
    made = mesh.api.must("POST", "/api/v1/namespaces/default/pods", POD)
    assert [one["name"] for one in made["spec"]["containers"]] == ["istio-proxy", "one"]
    assert made["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio"
    without = copy.deepcopy(POD)
    without["metadata"] |= {"name": "two", "labels": {"sidecar.istio.io/inject": "false"}}
    made = mesh.api.must("POST", "/api/v1/namespaces/default/pods", without)
    assert [one["name"] for one in made["spec"]["containers"]] == ["one"]


def test_a_new_namespace_is_given_the_root_certificate(mesh: Mesh) -> None:
    mesh.api.must("POST", "/api/v1/namespaces", {"metadata": {"name": "fresh"}})
    path = "/api/v1/namespaces/fresh/configmaps/istio-ca-root-cert"
    answer = until(
        lambda: found if (found := mesh.api.call("GET", path))[0] == 200 else None, "root in namespace"
    )
    assert answer[1]["data"]["root-cert.pem"] == mesh.root


def test_webhooks_whose_bundle_is_lost_are_given_it_again(mesh: Mesh) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/mesh-validator"
    removal = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]
    mesh.api.must("PATCH", path, removal, media="application/json-patch+json")
    until(lambda: "caBundle" in mesh.api.must("GET", path)["webhooks"][0]["clientConfig"], "CA bundle")


ELSEWHERE = node("x", "other", "bookinfo-productpage")
UNKNOWN, IMPOSTOR = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("claims", "account", "audience", "code", "said"),
    [
        (NODE, "", "", UNKNOWN, "no bearer token"),
        (NODE, "bookinfo-productpage", "elsewhere", UNKNOWN, "the token is not"),
        (NODE, "bookinfo-reviews", "istio-ca", IMPOSTOR, "its token is of 'bookinfo-reviews'"),
        (ELSEWHERE, "bookinfo-productpage", "istio-ca", IMPOSTOR, "claims namespace 'other'"),
    ],
)
async def test_a_proxy_must_be_who_it_says(
    mesh: Mesh, claims: Any, account: str, audience: str, code: grpc.StatusCode, said: str
) -> None:
    token = mesh.token(account, audience=audience) if account else ""
    async with ads(f"ipv4:{mesh.address}:15012", claims, mesh.root, token) as stream:
        ended = await stream.refused(CLUSTER)
    assert ended[0] is code
    assert said in ended[1]


async def test_plaintext_xds_is_there_for_this_machine_only(mesh: Mesh) -> None:
    async with ads(f"ipv4:{mesh.address}:15010", NODE) as stream:
        await stream.ask(CLUSTER)
        assert (await stream.next()).resources


async def test_a_node_of_a_strange_form_is_told_so(mesh: Mesh) -> None:
    strange = node("x", "default", "y")
    strange.id = "me"
    async with ads(f"ipv4:{mesh.address}:15010", strange) as stream:
        ended = await stream.refused(CLUSTER)
    assert ended[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert "node id 'me'" in ended[1]


async def test_a_certificate_from_the_running_ca(mesh: Mesh) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    options = (
        ("grpc.ssl_target_name_override", "mesh-control.mesh-system.svc"),
        ("grpc.enable_http_proxy", 0),
    )
    credentials = grpc.ssl_channel_credentials(mesh.root.encode())
    async with grpc.aio.secure_channel(f"ipv4:{mesh.address}:15012", credentials, options) as channel:
        call = channel.unary_unary(
            CREATE_CERTIFICATE, CertificateRequest.SerializeToString, CertificateResponse.FromString
        )
        token = mesh.token("bookinfo-reviews")
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        response = await call(CertificateRequest(csr=pem), metadata=(("authorization", f"Bearer {token}"),))
    leaf = x509.load_pem_x509_certificate(response.cert_chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    ]
    assert "citadel_server_success_cert_issuance_count_total" in mesh.debug("/metrics")


async def test_the_debug_pages_show_what_a_proxy_is_given(mesh: Mesh) -> None:
    async with proxy(mesh):
        dump = mesh.debug("/debug/config_dump?proxy=productpage-v1-x.default")
        assert {"listeners", "routes", "clusters", "endpoints"} == dump.keys()
        assert any(one["name"] == "http_proxy" for one in dump["listeners"])
        assert "no connected proxy is called 'x'" in mesh.debug("/debug/config_dump?proxy=x")["error"]
    services = {(one["namespace"], one["name"]) for one in mesh.debug("/debug/world")["services"]}
    assert ("default", "reviews") in services
    assert "findings" in mesh.debug("/debug/analyze")


async def test_a_kind_that_goes_takes_its_rules_along_and_may_come_back(mesh: Mesh) -> None:
    definition = next(crd for crd in manifests.crds() if crd["spec"]["names"]["kind"] == "VirtualService")

    def known() -> list[Object]:
        rules: list[Object] = mesh.debug("/debug/world")["config"]["VirtualService"]
        return rules

    assert mesh.apply(virtual_service(10))[0] < 300
    until(known, "rule in the world")
    mesh.api.must("DELETE", path_of(definition))
    until(lambda: not known(), "world without the kind")
    assert mesh.debug("/ready") == "ready\n"
    until(lambda: mesh.apply(definition)[0] < 300, "definition applied again")
    until(lambda: mesh.apply(virtual_service(20))[0] < 300, "rule applied again")
    until(known, "rule back in the world")
