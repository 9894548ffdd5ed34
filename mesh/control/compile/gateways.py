"""LDS and RDS for gateways: the Gateway objects that select a proxy, and the VirtualServices bound to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from envoy.config.route.v3 import route_components_pb2 as route
from envoy.config.route.v3 import route_pb2

from mesh.api.gateway import GatewaySpec, Server
from mesh.api.objects import ConfigObject
from mesh.control.compile import naming, pb
from mesh.control.compile.naming import host_matches, resolve
from mesh.control.compile.routes import MAX_DIRECT_RESPONSE, without_repeated_domains
from mesh.control.compile.rules import Asker, rules_of
from mesh.control.compile.view import view_of
from mesh.control.compile.visibility import VirtualService, fits, services_selecting, virtual_services_for
from mesh.control.world import Proxy, Service, World

Gateway = ConfigObject[GatewaySpec]

#: Nobody outside may claim to be a workload of the mesh.
FORBIDDEN_HEADERS = ("x-envoy-peer-metadata", "x-envoy-peer-metadata-id")


class BoundServer(NamedTuple):
    """A server of a Gateway object."""

    gateway: Gateway
    server: Server

    @property
    def name(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"


def servers_by_port(world: World, proxy: Proxy) -> Mapping[int, list[BoundServer]]:
    """The servers this proxy plays, by the port it must listen on.

    A Gateway names the port of the gateway's Service; the pod listens on the target port behind it.
    """
    targets = _target_ports(world, proxy)
    ports: dict[int, list[BoundServer]] = defaultdict(list)
    for gateway in world.gateways:
        if fits(gateway.spec.selector, proxy.labels):
            for server in gateway.spec.servers:
                ports[targets.get(server.port.number, server.port.number)].append(
                    BoundServer(gateway, server)
                )
    return ports


def _target_ports(world: World, proxy: Proxy) -> dict[int, int]:
    workload = world.workload_of(proxy)
    named = {port.name: port.port for port in workload.ports} if workload else {}
    ports: dict[int, int] = {}
    for service in services_selecting(world, proxy.namespace, proxy.labels):
        ports |= _resolved(service, named)
    return ports


def _resolved(service: Service, named: Mapping[str, int]) -> dict[int, int]:
    resolved: dict[int, int] = {}
    for port in service.ports:
        target = port.target_port if isinstance(port.target_port, int) else named.get(port.target_port)
        if target:
            resolved[port.port] = target
    return resolved


def tables(world: World, proxy: Proxy) -> Iterator[Any]:
    """Every route configuration of a gateway: one for the HTTP servers of a port, one for each that ends TLS."""
    for port, servers in servers_by_port(world, proxy).items():
        if plain := [bound for bound in servers if bound.server.port.is_http]:
            yield gateway_routes(world, proxy, naming.gateway_route(port), port, plain)
        for bound in servers:
            if bound.server.serves_http and not bound.server.port.is_http:
                yield gateway_routes(world, proxy, https_route(bound, port), port, [bound])


def https_route(bound: BoundServer, port: int) -> str:
    """Name of the route configuration of a server that ends TLS (Istio's form)."""
    gateway = bound.gateway
    return f"https.{port}.{bound.server.port.name}.{gateway.name}.{gateway.namespace}"


def gateway_routes(world: World, proxy: Proxy, name: str, port: int, servers: list[BoundServer]) -> Any:
    """A virtual host for each host, with the rules of all VirtualServices that name it."""
    hosts = without_repeated_domains(_virtual_hosts(world, proxy, port, servers))
    ordered = sorted(hosts, key=lambda host: str(host.name))
    return route_pb2.RouteConfiguration(
        name=name,
        virtual_hosts=ordered or [route.VirtualHost(name=f"blackhole:{port}", domains=["*"])],
        validate_clusters=pb.boolean(False),
        ignore_port_in_host_matching=True,
        request_headers_to_remove=FORBIDDEN_HEADERS,
        max_direct_response_body_size_bytes=pb.uint32(MAX_DIRECT_RESPONSE),
    )


def bound_rules(
    world: World, proxy: Proxy, servers: list[BoundServer]
) -> Iterator[tuple[VirtualService, Asker]]:
    """The VirtualServices bound to these servers that have a host in common with them, and for whom they are."""
    view = view_of(world, proxy)
    for vs in virtual_services_for(world, proxy.namespace):
        bound = [server for server in servers if server.name in _gateways_of(vs)]
        if bound and hosts_in_common(world, vs, bound):
            names = frozenset(server.name for server in bound) | {server.gateway.name for server in bound}
            yield vs, Asker(view, names, ("gateway", proxy.id, view.rules_key, *sorted(names)))


def _virtual_hosts(world: World, proxy: Proxy, port: int, servers: list[BoundServer]) -> Iterator[Any]:
    """Rules of several VirtualServices for one host are joined, the oldest first (unlike in sidecars)."""
    routes: dict[str, list[Any]] = defaultdict(list)
    for host in (host for bound in servers for host in _redirecting(bound.server)):
        routes[host] = []
    for vs, asker in bound_rules(world, proxy, servers):
        bound = [server for server in servers if server.name in _gateways_of(vs)]
        rules = rules_of(world, vs, bound[0].server.port.number, asker)
        for host in hosts_in_common(world, vs, bound) if rules else ():
            routes[host].extend(rules)
    patterns = [host for bound in servers for host in _redirecting(bound.server)]
    for host, found in routes.items():
        redirected = any(host_matches(pattern, host) for pattern in patterns)
        yield route.VirtualHost(
            name=f"{host}:{port}",
            domains=[host],
            routes=found,
            require_tls=route.VirtualHost.ALL if redirected else route.VirtualHost.NONE,
        )


def _redirecting(server: Server) -> list[str]:
    """The hosts of a server that only sends its clients to HTTPS."""
    if server.tls is None or not server.tls.https_redirect:
        return []
    return [host.rpartition("/")[2].lower() for host in server.hosts]


def _gateways_of(vs: VirtualService) -> frozenset[str]:
    """Full names of the gateways a VirtualService is bound to."""
    names = (name.removeprefix("./") for name in vs.spec.gateways)
    return frozenset(name if "/" in name else f"{vs.namespace}/{name}" for name in names)


def hosts_in_common(world: World, vs: VirtualService, servers: Iterable[BoundServer]) -> list[str]:
    """The hosts both the VirtualService and one of the servers name; of a pattern and a name, the narrower."""
    found: dict[str, None] = {}
    for bound in servers:
        for entry in bound.server.hosts:
            namespace, _, pattern = entry.rpartition("/")
            namespace = bound.gateway.namespace if namespace == "." else namespace
            if namespace not in ("", "*", vs.namespace):
                continue
            for host in vs.spec.hosts:
                name = resolve(host, vs.namespace, world.mesh.cluster_domain)
                if host_matches(pattern.lower(), name):
                    found[name] = None
                elif host_matches(name, pattern.lower()):
                    found[pattern.lower()] = None
    return list(found)
