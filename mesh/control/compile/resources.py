"""The entry point of the compiler: every resource of one proxy, by type and name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from mesh.api.destination_rule import TrafficPolicy
from mesh.control import registry
from mesh.control.compile import (
    clusters,
    egress,
    gateway_listeners,
    gateways,
    interception,
    listeners,
    naming,
    routes,
)
from mesh.control.compile.hashing import anything_hashed
from mesh.control.compile.secrets import SECRET, secrets_for
from mesh.control.compile.telemetry import observed
from mesh.control.compile.view import view_of
from mesh.control.compile.visibility import services_for, virtual_services_for
from mesh.control.world import MeshConfig, Proxy, World

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
#: In the order of publication, make before break: a resource comes before those that name it.
ALL_TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)

Named = Mapping[str, Message]


@dataclass(frozen=True, slots=True)
class Resources:
    """What one proxy gets: `by_type[type_url][name]` is the message. Messages are shared: never change one."""

    by_type: Mapping[str, Mapping[str, Message]]


def compile(world: World, proxy: Proxy) -> Resources:
    """Every cluster, endpoint set, listener and route configuration of `proxy` in `world`. Pure.

    Names are unique within a type, and every resource that is named by another is there too, but for clusters that
    no service or subset stands for: requests to those answer 503 with the flag NC.
    """
    view = view_of(world, proxy)
    shared, endpoints = clusters.outbound(world, view)
    own, own_listeners, own_routes = (
        _router(world, proxy) if proxy.type == "router" else _sidecar(world, proxy)
    )
    by_type: dict[str, Named] = {
        CLUSTER: world.memo.get(("clusters", proxy.id), (shared, own), lambda: {**shared, **own}),
        ENDPOINT: endpoints,
        LISTENER: own_listeners,
        ROUTE: own_routes,
        SECRET: secrets_for(world, proxy, view),
    }
    return Resources(MappingProxyType(by_type))


def _sidecar(world: World, proxy: Proxy) -> tuple[Named, Named, Named]:
    workload, mesh = world.workload_of(proxy), world.mesh
    view = view_of(world, proxy)
    known = (proxy, workload)
    ports: tuple[listeners.InboundPort, ...] = ()
    if proxy.inbound_capture:
        ports = world.memo.get(
            ("inbound ports", proxy.id),
            (*known, world.services, view.sidecar),
            lambda: listeners.inbound_ports(world, proxy),
        )
    captured = proxy.interception == "REDIRECT"

    def own_clusters() -> Named:
        apps = [_app(mesh, proxy, port) for port in ports]
        common = [clusters.passthrough(mesh, proxy.interception), clusters.black_hole(mesh)]
        rest = [clusters.inbound_passthrough(mesh)] if captured else []
        return _named([*common, *rest, *apps])

    def own_listeners() -> Named:
        if proxy.interception == "REDIRECT":
            return _named([interception.inbound(server, proxy, ports)])
        inbound = (listeners.inbound(server, proxy, port) for port in ports)
        outbound = [listeners.http_proxy(client, proxy), *egress.egress_listeners(client, proxy)]
        return _named([*outbound, *inbound])

    client, server = (observed(world, proxy.namespace, view.labels, mode) for mode in ("CLIENT", "SERVER"))
    # What listeners for egress ports of a Sidecar object depend on.
    scoped = (view.sidecar, registry.services(world), world.virtual_services) if view.sidecar else ()
    tokens = (world.request_authentications, world.jwks)
    policies = (world.peer_authentications, world.authorization_policies, *tokens)
    # The ports are part of the keys, so that a change of services which leaves them alone changes nothing here.
    own = world.memo.get(("own clusters", proxy.id, ports), (*known, mesh), own_clusters)
    sockets = world.memo.get(
        ("own listeners", proxy.id, ports),
        (*known, client.mesh, server.mesh, *policies, *scoped),
        own_listeners,
    )
    if proxy.interception == "REDIRECT":
        return own, {**_captured_listeners(world, proxy), **sockets}, _captured_routes(world, proxy)
    tables = {naming.HTTP_PROXY: routes.http_proxy_routes(world, proxy)}
    return own, sockets, {**tables, **_egress_routes(world, proxy)}


def _egress_routes(world: World, proxy: Proxy) -> Named:
    found = ((port, each) for port, each in egress.egress_of(world, proxy) if egress.is_http(each))
    return {str(port): routes.outbound_routes(world, proxy, port, each) for port, each in found}


def _app(mesh: MeshConfig, proxy: Proxy, port: listeners.InboundPort) -> Any:
    """The cluster of the app behind one port."""
    policy = TrafficPolicy.model_construct(connection_pool=port.pool)
    target, captured = port.target or port.port, proxy.interception == "REDIRECT"
    address = proxy.ip if captured else proxy.app_address
    http2 = port.is_http2
    return clusters.inbound(mesh, address, port.port, target, policy, http2=http2, captured=captured)


def _captured_listeners(world: World, proxy: Proxy) -> Named:
    """Outbound listeners behind iptables: mostly the same for all sidecars of a namespace."""
    key = ("captured listeners", routes.mesh_asker(world, proxy).key)
    hashing = world.destination_rules if anything_hashed(world) else None
    view = view_of(world, proxy)
    rules = virtual_services_for(world, view.namespace, view.sidecar)
    services = services_for(world, view.namespace, view.sidecar)
    inputs = (services, rules, registry.services(world), world.mesh, hashing, view.sidecar)
    seen = observed(world, view.namespace, view.labels, "CLIENT")
    return world.memo.get(key, (*inputs, seen.mesh), lambda: _named(interception.outbound(seen, proxy)))


def _captured_routes(world: World, proxy: Proxy) -> Named:
    ports = interception.http_ports(world, view_of(world, proxy))
    every = {str(port): routes.outbound_routes(world, proxy, port) for port in ports}
    return {**every, **_egress_routes(world, proxy)}


def _router(world: World, proxy: Proxy) -> tuple[Named, Named, Named]:
    inputs = (proxy, registry.services(world), world.workload_of(proxy), world.gateways, world.mesh)
    policies = (world.authorization_policies, world.request_authentications, world.jwks)

    seen = observed(world, proxy.namespace, proxy.labels, "CLIENT")

    def sockets() -> Named:
        ports = gateways.servers_by_port(world, proxy).items()
        return _named(gateway_listeners.gateway(seen, proxy, port, servers) for port, servers in ports)

    def tables() -> Named:
        return _named(gateways.tables(world, proxy))

    own = world.memo.get("router clusters", (world.mesh,), lambda: _named([clusters.black_hole(world.mesh)]))
    hashing = world.destination_rules if anything_hashed(world) else None
    servers = (server for gateway in world.gateways for server in gateway.spec.servers)
    # Routes for connections stand in the listeners; those for HTTP do not.
    by_rules = (world.virtual_services, hashing) if not all(s.serves_http for s in servers) else ()
    own_listeners = world.memo.get(
        ("own listeners", proxy.id), (*inputs, seen.mesh, *policies, *by_rules), sockets
    )
    own_routes = world.memo.get(("own routes", proxy.id), (*inputs, world.virtual_services, hashing), tables)
    return own, own_listeners, own_routes


def _named(messages: Iterable[Any]) -> Named:
    return {message.name: message for message in messages}
