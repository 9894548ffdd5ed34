"""The mesh's own settings, as the ConfigMap `mesh` states them (read by `mesh_config`); part of every `world`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mesh.api.telemetry import CustomTag

Interception = Literal["NONE", "REDIRECT"]


@dataclass(frozen=True, slots=True)
class ExtAuthz:
    """A service that decides on requests instead of us (MeshConfig.extensionProviders, envoyExtAuthzGrpc or ...Http).

    `timeout` in seconds; `status_on_error` is what a client gets when the service does not answer.
    """

    name: str
    service: str
    port: int
    http: bool = False
    timeout: float = 600.0
    fail_open: bool = False
    status_on_error: int = 403
    path_prefix: str = ""
    #: Request headers the service is shown (HTTP only; the gRPC form shows all), and headers added for it.
    request_headers: tuple[str, ...] = ()
    extra_headers: tuple[tuple[str, str], ...] = ()
    #: Headers of its answer that go on to the app, to the client when it says no, and when it says yes.
    to_upstream: tuple[str, ...] = ()
    to_client_on_deny: tuple[str, ...] = ()
    to_client_on_allow: tuple[str, ...] = ()
    #: Bytes of the body it is shown; 0 for none.
    body_bytes: int = 0
    partial_body: bool = False


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Mesh-wide settings (ConfigMap `mesh`); names as in Istio's MeshConfig where it has them."""

    trust_domain: str = "cluster.local"
    #: Other trust domains whose identities count as ours (while a mesh changes its name).
    trust_domain_aliases: tuple[str, ...] = ()
    ext_authz: tuple[ExtAuthz, ...] = ()
    cluster_domain: str = "cluster.local"
    root_namespace: str = "mesh-system"
    #: What a sidecar does with a request to a host the mesh does not know: pass it on, or answer 502.
    outbound_traffic_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] = "ALLOW_ANY"
    interception: Interception = "NONE"
    #: (host, port) of the access log service; None turns access logs off.
    access_log_service: tuple[str, int] | None = ("mesh-telemetry.mesh-system.svc.cluster.local", 15011)
    #: Which requests are logged (`mesh.api.log_filter`); "" for all.
    access_log_filter: str = ""
    #: (name, (host, port)) of access log and trace services that Telemetry objects may name.
    log_providers: tuple[tuple[str, tuple[str, int]], ...] = (
        ("mesh-telemetry", ("mesh-telemetry.mesh-system.svc.cluster.local", 15011)),
    )
    trace_providers: tuple[tuple[str, tuple[str, int]], ...] = ()
    #: Where spans are sent (OpenTelemetry over gRPC), of which percentage of requests, with which tags of our own.
    trace_service: tuple[str, int] | None = None
    trace_sampling: float = 1.0
    trace_tags: tuple[tuple[str, CustomTag], ...] = ()
    #: Seconds the proxy may keep access log entries back before it sends them.
    access_log_flush: float = 0.2
    #: Seconds before a connection attempt to an endpoint is given up (MeshConfig.connectTimeout).
    connect_timeout: float = 10.0
    #: DestinationRules without tls settings get mutual TLS towards endpoints with a sidecar.
    enable_auto_mtls: bool = True
    #: Proxies in front of gateways whose X-Forwarded-For is believed (defaultConfig.gatewayTopology.numTrustedProxies).
    trusted_proxies: int = 0
