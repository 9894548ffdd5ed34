"""The world as the control plane knows it: one immutable value, and the proxy that asks what it means for it.

Where this stands in the order of a config change: `watch` and `ingest` turn Kubernetes objects into the
records below, `debounce` decides when a new `World` is made, and `compile` turns (world, proxy) into Envoy
resources. Nothing here does I/O or knows a Kubernetes client, so a test can write a whole cluster down by
hand.

Two rules make compiling cheap. Every record is immutable, and an unchanged object keeps its identity from
one world to the next (`World.evolve`). So "has this changed?" is `is`, and what was compiled from it can be
used again (`Memo`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, cast

from mesh.api.authorization_policy import AuthorizationPolicySpec
from mesh.api.destination_rule import DestinationRuleSpec
from mesh.api.gateway import GatewaySpec
from mesh.api.objects import ConfigObject
from mesh.api.peer_authentication import PeerAuthenticationSpec
from mesh.api.request_authentication import RequestAuthenticationSpec
from mesh.api.service_entry import ServiceEntrySpec
from mesh.api.sidecar import SidecarSpec
from mesh.api.telemetry import TelemetrySpec
from mesh.api.virtual_service import VirtualServiceSpec
from mesh.control.memo import Memo as Memo
from mesh.control.settings import ExtAuthz as ExtAuthz
from mesh.control.settings import Interception as Interception
from mesh.control.settings import MeshConfig as MeshConfig

Labels = Mapping[str, str]
_NO_LABELS: Labels = MappingProxyType({})
Protocol = Literal["HTTP", "HTTP2", "GRPC", "HTTPS", "TLS", "TCP", "UDP"]
ProxyType = Literal["sidecar", "router"]
#: (region, zone, subzone); "" for what is not known.
Locality = tuple[str, str, str]
NOWHERE: Locality = ("", "", "")


def _no_labels() -> Labels:
    return _NO_LABELS


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Labels = field(default_factory=_no_labels)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service. `target_port` may be the name of a container port."""

    name: str
    port: int
    target_port: int | str
    protocol: Protocol = "HTTP"
    node_port: int | None = None

    @property
    def is_http(self) -> bool:
        return self.protocol in ("HTTP", "HTTP2", "GRPC")

    @property
    def is_http2(self) -> bool:
        return self.protocol in ("HTTP2", "GRPC")


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service. `cluster_ip` is "" when it is headless; `created` is epoch seconds."""

    namespace: str
    name: str
    hostname: str
    ports: tuple[ServicePort, ...]
    cluster_ip: str = ""
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    external_name: str = ""
    selector: Labels = field(default_factory=_no_labels)
    labels: Labels = field(default_factory=_no_labels)
    annotations: Labels = field(default_factory=_no_labels)
    created: float = 0.0
    #: How its endpoints are found: given by the control plane (STATIC), by DNS, or not at all (NONE).
    resolution: Literal["STATIC", "DNS", "DNS_ROUND_ROBIN", "NONE", "DYNAMIC_DNS"] = "STATIC"
    #: Outside the mesh: no mutual TLS of the mesh's.
    external: bool = False
    #: Virtual addresses beside `cluster_ip`: IP addresses or blocks.
    addresses: tuple[str, ...] = ()
    #: Names its servers' certificates must have, if other than those of the pods behind it.
    identities: tuple[str, ...] = ()
    #: The ServiceEntry it comes from; None for one of Kubernetes.
    entry: ConfigObject[ServiceEntrySpec] | None = None

    @property
    def vips(self) -> tuple[str, ...]:
        """The single addresses under which clients connect to it."""
        own = (self.cluster_ip,) if self.cluster_ip and self.cluster_ip != "None" else ()
        return (*own, *(address for address in self.addresses if "/" not in address))

    @property
    def key(self) -> ServiceKey:
        return (self.namespace, self.name)

    @property
    def export_to(self) -> tuple[str, ...]:
        """Namespaces that may see it (annotation `networking.istio.io/exportTo`); ("*",) by default."""
        listed = self.annotations.get("networking.istio.io/exportTo", "")
        return tuple(part.strip() for part in listed.split(",") if part.strip()) or ("*",)


ServiceKey = tuple[str, str]  # (namespace, name)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind one port of a Service, with what is known of the pod behind it."""

    address: str
    port: int
    #: Name of the ServicePort it serves ("" for the only, unnamed one).
    port_name: str
    ready: bool = True
    #: "istio" when the pod has a sidecar that takes mutual TLS, "disabled" otherwise.
    tls_mode: Literal["istio", "disabled"] = "disabled"
    labels: Labels = field(default_factory=_no_labels)
    namespace: str = ""
    service_account: str = ""
    #: Name of the Deployment (or other owner) and the pod's.
    workload_name: str = ""
    pod_name: str = ""
    region: str = ""
    zone: str = ""
    subzone: str = ""
    #: Its share among the endpoints of the service.
    weight: int = 1

    @property
    def locality(self) -> Locality:
        return (self.region, self.zone, self.subzone)


@dataclass(frozen=True, slots=True)
class WorkloadPort:
    """A port a container of the pod declares."""

    port: int
    name: str = ""
    protocol: Protocol = "HTTP"


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod that runs (or is about to): what its sidecar needs to know of itself."""

    namespace: str
    name: str
    ip: str
    labels: Labels = field(default_factory=_no_labels)
    annotations: Labels = field(default_factory=_no_labels)
    service_account: str = "default"
    workload_name: str = ""
    injected: bool = False
    #: Has passed its readiness probe.
    ready: bool = True
    ports: tuple[WorkloadPort, ...] = ()
    region: str = ""
    zone: str = ""
    subzone: str = ""

    @property
    def locality(self) -> Locality:
        return (self.region, self.zone, self.subzone)


@dataclass(frozen=True, slots=True)
class Credential:
    """What of a Secret is about TLS, as PEM: a certificate with its key, authorities, revoked certificates."""

    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    ca: bytes = field(default=b"", repr=False)
    crl: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Proxy:
    """Who asks: made by `from_node` from the node of the first xDS request of a stream."""

    id: str
    type: ProxyType
    ip: str
    namespace: str
    pod_name: str = ""
    labels: Labels = field(default_factory=_no_labels)
    service_account: str = "default"
    workload_name: str = ""
    interception: Interception = "NONE"
    #: Where the app listens: an address inside the pod (metadata APP_ADDRESS).
    app_address: str = "127.0.0.1"
    #: What the node says of its place; what the control plane knows of the pod goes before it.
    locality: Locality = NOWHERE
    #: False: the app has the pod's ports for itself and nothing stands before it (metadata INBOUND_CAPTURE NONE).
    inbound_capture: bool = True
    #: Where on the gateway's machine a City database is (metadata GEO_DATABASE); "" for none.
    geo_database: str = ""
    #: A real Envoy, which wants some things said that our own proxy does by itself (user_agent_name of the node).
    is_envoy: bool = False

    @classmethod
    def from_node(cls, node: Any) -> Proxy:
        """Read an `envoy.config.core.v3.Node` as Istio writes it: `type~ip~pod.ns~ns.svc.cluster.local`.

        Raises ValueError with one sentence when the id has another form.
        """
        parts = node.id.split("~")
        if len(parts) != 4 or parts[0] not in ("sidecar", "router") or "." not in parts[2]:
            raise ValueError(f"node id {node.id!r} is not of the form sidecar|router~IP~POD.NAMESPACE~DOMAIN")
        metadata = _plain(node.metadata)
        pod_name, _, namespace = parts[2].rpartition(".")
        labels = {str(k): str(v) for k, v in (metadata.get("LABELS") or {}).items()}
        return cls(
            id=node.id,
            type=cast(ProxyType, parts[0]),
            ip=parts[1],
            namespace=str(metadata.get("NAMESPACE") or namespace),
            pod_name=pod_name,
            labels=MappingProxyType(labels),
            service_account=str(metadata.get("SERVICE_ACCOUNT") or "default"),
            workload_name=str(metadata.get("WORKLOAD_NAME") or ""),
            interception="REDIRECT"
            if metadata.get("INTERCEPTION_MODE") in ("REDIRECT", "TPROXY")
            else "NONE",
            app_address=str(metadata.get("APP_ADDRESS") or "127.0.0.1"),
            locality=(node.locality.region, node.locality.zone, node.locality.sub_zone),
            is_envoy=node.user_agent_name == "envoy",
            geo_database=str(metadata.get("GEO_DATABASE") or ""),
            inbound_capture=metadata.get("INBOUND_CAPTURE") != "NONE",
        )


def _plain(struct: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(struct)


_NO_OBJECTS: Mapping[tuple[str, str], ConfigObject[Any]] = MappingProxyType({})


def _oldest_first(objects: Mapping[tuple[str, str], ConfigObject[Any]]) -> tuple[ConfigObject[Any], ...]:
    return tuple(sorted(objects.values(), key=lambda o: (o.created, o.namespace, o.name)))


@dataclass(frozen=True)
class World:
    """Everything `compile` may look at. Make the first with World(...), each next with `evolve`."""

    mesh: MeshConfig = field(default_factory=MeshConfig)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    services: Mapping[ServiceKey, Service] = field(default_factory=dict)
    #: Endpoints of a service, ready or not, sorted by address so that equal sets compare equal.
    endpoints: Mapping[ServiceKey, tuple[Endpoint, ...]] = field(default_factory=dict)
    #: Pods by (namespace, pod name).
    workloads: Mapping[tuple[str, str], Workload] = field(default_factory=dict)
    #: Secrets with certificates, by (namespace, name). Never to be shown.
    secrets: Mapping[tuple[str, str], Credential] = field(default_factory=dict, repr=False)
    #: Key sets fetched for RequestAuthentications, as JSON text, by (jwksUri, issuer).
    jwks: Mapping[tuple[str, str], str] = field(default_factory=dict)
    #: Config objects by kind name, then by (namespace, name).
    config: Mapping[str, Mapping[tuple[str, str], ConfigObject[Any]]] = field(default_factory=dict)
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)

    def evolve(self, **changes: Any) -> World:
        """The next world. Pass whole mappings; entries that did not change must be the same objects."""
        self.memo.rest()
        return replace(self, **changes)

    def imagine(self, **changes: Any) -> World:
        """A world that may never come, to look at; it leaves nothing behind in the memo of the real ones."""
        return replace(self, memo=Memo(), **changes)

    def objects(self, kind: str) -> tuple[ConfigObject[Any], ...]:
        """Objects of a kind, oldest first (Istio's order of precedence), then by namespace and name."""
        found = self.config.get(kind, _NO_OBJECTS)
        return self.memo.get(("objects", kind), (found,), lambda: _oldest_first(found))

    @cached_property
    def virtual_services(self) -> tuple[ConfigObject[VirtualServiceSpec], ...]:
        return self.objects("VirtualService")

    @cached_property
    def destination_rules(self) -> tuple[ConfigObject[DestinationRuleSpec], ...]:
        return self.objects("DestinationRule")

    @cached_property
    def gateways(self) -> tuple[ConfigObject[GatewaySpec], ...]:
        return self.objects("Gateway")

    @cached_property
    def sidecars(self) -> tuple[ConfigObject[SidecarSpec], ...]:
        return self.objects("Sidecar")

    @cached_property
    def peer_authentications(self) -> tuple[ConfigObject[PeerAuthenticationSpec], ...]:
        return self.objects("PeerAuthentication")

    @cached_property
    def request_authentications(self) -> tuple[ConfigObject[RequestAuthenticationSpec], ...]:
        return self.objects("RequestAuthentication")

    @cached_property
    def telemetries(self) -> tuple[ConfigObject[TelemetrySpec], ...]:
        return self.objects("Telemetry")

    @cached_property
    def authorization_policies(self) -> tuple[ConfigObject[AuthorizationPolicySpec], ...]:
        return self.objects("AuthorizationPolicy")

    def workload_of(self, proxy: Proxy) -> Workload | None:
        """The pod the proxy runs in, if the control plane has seen it already."""
        return self.workloads.get((proxy.namespace, proxy.pod_name))
