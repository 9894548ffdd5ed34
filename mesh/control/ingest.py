"""From Kubernetes' dicts to the records of the world: pure functions, one a kind.

After `watch`, before `assemble`. What the mesh needs to know of an object is taken out here, once, and
nothing else is kept; so an update that changes nothing for the mesh (a heartbeat, a status) ends here too.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, cast

from mesh.control.mesh_config import ConfigError as ConfigError
from mesh.control.mesh_config import mesh_config as mesh_config
from mesh.control.mesh_config import seconds as seconds
from mesh.control.world import (
    Credential,
    Endpoint,
    Labels,
    Namespace,
    Protocol,
    Service,
    ServicePort,
    Workload,
    WorkloadPort,
)

Object = dict[str, Any]
PodKey = tuple[str, str]

SIDECAR = "istio-proxy"
STATUS_ANNOTATION = "sidecar.istio.io/status"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
ROOT_SECRET = "istio-ca-secret"
LOCALITY_LABEL = "istio-locality"
SERVICE_LABEL = "kubernetes.io/service-name"

_PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "http": "HTTP",
        "http2": "HTTP2",
        "grpc": "GRPC",
        "grpc-web": "HTTP",
        "https": "HTTPS",
        "tls": "TLS",
        "tcp": "TCP",
        "mongo": "TCP",
        "mysql": "TCP",
        "redis": "TCP",
        "udp": "UDP",
        "kubernetes.io/h2c": "HTTP2",
        "kubernetes.io/ws": "HTTP",
        "kubernetes.io/wss": "HTTPS",
    }
)

_SERVER_SPEAKS_FIRST = frozenset(
    {21, 22, 25, 110, 143, 465, 587, 993, 995, 1433, 3306, 5432, 6379, 9042, 27017}
)
"""Well-known ports of protocols that are not HTTP, for ports that do not say what they speak."""


_NO_LABELS: Labels = MappingProxyType({})


def protocol(name: str | None, app_protocol: str | None, port: int, transport: str = "TCP") -> Protocol:
    """What a port speaks: `appProtocol`, else the beginning of its name (istio.io, Operations, Protocol
    Selection).

    A port that says nothing is taken for HTTP, which Istio would find out by looking at the bytes, unless
    its number is well known for something else.
    """
    if transport == "UDP":
        return "UDP"
    for said in (app_protocol, name, (name or "").split("-")[0]):
        if said and said.lower() in _PROTOCOLS:
            return _PROTOCOLS[said.lower()]
    return "TCP" if port in _SERVER_SPEAKS_FIRST else "HTTP"


def namespace(obj: Object) -> Namespace:
    """A Namespace with its labels."""
    metadata = obj["metadata"]
    return Namespace(metadata["name"], _labels(metadata.get("labels")))


def service(obj: Object, cluster_domain: str) -> Service:
    """A Service; `created` decides which of two that claim the same host wins."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    cluster_ip = spec.get("clusterIP") or ""
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        hostname=f"{metadata['name']}.{metadata['namespace']}.svc.{cluster_domain}",
        ports=tuple(_service_port(port) for port in spec.get("ports") or ()),
        cluster_ip="" if cluster_ip == "None" else cluster_ip,
        type=cast(
            Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], spec.get("type") or "ClusterIP"
        ),
        external_name=spec.get("externalName") or "",
        selector=_labels(spec.get("selector")),
        labels=_labels(metadata.get("labels")),
        annotations=_labels(metadata.get("annotations")),
        created=_epoch(metadata.get("creationTimestamp")),
        resolution="DNS" if spec.get("type") == "ExternalName" else "STATIC",
        external=spec.get("type") == "ExternalName",
    )


def _service_port(port: Object) -> ServicePort:
    number = port["port"]
    return ServicePort(
        name=port.get("name") or "",
        port=number,
        target_port=port.get("targetPort") or number,
        protocol=protocol(port.get("name"), port.get("appProtocol"), number, port.get("protocol") or "TCP"),
        node_port=port.get("nodePort"),
    )


def workload(pod: Object) -> Workload | None:
    """A pod that has an address and has not ended; None for any other."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    if not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    return Workload(
        namespace=metadata["namespace"],
        name=metadata["name"],
        ip=status["podIP"],
        labels=_labels(metadata.get("labels")),
        annotations=_labels(metadata.get("annotations")),
        service_account=spec.get("serviceAccountName") or "default",
        workload_name=workload_name(metadata)[0],
        ready=_is_ready(status),
        injected=STATUS_ANNOTATION in (metadata.get("annotations") or {}),
        ports=tuple(_workload_ports(spec)),
        **_place(metadata.get("labels") or {}),
    )


def _is_ready(status: Object) -> bool:
    conditions = {one.get("type"): one.get("status") for one in status.get("conditions") or ()}
    return bool(conditions.get("Ready", "True") == "True")


def _place(labels: Mapping[str, str]) -> dict[str, str]:
    """Region, zone and subzone from the label `istio-locality` (`region.zone.subzone`, Istio's)."""
    parts = [*labels.get(LOCALITY_LABEL, "").split("."), "", ""]
    return {"region": parts[0], "zone": parts[1], "subzone": parts[2]}


_CREDENTIAL_KEYS = {
    "certificate": ("tls.crt", "cert"),
    "key": ("tls.key", "key"),
    "ca": ("ca.crt", "cacert"),
    "crl": ("ca.crl", "crl"),
}
"""Keys of a Secret: those of Kubernetes' type kubernetes.io/tls, then those Istio takes beside them."""


def credential(secret: Object) -> Credential | None:
    """What of a Secret is about TLS; None when nothing is. The mesh's own root is nobody's credential."""
    data = secret.get("data") or {}
    if secret["metadata"]["name"] == ROOT_SECRET:
        return None
    try:
        found = {
            part: next((base64.b64decode(data[key]) for key in keys if data.get(key)), b"")
            for part, keys in _CREDENTIAL_KEYS.items()
        }
    except ValueError:
        return None
    pair = found["certificate"] and found["key"]
    return Credential(**found) if pair or found["ca"] else None


def workload_name(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Name and kind of what a pod belongs to: the Deployment behind its ReplicaSet, else its controller,
    else itself.
    """
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None:
        name = str(metadata.get("name") or metadata.get("generateName", "").rstrip("-"))
        return name, "Pod"
    name, kind = str(owner["name"]), str(owner["kind"])
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return name.removesuffix(f"-{template_hash}"), "Deployment"
    return name, kind


def _workload_ports(spec: Object) -> Iterable[WorkloadPort]:
    for container in spec.get("containers") or ():
        if container.get("name") == SIDECAR:
            continue
        for port in container.get("ports") or ():
            number, name = port["containerPort"], port.get("name") or ""
            if (port.get("protocol") or "TCP") == "TCP":
                yield WorkloadPort(number, name, protocol(name, None, number))


def slice_service(obj: Object) -> tuple[str, str] | None:
    """The (namespace, name) of the Service a slice belongs to."""
    name = (obj["metadata"].get("labels") or {}).get(SERVICE_LABEL)
    return (obj["metadata"]["namespace"], name) if name else None


def slice_pods(obj: Object) -> frozenset[PodKey]:
    """The pods a slice points to."""
    targets = [one["targetRef"] for one in obj.get("endpoints") or () if one.get("targetRef")]
    return frozenset(
        (target.get("namespace") or obj["metadata"]["namespace"], target["name"])
        for target in targets
        if target.get("kind") == "Pod"
    )


def endpoints(slices: Iterable[Object], workloads: Mapping[PodKey, Workload]) -> tuple[Endpoint, ...]:
    """The endpoints of one Service from all its slices, each once, sorted, so that equal sets compare
    equal.
    """
    found = {
        (one.port_name, one.address, one.port): one
        for obj in slices
        if obj.get("addressType", "IPv4") in ("IPv4", "IPv6")
        for one in _slice_endpoints(obj, workloads)
    }
    return tuple(found[key] for key in sorted(found))


def _slice_endpoints(obj: Object, workloads: Mapping[PodKey, Workload]) -> Iterable[Endpoint]:
    for one in obj.get("endpoints") or ():
        target = one.get("targetRef") or {}
        key = (target.get("namespace") or obj["metadata"]["namespace"], target.get("name") or "")
        pod = workloads.get(key) if target.get("kind") == "Pod" else None
        for port in obj.get("ports") or ():
            for address in (one.get("addresses") or ())[
                :1
            ]:  # the API says that all of them are the same endpoint
                if port.get("port"):
                    yield _endpoint(address, port, one, pod, obj["metadata"]["namespace"])


def _endpoint(address: str, port: Object, one: Object, pod: Workload | None, namespace: str) -> Endpoint:
    ready = (one.get("conditions") or {}).get("ready") is not False
    place = Endpoint(
        address, port["port"], port.get("name") or "", ready, namespace=namespace, zone=one.get("zone") or ""
    )
    if pod is None:
        return place
    return Endpoint(
        place.address,
        place.port,
        place.port_name,
        ready,
        tls_mode="istio" if pod.labels.get(TLS_MODE_LABEL) == "istio" else "disabled",
        labels=pod.labels,
        namespace=pod.namespace,
        service_account=pod.service_account,
        workload_name=pod.workload_name,
        pod_name=pod.name,
        region=pod.region,
        zone=pod.zone or place.zone,
        subzone=pod.subzone,
    )


def _labels(found: Mapping[str, str] | None) -> Labels:
    return MappingProxyType(dict(found)) if found else _NO_LABELS


def _epoch(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if stamp else 0.0
