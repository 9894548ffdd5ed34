"""LDS: the sockets of a proxy.

Without interception (mode NONE) a sidecar has one HTTP proxy listener for its app's requests, and one listener on the
pod's address for every port the app declares. A gateway has one for every port its Gateway objects name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2

from mesh.api.connection_pool import ConnectionPoolSettings
from mesh.api.sidecar import IngressListener
from mesh.control.compile import edge, http, naming, pb, tls
from mesh.control.compile.authn import Mode, mutual_tls
from mesh.control.compile.routes import inbound_routes
from mesh.control.compile.visibility import services_selecting, sidecar_for
from mesh.control.world import MeshConfig, Protocol, Proxy, World

#: Annotation of Istio's: ports of the pod that bypass the mesh.
EXCLUDE_INBOUND = "traffic.sidecar.istio.io/excludeInboundPorts"
#: Ports of the sidecar itself, never the app's.
_OWN_PORTS = frozenset({15000, 15001, 15004, 15006, 15020, 15021, 15090})
_PLAIN: Protocol = "TCP"


class InboundPort(NamedTuple):
    """A port of the app behind a sidecar."""

    port: int
    protocol: Protocol
    excluded: bool = False
    #: Where the app listens, if on another port than callers know.
    target: int | None = None
    pool: ConnectionPoolSettings | None = None

    @property
    def is_http(self) -> bool:
        return self.protocol in ("HTTP", "HTTP2", "GRPC") and not self.excluded

    @property
    def is_http2(self) -> bool:
        return self.protocol in ("HTTP2", "GRPC")


def inbound_ports(world: World, proxy: Proxy) -> tuple[InboundPort, ...]:
    """What the app declares: ports of its containers, targets of the services that select it, excluded ports."""
    workload = world.workload_of(proxy)
    labels = workload.labels if workload else proxy.labels
    sidecar = sidecar_for(world, proxy.namespace, labels)
    if sidecar and sidecar.spec.ingress:
        return tuple(_ingress(each, sidecar.spec.inbound_connection_pool) for each in sidecar.spec.ingress)
    pool = sidecar.spec.inbound_connection_pool if sidecar else None
    protocols: dict[int, Protocol] = {p.port: p.protocol for p in workload.ports} if workload else {}
    named = {p.name: p.port for p in workload.ports} if workload else {}
    for service in services_selecting(world, proxy.namespace, labels):
        for port in service.ports:
            target = port.target_port if isinstance(port.target_port, int) else named.get(port.target_port)
            if target:
                protocols[target] = port.protocol
    excluded = _excluded(workload.annotations if workload else {})
    protocols |= {port: _PLAIN for port in excluded if port not in protocols}
    return tuple(
        InboundPort(port, protocol, port in excluded, pool=pool)
        for port, protocol in sorted(protocols.items())
        if port not in _OWN_PORTS and protocol != "UDP"
    )


def _ingress(listener: IngressListener, pool: ConnectionPoolSettings | None) -> InboundPort:
    """A port as a Sidecar object declares it; then the pod's own declarations do not count."""
    said = listener.port.protocol.upper()
    protocol: Any = said if said in ("HTTP", "HTTP2", "GRPC", "HTTPS", "TLS") else _PLAIN
    target = listener.target[1] if listener.target else None
    return InboundPort(listener.port.number, protocol, target=target, pool=listener.connection_pool or pool)


def _excluded(annotations: Mapping[str, str]) -> frozenset[int]:
    parts = (part.strip() for part in annotations.get(EXCLUDE_INBOUND, "").split(","))
    return frozenset(int(part) for part in parts if part.isascii() and part.isdigit())


def http_proxy(world: World, proxy: Proxy) -> Any:
    """Where the app sends its requests (environment variable http_proxy), in absolute form."""
    manager = http.network_filter(world.mesh, "outbound", "outbound_http_proxy", rds=naming.HTTP_PROXY)
    return listener(
        naming.HTTP_PROXY,
        proxy.app_address,
        naming.OUTBOUND_PORT,
        [listener_components_pb2.FilterChain(filters=[manager])],
        base_pb2.OUTBOUND,
    )


def inbound(world: World, proxy: Proxy, port: InboundPort) -> Any:
    """The pod's address and port in front of the app: mutual TLS as policies demand, then who may do what."""
    name = naming.listener(proxy.ip, port.port)
    if port.excluded:
        filters = http.tcp_filters(world.mesh, "inbound", naming.inbound(port.port))
        chains = [listener_components_pb2.FilterChain(filters=filters)]
        return listener(name, proxy.ip, port.port, chains, base_pb2.INBOUND)
    workload = world.workload_of(proxy)
    labels = workload.labels if workload else proxy.labels
    mode = mutual_tls(world, proxy.namespace, labels).on(port.port)
    allowed = http.admission(world, proxy.namespace, labels, http=port.is_http)
    filters = inbound_filters(world, port, allowed)
    unproven = inbound_filters(world, port, allowed, proven=False)
    chains = inbound_chains(world.mesh, mode, filters, port.is_http, unproven)
    made = listener(name, proxy.ip, port.port, chains, base_pb2.INBOUND)
    if mode != "DISABLE":
        inspect_tls(made)
    return made


def inbound_filters(
    world: World, port: InboundPort, admission: http.Admission, *, proven: bool = True
) -> list[Any]:
    """What happens to a connection; `proven` tells whether its client has shown a certificate of the mesh."""
    if not port.is_http:
        return http.tcp_filters(world.mesh, "inbound", naming.inbound(port.port), admission)
    prefix = f"inbound_0.0.0.0_{port.port}"
    routes = inbound_routes(port.port)
    first = [] if proven else [edge.strip()]
    manager = http.network_filter(
        world.mesh, "inbound", prefix, routes=routes, admission=admission, first=first
    )
    return [manager]


def inbound_chains(
    mesh: MeshConfig, mode: Mode, filters: list[Any], is_http: bool, unproven: list[Any] | None = None
) -> list[Any]:
    """STRICT: only TLS. PERMISSIVE: TLS and plaintext. DISABLE: only plaintext.

    An app may do TLS of its own; so on a port that is not HTTP only the mesh's own TLS (told by its ALPN) is ours.
    `unproven` are the filters for plaintext, where they differ.
    """
    ours = listener_components_pb2.FilterChainMatch(
        transport_protocol="tls", application_protocols=[] if is_http else tls.PEER_ALPN
    )
    secure = listener_components_pb2.FilterChain(
        name="mtls",
        filter_chain_match=ours,
        filters=filters,
        transport_socket=tls.server_socket(mesh),
    )
    plain_match = listener_components_pb2.FilterChainMatch(transport_protocol="raw_buffer" if is_http else "")
    plain = listener_components_pb2.FilterChain(
        name="plaintext",
        filter_chain_match=plain_match,
        filters=unproven or filters,
        transport_socket=tls.raw_socket(),
    )
    return {"STRICT": [secure], "PERMISSIVE": [secure, plain], "DISABLE": [plain]}[mode]


def listener(name: str, address: str, port: int, chains: list[Any], direction: Any) -> Any:
    return listener_pb2.Listener(
        name=name, address=pb.address(address, port), filter_chains=chains, traffic_direction=direction
    )


def inspect_tls(made: Any) -> Any:
    """The listener, looking at the first bytes of each connection: is it TLS, and for which server name?"""
    made.listener_filters.add(
        name="envoy.filters.listener.tls_inspector", typed_config=pb.pack(tls_inspector_pb2.TlsInspector())
    )
    return made
