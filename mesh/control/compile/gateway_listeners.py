"""LDS for gateways: the sockets its Gateway objects ask for, and what of TLS each server does.

HTTP servers of one port share a filter chain. Every server that ends TLS has a chain of its own, chosen by the server
name a client asks for (SNI), and so has every route of a server that passes TLS on. Source: istio.io, Gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2

from mesh.api.gateway import Server
from mesh.api.tcp_routes import RouteDestination
from mesh.control.compile import edge, gateways, http, naming, tcp, tls
from mesh.control.compile.actions import Target
from mesh.control.compile.gateways import BoundServer
from mesh.control.compile.listeners import inspect_tls, listener
from mesh.control.world import Proxy, World


def gateway(world: World, proxy: Proxy, port: int, servers: list[BoundServer]) -> Any:
    """The listener of one port."""
    address = next((bound.server.bind for bound in servers if bound.server.bind), proxy.ip)
    has_tls = any(bound.server.port.is_tls for bound in servers)
    chains = list(_chains(world, proxy, port, servers))
    if any(bound.server.port.is_http for bound in servers):
        plain = _http(world, proxy, f"gateway_{port}", naming.gateway_route(port), edge.filters(proxy))
        if has_tls:
            plain.filter_chain_match.transport_protocol = "raw_buffer"
        chains.append(plain)
    if not chains:  # Envoy wants at least one; nothing says where connections are to go
        nowhere = (Target(naming.BLACK_HOLE), RouteDestination.model_construct(weight=None))
        filters = [tcp.proxy_filter(world, "gateway", [nowhere])]
        chains = [listener_components_pb2.FilterChain(filters=filters)]
    made = listener(naming.listener(address, port), address, port, tcp.distinct(chains), base_pb2.OUTBOUND)
    return inspect_tls(made) if has_tls else made


def _chains(world: World, proxy: Proxy, port: int, servers: list[BoundServer]) -> Iterator[Any]:
    for bound in servers:
        server = bound.server
        if server.port.is_http:
            continue
        if server.serves_http:
            # Clients that prove to be of the mesh pass on what a gateway has told them.
            outside = server.tls is None or server.tls.mode != "ISTIO_MUTUAL"
            name, routes = f"gateway_{port}_{server.port.name}", gateways.https_route(bound, port)
            chain = _http(world, proxy, name, routes, edge.filters(proxy) if outside else [])
            yield _terminating(world, chain, server)
            continue
        for vs, asker in gateways.bound_rules(world, proxy, [bound]):
            passed_on = server.port.is_tls and not server.terminates
            for chain in tcp.vs_chains(world, "gateway", [vs], server.port.number, asker, is_tls=passed_on):
                yield _terminating(world, chain, server) if server.terminates else chain


def _http(world: World, proxy: Proxy, prefix: str, route_name: str, first: list[Any]) -> Any:
    allowed = http.admission(world, proxy.namespace, proxy.labels, http=True, at_edge=True)
    manager = http.network_filter(
        world.mesh, "gateway", prefix, rds=route_name, admission=allowed, first=first
    )
    return listener_components_pb2.FilterChain(filters=[manager])


def _terminating(world: World, chain: Any, server: Server) -> Any:
    """TLS ends here, for the server names that the server answers for."""
    assert server.tls is not None
    names = [host.rpartition("/")[2].lower() for host in server.hosts]
    del chain.filter_chain_match.server_names[:]
    if "*" not in names:
        chain.filter_chain_match.server_names.extend(dict.fromkeys(names))
    chain.filter_chain_match.transport_protocol = "tls"
    alpn = ("h2", "http/1.1") if server.serves_http else ()
    if server.tls.mode == "ISTIO_MUTUAL":
        chain.transport_socket.CopyFrom(tls.server_socket(world.mesh))
    else:
        chain.transport_socket.CopyFrom(tls.edge_socket(server.tls, alpn))
    return chain
