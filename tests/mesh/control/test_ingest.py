"""From Kubernetes' dicts to the world's records."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mesh.control import ingest
from mesh.control.world import MeshConfig, WorkloadPort
from tests.mesh.control.kubernetes import endpoint, endpoint_slice, pod, service


@pytest.mark.parametrize(
    ("name", "app_protocol", "port", "expected"),
    [
        ("http", None, 9080, "HTTP"),
        ("http-api", None, 1, "HTTP"),
        ("http2-x", None, 1, "HTTP2"),
        ("grpc", None, 1, "GRPC"),
        ("grpc-web", None, 1, "HTTP"),
        ("https", None, 443, "HTTPS"),
        ("tls-x", None, 1, "TLS"),
        ("tcp", None, 80, "TCP"),
        ("web", None, 8000, "HTTP"),
        ("", None, 3306, "TCP"),
        (None, None, 8000, "HTTP"),
        ("http", "grpc", 1, "GRPC"),
        ("tcp", "kubernetes.io/h2c", 1, "HTTP2"),
        ("httpx", None, 5432, "TCP"),
    ],
)
def test_protocol(name: str | None, app_protocol: str | None, port: int, expected: str) -> None:
    assert ingest.protocol(name, app_protocol, port) == expected
    assert ingest.protocol(name, app_protocol, port, "UDP") == "UDP"


def test_service() -> None:
    made = ingest.service(service("reviews"), "cluster.local")
    assert (made.hostname, made.cluster_ip) == ("reviews.default.svc.cluster.local", "10.0.0.1")
    assert made.ports[0].protocol == "HTTP"
    assert made.created == 1772366400.0
    assert ingest.service(service("db", clusterIP="None"), "cluster.local").cluster_ip == ""


def test_workload_knows_its_deployment_its_account_and_its_ports_but_not_the_sidecars() -> None:
    made = ingest.workload(pod("reviews-v1-5d4f-x"))
    assert made is not None
    assert (made.workload_name, made.service_account, made.injected) == (
        "reviews-v1",
        "bookinfo-reviews",
        True,
    )
    assert made.ports == (WorkloadPort(9080, "http"),)


@pytest.mark.parametrize("status", [{"podIP": ""}, {"phase": "Succeeded"}, {"phase": "Failed"}])
def test_a_pod_that_has_no_address_or_has_ended_is_no_workload(status: dict[str, Any]) -> None:
    assert ingest.workload(pod("x", **status)) is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"name": "alone"}, ("alone", "Pod")),
        ({"generateName": "job-"}, ("job", "Pod")),
        (
            {"name": "db-0", "ownerReferences": [{"kind": "StatefulSet", "name": "db", "controller": True}]},
            ("db", "StatefulSet"),
        ),
        (
            {"name": "x", "ownerReferences": [{"kind": "ReplicaSet", "name": "x-1", "controller": True}]},
            ("x-1", "ReplicaSet"),
        ),
    ],
)
def test_workload_name(metadata: dict[str, Any], expected: tuple[str, str]) -> None:
    assert ingest.workload_name(metadata) == expected


def test_endpoints_know_the_pod_behind_them() -> None:
    known = ingest.workload(pod("reviews-1", "10.1.0.1"))
    assert known is not None
    slices = [
        endpoint_slice("b", "reviews", endpoint("10.1.0.2", ready=False), endpoint("10.1.0.3", ready=None)),
        endpoint_slice("a", "reviews", endpoint("10.1.0.1", "reviews-1")),
    ]
    found = ingest.endpoints(slices, {("default", "reviews-1"): known})
    assert [(one.address, one.ready, one.tls_mode) for one in found] == [
        ("10.1.0.1", True, "istio"),
        ("10.1.0.2", False, "disabled"),
        ("10.1.0.3", True, "disabled"),
    ]
    assert (found[0].workload_name, found[0].service_account) == ("reviews-v1", "bookinfo-reviews")
    assert found == ingest.endpoints(reversed(slices), {("default", "reviews-1"): known})


def test_the_installed_mesh_config_is_the_default() -> None:
    from mesh import manifests

    config = next(obj for obj in manifests.mesh() if obj["kind"] == "ConfigMap")
    assert ingest.mesh_config(config["data"]["mesh"]) == MeshConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not YAML"),
        ("- a", "must be a mapping"),
        ("outboundTrafficPolicy: {mode: SOME}", "outboundTrafficPolicy.mode: 'SOME'"),
        ("interception: TPROXY", "interception: 'TPROXY'"),
        ("connectTimeout: soon", "'soon' is not a duration"),
        ("defaultProviders: {accessLogging: [x]}", "no envoyHttpAls provider of the name 'x'"),
    ],
)
def test_bad_mesh_config_is_refused(text: str, said: str) -> None:
    with pytest.raises(ingest.ConfigError, match=said):
        ingest.mesh_config(text)


@pytest.mark.parametrize(("text", "expected"), [("24h", 86400), ("1m30s", 90), ("0.5s", 0.5), ("10s", 10)])
def test_seconds(text: str, expected: float) -> None:
    assert ingest.seconds(text) == expected


def test_a_pod_says_its_place_by_label() -> None:
    labels = {"istio-locality": "here.a.rack-1"}
    pod = {"metadata": {"name": "p", "namespace": "n", "labels": labels}, "status": {"podIP": "10.0.0.1"}}
    found = ingest.workload(pod)
    assert found is not None
    assert found.locality == ("here", "a", "rack-1")


def secret(**data: str) -> dict[str, object]:
    encoded = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {"metadata": {"name": "s", "namespace": "n"}, "data": encoded}


def test_a_secret_is_a_credential_when_it_has_a_certificate_with_its_key_or_authorities() -> None:
    found = ingest.credential(secret(tls_crt="c", tls_key="k", ca_crt="a"))
    assert found is not None
    assert (found.certificate, found.key, found.ca, found.crl) == (b"c", b"k", b"a", b"")
    assert "k" not in repr(found).removeprefix("Credential"), "a key is not for logs"
    older = ingest.credential(secret(cert="c", key="k", cacert="a"))
    assert older == found
    assert ingest.credential(secret(cacert="a")) is not None
    assert ingest.credential(secret(tls_crt="c")) is None
    assert ingest.credential(secret(password="p")) is None
    root = {
        "metadata": {"name": "istio-ca-secret", "namespace": "mesh-system"},
        "data": secret(cacert="a")["data"],
    }
    assert ingest.credential(root) is None, "the mesh's own root is served to nobody"
