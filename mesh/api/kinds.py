"""The one table of kinds: everything that needs to know which Istio kinds there are reads it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mesh.api.authorization_policy import AuthorizationPolicySpec
from mesh.api.destination_rule import DestinationRuleSpec
from mesh.api.gateway import GatewaySpec
from mesh.api.model import Model
from mesh.api.peer_authentication import PeerAuthenticationSpec
from mesh.api.request_authentication import RequestAuthenticationSpec
from mesh.api.service_entry import ServiceEntrySpec, WorkloadEntrySpec
from mesh.api.sidecar import SidecarSpec
from mesh.api.telemetry import TelemetrySpec
from mesh.api.virtual_service import VirtualServiceSpec

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`: title, JSONPath into the object, OpenAPI type."""

    name: str
    json_path: str
    type: str = "string"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of config object. `versions` are all served alike; the first is the one stored."""

    name: str
    group: str
    versions: tuple[str, ...]
    plural: str
    short_names: tuple[str, ...]
    model: type[Model]
    columns: tuple[Column, ...]
    scope: str = "Namespaced"

    @property
    def singular(self) -> str:
        return self.name.lower()

    @property
    def crd_name(self) -> str:
        return f"{self.plural}.{self.group}"

    @property
    def api_versions(self) -> tuple[str, ...]:
        return tuple(f"{self.group}/{version}" for version in self.versions)


_NETWORKING_VERSIONS = ("v1", "v1beta1", "v1alpha3")
_SECURITY_VERSIONS = ("v1", "v1beta1")
_AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since it was created")

KINDS: tuple[Kind, ...] = (
    Kind(
        "VirtualService",
        NETWORKING,
        _NETWORKING_VERSIONS,
        "virtualservices",
        ("vs",),
        VirtualServiceSpec,
        (
            Column("Gateways", ".spec.gateways", description="Gateways and sidecars (mesh) it applies to"),
            Column("Hosts", ".spec.hosts", description="Hosts whose requests it routes"),
            _AGE,
        ),
    ),
    Kind(
        "DestinationRule",
        NETWORKING,
        _NETWORKING_VERSIONS,
        "destinationrules",
        ("dr",),
        DestinationRuleSpec,
        (Column("Host", ".spec.host", description="The service it is about"), _AGE),
    ),
    Kind("Gateway", NETWORKING, _NETWORKING_VERSIONS, "gateways", ("gw",), GatewaySpec, (_AGE,)),
    Kind(
        "ServiceEntry",
        NETWORKING,
        _NETWORKING_VERSIONS,
        "serviceentries",
        ("se",),
        ServiceEntrySpec,
        (
            Column("Hosts", ".spec.hosts", description="Hosts of the service"),
            Column("Location", ".spec.location", description="Inside the mesh or outside"),
            Column("Resolution", ".spec.resolution", description="How its endpoints are found"),
            _AGE,
        ),
    ),
    Kind(
        "WorkloadEntry",
        NETWORKING,
        _NETWORKING_VERSIONS,
        "workloadentries",
        ("we",),
        WorkloadEntrySpec,
        (_AGE, Column("Address", ".spec.address", description="Where it listens")),
    ),
    Kind("Sidecar", NETWORKING, _NETWORKING_VERSIONS, "sidecars", (), SidecarSpec, (_AGE,)),
    Kind(
        "PeerAuthentication",
        SECURITY,
        _SECURITY_VERSIONS,
        "peerauthentications",
        ("pa",),
        PeerAuthenticationSpec,
        (Column("Mode", ".spec.mtls.mode", description="What it demands of clients"), _AGE),
    ),
    Kind(
        "RequestAuthentication",
        SECURITY,
        _SECURITY_VERSIONS,
        "requestauthentications",
        ("ra",),
        RequestAuthenticationSpec,
        (_AGE,),
    ),
    Kind(
        "AuthorizationPolicy",
        SECURITY,
        _SECURITY_VERSIONS,
        "authorizationpolicies",
        ("ap",),
        AuthorizationPolicySpec,
        (Column("Action", ".spec.action", description="What happens to a request that fits"), _AGE),
    ),
    Kind(
        "Telemetry",
        TELEMETRY,
        ("v1", "v1alpha1"),
        "telemetries",
        ("telemetry",),
        TelemetrySpec,
        (_AGE,),
    ),
)

BY_NAME: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in KINDS})

#: Kinds of Istio that are refused, with the reason.
UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "EnvoyFilter": "it patches Envoy's own configuration, and the sidecars here need not be Envoys",
        "WasmPlugin": "it loads WebAssembly into Envoy, and the sidecars here need not be Envoys",
        "WorkloadGroup": "workloads cannot register themselves; write a WorkloadEntry for each",
        "ProxyConfig": "sidecars are configured by the mesh config for now",
        "TrafficExtension": "it loads extensions into Envoy, and the sidecars here need not be Envoys",
    }
)


def why_unsupported(kind: str) -> str | None:
    """Why this kind of Istio's is refused, as a sentence; None when it is ours or not Istio's at all."""
    reason = UNSUPPORTED.get(kind)
    return None if reason is None else f"{kind} is not supported: {reason}"
