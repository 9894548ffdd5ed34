"""LDS for sidecars behind iptables (interception REDIRECT): every connection of the pod arrives on two ports.

The kernel sends outbound connections to 15001 and inbound ones to 15006. There Envoy looks up where the connection
was meant to go and hands it to the listener for that address, or to the filter chain for that port. The listeners for
addresses have no socket of their own (`bind_to_port` false).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2

from mesh.api.tcp_routes import RouteDestination
from mesh.control.compile import http, naming, pb, tcp
from mesh.control.compile.actions import Target
from mesh.control.compile.authn import mutual_tls
from mesh.control.compile.egress import egress_listeners, egress_of
from mesh.control.compile.hashing import hash_of, rule_if_hashed
from mesh.control.compile.listeners import InboundPort, inbound_chains, inbound_filters, inspect_tls, listener
from mesh.control.compile.routes import egress_proxy, mesh_asker, mesh_rules, open_to_all
from mesh.control.compile.rules import Asker, destinations_of
from mesh.control.compile.view import View
from mesh.control.compile.visibility import services_for
from mesh.control.registry import by_hostname
from mesh.control.world import Proxy, Service, ServicePort, World

_EVERYWHERE = "0.0.0.0"
#: All connections of a route without weights.
_WHOLE = RouteDestination.model_construct(weight=None)
#: Seconds after which a client without a word counts as plaintext: with some protocols the server speaks first.
_SILENCE = 5
#: Name of the chains for ports the app does not declare.
_CATCH_ALL = "virtualInbound-catchall"


def http_ports(world: World, view: View) -> list[int]:
    """The ports on which a proxy may meet HTTP; each has a route configuration."""
    services = services_for(world, view.namespace, view.sidecar)
    return sorted({port.port for service in services for port in service.ports if port.is_http})


def outbound(world: World, proxy: Proxy) -> Iterator[Any]:
    """15001, a listener for each HTTP port, and one for each address and port of other services."""
    asker = mesh_asker(world, proxy)
    view = asker.view
    yield _virtual_outbound(world, view)
    own = {port for port, _ in egress_of(world, proxy)}
    yield from egress_listeners(world, proxy)
    for port in (port for port in http_ports(world, view) if port not in own):
        manager = http.network_filter(world.mesh, "outbound", f"outbound_{_EVERYWHERE}_{port}", rds=str(port))
        yield _unbound(_EVERYWHERE, port, [listener_components_pb2.FilterChain(filters=[manager])])
    shared: dict[int, list[Service]] = {}
    for service in services_for(world, view.namespace, view.sidecar):
        for each in service.ports:
            if each.is_http or each.protocol == "UDP" or each.port in own:
                continue
            for address in service.vips:
                yield _for_service(world, service, each, address, asker)
            if not service.vips and service.entry and each.protocol in ("HTTPS", "TLS"):
                shared.setdefault(each.port, []).append(service)
    for port, services in shared.items():
        yield _by_server_name(world, view, port, services, asker)


def _by_server_name(world: World, view: View, port: int, services: list[Service], asker: Asker) -> Any:
    """A port on which services without an address are told apart by the server name clients ask for."""
    chains: list[Any] = []
    for service in services:
        rules = tuple(mesh_rules(world, view).for_host(service.hostname))
        chains += tcp.vs_chains(world, "outbound", rules, port, asker, is_tls=True)
        to = Target(naming.outbound(port, "", service.hostname))
        chain = listener_components_pb2.FilterChain(
            filters=[tcp.proxy_filter(world, "outbound", [(to, _WHOLE)])]
        )
        chain.filter_chain_match.server_names.append(service.hostname)
        chain.filter_chain_match.transport_protocol = "tls"
        chains.append(chain)
    rest = Target(unknown_destination(world, view))
    filters = [tcp.proxy_filter(world, "outbound", [(rest, _WHOLE)])]
    chains.append(listener_components_pb2.FilterChain(filters=filters))
    return inspect_tls(_unbound(_EVERYWHERE, port, tcp.distinct(chains)))


def unknown_destination(world: World, view: View) -> str:
    """The cluster for connections to addresses nobody knows: on to them untouched, or nowhere."""
    if not open_to_all(world, view):
        return naming.BLACK_HOLE
    return egress_proxy(world, view) or naming.PASSTHROUGH


def _for_service(world: World, service: Service, port: ServicePort, address: str, asker: Asker) -> Any:
    """The listener of one port that is not HTTP: as tls and tcp routes say, else to the service."""
    is_tls = port.protocol in ("HTTPS", "TLS")
    rules = tuple(mesh_rules(world, asker.view).for_host(service.hostname))
    rule = rule_if_hashed(world, asker.namespace, asker.labels, service)
    hashed = hash_of(world, rule, "", port.port)

    def build() -> Any:
        chains = list(tcp.vs_chains(world, "outbound", rules, port.port, asker, is_tls=is_tls))
        cluster = Target(naming.outbound(port.port, "", service.hostname), hashed)
        rest = tcp.proxy_filter(world, "outbound", [(cluster, _WHOLE)])
        chains.append(listener_components_pb2.FilterChain(filters=[rest]))
        made = _unbound(address, port.port, tcp.distinct(chains))
        return inspect_tls(made) if is_tls and rules else made

    key = ("tcp listener", service.key, address, port.port, asker.key)
    services = tuple(by_hostname(world).get(name) for vs in rules for name in destinations_of(world, vs))
    return world.memo.get(key, (service, port, rule, world.mesh, *rules, *services), build)


def _unbound(address: str, port: int, chains: list[Any]) -> Any:
    made = listener(naming.listener(address, port), address, port, chains, base_pb2.OUTBOUND)
    made.bind_to_port.value = False
    return made


def _virtual_outbound(world: World, view: View) -> Any:
    """Where no listener knows the destination: on to it untouched, or nowhere. Itself is nobody's destination."""
    cluster = unknown_destination(world, view)
    chains = [
        _black_hole_chain(world, "outbound", naming.OUTBOUND_PORT),
        listener_components_pb2.FilterChain(
            name="virtualOutbound-catchall-tcp", filters=http.tcp_filters(world.mesh, "outbound", cluster)
        ),
    ]
    made = listener("virtualOutbound", _EVERYWHERE, naming.OUTBOUND_PORT, chains, base_pb2.OUTBOUND)
    made.use_original_dst.value = True
    return made


def inbound(world: World, proxy: Proxy, ports: tuple[InboundPort, ...]) -> Any:
    """15006: a set of chains for each port the app declares, and one for all other ports."""
    workload = world.workload_of(proxy)
    labels = workload.labels if workload else proxy.labels
    demanded = mutual_tls(world, proxy.namespace, labels)
    allowed = {
        is_http: http.admission(world, proxy.namespace, labels, http=is_http) for is_http in (True, False)
    }
    chains = [_black_hole_chain(world, "inbound", naming.INBOUND_PORT)]
    for port in ports:
        filters = inbound_filters(world, port, allowed[port.is_http])
        unproven = inbound_filters(world, port, allowed[port.is_http], proven=False)
        made = inbound_chains(world.mesh, demanded.on(port.port), filters, port.is_http, unproven)
        chains += [_for_port(chain, port.port) for chain in made]
    rest = http.tcp_filters(world.mesh, "inbound", naming.INBOUND_PASSTHROUGH, allowed[False])
    for chain in inbound_chains(world.mesh, demanded.mode, rest, is_http=False):
        chain.name = f"{_CATCH_ALL}-{chain.name}"
        chains.append(chain)
    made = listener("virtualInbound", _EVERYWHERE, naming.INBOUND_PORT, chains, base_pb2.INBOUND)
    made.listener_filters_timeout.CopyFrom(pb.duration(_SILENCE))
    made.continue_on_listener_filters_timeout = True
    return _with_inspection(made)


def _for_port(chain: Any, port: int) -> Any:
    chain.filter_chain_match.destination_port.value = port
    chain.name = f"{port}-{chain.name}"
    return chain


def _black_hole_chain(world: World, side: http.Side, port: int) -> Any:
    """A connection made to the proxy's own port would go round in circles."""
    filters = http.tcp_filters(world.mesh, side, naming.BLACK_HOLE)
    return _for_port(listener_components_pb2.FilterChain(name="blackhole", filters=filters), port)


def _with_inspection(made: listener_pb2.Listener) -> Any:
    made.listener_filters.add(
        name="envoy.filters.listener.original_dst", typed_config=pb.pack(original_dst_pb2.OriginalDst())
    )
    made.listener_filters.add(
        name="envoy.filters.listener.tls_inspector", typed_config=pb.pack(tls_inspector_pb2.TlsInspector())
    )
    return made
