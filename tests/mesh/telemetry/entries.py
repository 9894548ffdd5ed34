"""Pods, services and access log entries for tests, as the Kubernetes API and a proxy would write them."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from google.protobuf.json_format import ParseDict

from mesh.telemetry.attributes import Reporter
from mesh.telemetry.directory import Directory

HOST = "reviews.default.svc.cluster.local"


def pod(app: str, version: str, ip: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A pod of Deployment APP-VERSION."""
    name = f"{app}-{version}"
    return {
        "metadata": {
            "name": f"{name}-7d9f-abcde",
            "namespace": namespace,
            "labels": {"app": app, "version": version, "pod-template-hash": "7d9f"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{name}-7d9f",
                    "uid": f"uid-of-{name}",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "serviceAccountName": f"bookinfo-{app}",
            "containers": [{"name": app, "ports": [{"name": "http", "containerPort": 9080}]}],
            **spec,
        },
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }


def service(name: str, namespace: str = "default", target: int | str = 9080) -> dict[str, Any]:
    """A Service that selects label app."""
    ports = [{"name": "http", "port": 9080, "targetPort": target}]
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def by_key(*objects: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Objects as a watch tells changes."""
    return {(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in objects}


def shop_directory() -> Directory:
    """productpage (10.0.0.1), reviews v1 (10.0.0.11) and v2 (10.0.0.12), ratings (10.0.0.2), and a
    gateway.
    """
    directory = Directory()
    directory.change_pods(
        by_key(
            pod("productpage", "v1", "10.0.0.1"),
            pod("reviews", "v1", "10.0.0.11"),
            pod("reviews", "v2", "10.0.0.12"),
            pod("ratings", "v1", "10.0.0.2"),
            pod("gate", "v1", "10.0.9.1", namespace="mesh-system"),
        )
    )
    directory.change_services(by_key(service("productpage"), service("reviews"), service("ratings")))
    return directory


def node_id(app: str, version: str, ip: str, namespace: str = "default") -> str:
    """A sidecar's node id as Istio builds it."""
    return f"sidecar~{ip}~{app}-{version}-7d9f-abcde.{namespace}~{namespace}.svc.cluster.local"


PRODUCTPAGE = Reporter("outbound", "default", "productpage-v1-7d9f-abcde", "10.0.0.1")
REVIEWS_V2 = Reporter("inbound", "default", "reviews-v2-7d9f-abcde", "10.0.0.12")


def san(service_account: str) -> str:
    return f"spiffe://cluster.local/ns/default/sa/{service_account}"


def entry(code: int = 200, **common: Any) -> HTTPAccessLogEntry:
    """An entry; keyword arguments are fields of its common_properties in JSON form."""
    made = ParseDict(
        {
            "common_properties": {"duration": "0.012s", **common},
            "request": {"authority": "reviews:9080", "path": "/reviews/0", "request_method": "GET"},
        },
        HTTPAccessLogEntry(),
    )
    if code:
        made.response.response_code.value = code
    return made


def at(ip: str, port: int = 1) -> dict[str, Any]:
    """An address in JSON form."""
    address = Address(socket_address=SocketAddress(address=ip, port_value=port)).socket_address
    return {"socket_address": {"address": address.address, "port_value": address.port_value}}


def outbound(code: int = 200, to: str = "10.0.0.12", **common: Any) -> HTTPAccessLogEntry:
    """What productpage's sidecar says of a call to reviews."""
    fields = {"upstream_cluster": f"outbound|9080||{HOST}", **common}
    if to:
        fields["upstream_remote_address"] = at(to, 9080)
    return entry(code, **fields)


def inbound(code: int = 200, caller: str = "10.0.0.1", **common: Any) -> HTTPAccessLogEntry:
    """What reviews' sidecar says of a call from productpage over mutual TLS."""
    certificates = {
        "peer_certificate_properties": {"subject_alt_name": [{"uri": san("bookinfo-productpage")}]},
        "local_certificate_properties": {"subject_alt_name": [{"uri": san("bookinfo-reviews")}]},
    }
    fields = {"upstream_cluster": "inbound|9080||", "tls_properties": certificates, **common}
    return entry(code, downstream_direct_remote_address=at(caller, 40000), **fields)
