"""Worlds written by hand for tests: Istio's Bookinfo with sidecars, as the control plane would see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mesh.api import ConfigObject, parse
from mesh.control.world import (
    Endpoint,
    Labels,
    MeshConfig,
    Namespace,
    Proxy,
    Service,
    ServicePort,
    Workload,
    WorkloadPort,
    World,
)

#: (workload, service, version, service account)
BOOKINFO = (
    ("productpage-v1", "productpage", "v1", "bookinfo-productpage"),
    ("details-v1", "details", "v1", "bookinfo-details"),
    ("reviews-v1", "reviews", "v1", "bookinfo-reviews"),
    ("reviews-v2", "reviews", "v2", "bookinfo-reviews"),
    ("reviews-v3", "reviews", "v3", "bookinfo-reviews"),
    ("ratings-v1", "ratings", "v1", "bookinfo-ratings"),
)
SAMPLES: Mapping[str, list[Any]] = yaml.safe_load(
    (Path(__file__).parent / "samples" / "bookinfo.yaml").read_text()
)


def service(name: str, *ports: ServicePort, namespace: str = "default", **fields: Any) -> Service:
    """A ClusterIP service that selects pods by `app`; port 9080 named http unless others are given."""
    return Service(
        namespace=namespace,
        name=name,
        hostname=f"{name}.{namespace}.svc.cluster.local",
        ports=ports or (ServicePort("http", 9080, 9080),),
        selector=fields.pop("selector", {"app": name}),
        **fields,
    )


def pod(name: str, ip: str, labels: Labels, namespace: str = "default", **fields: Any) -> Workload:
    return Workload(
        namespace=namespace,
        name=f"{name}-0",
        ip=ip,
        labels=labels,
        workload_name=name,
        injected=fields.pop("injected", True),
        ports=fields.pop("ports", (WorkloadPort(9080, "http"),)),
        **fields,
    )


def endpoint(workload: Workload, port: int, port_name: str, ready: bool = True) -> Endpoint:
    return Endpoint(
        address=workload.ip,
        port=port,
        port_name=port_name,
        ready=ready,
        tls_mode="istio" if workload.injected else "disabled",
        labels=workload.labels,
        namespace=workload.namespace,
        service_account=workload.service_account,
        workload_name=workload.workload_name,
        pod_name=workload.name,
    )


def bookinfo(
    *objects: ConfigObject[Any], mesh: MeshConfig | None = None, first_octets: str = "10.0.0"
) -> World:
    """Six workloads, a gateway and telemetry, with the config objects given."""
    services = [service(name) for name in ("productpage", "details", "reviews", "ratings")]
    pods = [
        pod(name, f"{first_octets}.{index}", {"app": app, "version": version}, service_account=account)
        for index, (name, app, version, account) in enumerate(BOOKINFO, start=1)
    ]
    telemetry = service(
        "mesh-telemetry",
        ServicePort("grpc", 15011, 15011, "GRPC"),
        ServicePort("http", 15013, 15013),
        namespace="mesh-system",
    )
    edge = service(
        "mesh-gateway",
        ServicePort("http2", 80, 8080),
        ServicePort("http-alt", 8080, 8080),
        namespace="mesh-system",
        selector={"istio": "ingressgateway"},
        type="NodePort",
    )
    system = {"namespace": "mesh-system", "injected": False}
    pods.append(pod("mesh-telemetry", f"{first_octets}.50", {"app": "mesh-telemetry"}, ports=(), **system))
    labels = {"app": "mesh-gateway", "istio": "ingressgateway"}
    pods.append(
        pod("mesh-gateway", f"{first_octets}.51", labels, service_account="mesh-gateway", ports=(), **system)
    )
    return World(
        mesh=mesh or MeshConfig(),
        namespaces={name: Namespace(name) for name in ("default", "mesh-system", "visitors")},
        services={each.key: each for each in (*services, telemetry, edge)},
        endpoints={each.key: endpoints_of(each, pods) for each in (*services, telemetry, edge)},
        workloads={(each.namespace, each.name): each for each in pods},
        config=by_kind(objects),
    )


def endpoints_of(of: Service, pods: list[Workload]) -> tuple[Endpoint, ...]:
    chosen = [
        each
        for each in pods
        if each.namespace == of.namespace and all(each.labels.get(k) == v for k, v in of.selector.items())
    ]
    return tuple(endpoint(each, int(port.target_port), port.name) for port in of.ports for each in chosen)


def by_kind(
    objects: tuple[ConfigObject[Any], ...],
) -> Mapping[str, Mapping[tuple[str, str], ConfigObject[Any]]]:
    kinds: dict[str, dict[tuple[str, str], ConfigObject[Any]]] = {}
    for each in objects:
        kinds.setdefault(each.kind, {})[each.namespace, each.name] = each
    return kinds


def objects(text: str) -> tuple[ConfigObject[Any], ...]:
    """Parse YAML documents."""
    return tuple(parse(document) for document in yaml.safe_load_all(text) if document)


def sample(name: str) -> tuple[ConfigObject[Any], ...]:
    """The objects of one of Istio's Bookinfo manifests."""
    return tuple(parse(document) for document in SAMPLES[name])


def sidecar(workload: str = "productpage-v1", world: World | None = None) -> Proxy:
    """The sidecar of a workload of `bookinfo`."""
    found = (world or bookinfo()).workloads["default", f"{workload}-0"]
    return Proxy(
        id=f"sidecar~{found.ip}~{found.name}.default~default.svc.cluster.local",
        type="sidecar",
        ip=found.ip,
        namespace="default",
        pod_name=found.name,
        labels=found.labels,
        service_account=found.service_account,
        workload_name=workload,
        app_address=f"{found.ip}0",
    )


def gateway(world: World | None = None) -> Proxy:
    """The gateway of `bookinfo`."""
    found = (world or bookinfo()).workloads["mesh-system", "mesh-gateway-0"]
    return Proxy(
        id=f"router~{found.ip}~{found.name}.mesh-system~mesh-system.svc.cluster.local",
        type="router",
        ip=found.ip,
        namespace="mesh-system",
        pod_name=found.name,
        labels=found.labels,
        service_account=found.service_account,
        workload_name="mesh-gateway",
    )
