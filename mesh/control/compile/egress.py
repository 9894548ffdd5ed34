"""LDS for the egress listeners of a Sidecar object that name a port: what the app may call through that port.

Without interception such a listener really listens (on `bind`, else where the app finds its proxy), which is how an
app can reach services that are not HTTP. Behind iptables it takes the place of the port's ordinary listener.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2

from mesh.api.sidecar import EgressListener
from mesh.api.tcp_routes import RouteDestination
from mesh.control.compile import http, naming, tcp
from mesh.control.compile.actions import Target
from mesh.control.compile.listeners import listener
from mesh.control.compile.routes import mesh_asker, mesh_rules
from mesh.control.compile.rules import Asker
from mesh.control.compile.visibility import imports, services_for
from mesh.control.world import Proxy, World

_HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
_TLS = ("HTTPS", "TLS")


def egress_of(world: World, proxy: Proxy) -> tuple[tuple[int, EgressListener], ...]:
    """The egress listeners of the proxy's Sidecar object that name a port."""
    sidecar = mesh_asker(world, proxy).view.sidecar
    listed = sidecar.spec.egress if sidecar else ()
    return tuple((each.port.number, each) for each in listed if each.port)


def is_http(egress: EgressListener) -> bool:
    return egress.port is not None and egress.port.protocol.upper() in _HTTP


def egress_listeners(world: World, proxy: Proxy) -> Iterator[Any]:
    """One listener for each of them."""
    asker = mesh_asker(world, proxy)
    for port, egress in egress_of(world, proxy):
        captured = proxy.interception == "REDIRECT" and egress.capture_mode != "NONE"
        address = egress.bind or ("0.0.0.0" if captured else proxy.app_address)
        if is_http(egress):
            manager = http.network_filter(world.mesh, "outbound", f"outbound_{address}_{port}", rds=str(port))
            chains = [listener_components_pb2.FilterChain(filters=[manager])]
        else:
            chains = _connections(world, asker, port, egress)
        made = listener(naming.listener(address, port), address, port, chains, base_pb2.OUTBOUND)
        if captured:
            made.bind_to_port.value = False
        yield made


def _connections(world: World, asker: Asker, port: int, egress: EgressListener) -> list[Any]:
    """To the first service with this port that the listener names, unless tcp or tls routes say otherwise."""
    is_tls = egress.port is not None and egress.port.protocol.upper() in _TLS
    sidecar = asker.view.sidecar
    chains: list[Any] = []
    for service in services_for(world, asker.namespace, sidecar):
        fits = any(each.port == port and not each.is_http for each in service.ports)
        if sidecar is None or not fits or not imports(sidecar, service.namespace, service.hostname, [egress]):
            continue
        rules = tuple(mesh_rules(world, asker.view).for_host(service.hostname))
        chains += tcp.vs_chains(world, "outbound", rules, port, asker, is_tls=is_tls)
        chains.append(_to(world, naming.outbound(port, "", service.hostname)))
    return tcp.distinct(chains) or [_to(world, naming.BLACK_HOLE)]


def _to(world: World, cluster: str) -> Any:
    whole = RouteDestination.model_construct(weight=None)
    filters = [tcp.proxy_filter(world, "outbound", [(Target(cluster), whole)])]
    return listener_components_pb2.FilterChain(filters=filters)
