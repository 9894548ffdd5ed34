"""Kubernetes objects as the API server shows them, short to write."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def meta(name: str, namespace: str = "default", **more: Any) -> Object:
    """Metadata; the resourceVersion counts for nothing unless it is given."""
    return {"name": name, "namespace": namespace, "creationTimestamp": "2026-03-01T12:00:00Z", **more}


def service(name: str, *ports: Object, namespace: str = "default", **spec: Any) -> Object:
    ports = ports or ({"name": "http", "port": 9080, "targetPort": 9080, "protocol": "TCP"},)
    return {
        "metadata": meta(name, namespace),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.0.0.1",
            "selector": {"app": name},
            "ports": [*ports],
            **spec,
        },
    }


def pod(name: str, ip: str = "10.1.0.1", app: str = "reviews", sidecar: bool = True, **more: Any) -> Object:
    """A running pod of Deployment `app`-v1."""
    labels = {"app": app, "version": "v1", "pod-template-hash": "5d4f"} | more.pop("labels", {})
    annotations = {"sidecar.istio.io/status": "{}"} if sidecar else {}
    if sidecar:
        labels["security.istio.io/tlsMode"] = "istio"
    owner = {"kind": "ReplicaSet", "name": f"{app}-v1-5d4f", "controller": True}
    return {
        "metadata": meta(name, labels=labels, annotations=annotations, ownerReferences=[owner]),
        "spec": {
            "serviceAccountName": f"bookinfo-{app}",
            "containers": [
                {"name": "istio-proxy", "ports": [{"containerPort": 15090}]},
                {"name": app, "ports": [{"containerPort": 9080, "name": "http"}]},
            ],
        },
        "status": {"phase": "Running", "podIP": ip} | more,
    }


def endpoint(ip: str, pod_name: str | None = None, ready: bool | None = True) -> Object:
    found: Object = {"addresses": [ip], "conditions": {} if ready is None else {"ready": ready}}
    return found | (
        {"targetRef": {"kind": "Pod", "name": pod_name, "namespace": "default"}} if pod_name else {}
    )


def endpoint_slice(name: str, of: str, *endpoints: Object, port: int = 9080) -> Object:
    return {
        "metadata": meta(name, labels={"kubernetes.io/service-name": of}),
        "addressType": "IPv4",
        "endpoints": [*endpoints],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }


def virtual_service(name: str, weight: int = 100, **metadata: Any) -> Object:
    routes = [
        {"destination": {"host": name, "subset": "v1"}, "weight": weight},
        {"destination": {"host": name, "subset": "v2"}, "weight": 100 - weight},
    ]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": meta(name, **metadata),
        "spec": {"hosts": [name], "http": [{"route": routes}]},
    }
