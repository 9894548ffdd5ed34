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


def gateway_routes(world: World, proxy: Proxy, port: int, servers: list[BoundServer]) -> Any:
    """Route configuration `http.PORT`: a virtual host for each host, with the rules of all that name it."""
    hosts = without_repeated_domains(_virtual_hosts(world, proxy, port, servers))
    ordered = sorted(hosts, key=lambda host: str(host.name))
    return route_pb2.RouteConfiguration(
        name=naming.gateway_route(port),
        virtual_hosts=ordered or [route.VirtualHost(name=f"blackhole:{port}", domains=["*"])],
        validate_clusters=pb.boolean(False),
        ignore_port_in_host_matching=True,
        request_headers_to_remove=FORBIDDEN_HEADERS,
        max_direct_response_body_size_bytes=pb.uint32(MAX_DIRECT_RESPONSE),
    )


def _virtual_hosts(world: World, proxy: Proxy, port: int, servers: list[BoundServer]) -> Iterator[Any]:
    """Rules of several VirtualServices for one host are joined, the oldest first (unlike in sidecars)."""
    routes: dict[str, list[Any]] = defaultdict(list)
    for vs in virtual_services_for(world, proxy.namespace):
        bound = [server for server in servers if server.name in _gateways_of(vs)]
        if not bound:
            continue
        names = frozenset(server.name for server in bound) | {server.gateway.name for server in bound}
        view = view_of(world, proxy)
        asker = Asker(view, names, ("gateway", proxy.id, view.rules_key, *sorted(names)))
        rules = rules_of(world, vs, bound[0].server.port.number, asker)
        for host in _hosts(world, vs, bound) if rules else ():
            routes[host].extend(rules)
    for host, found in routes.items():
        yield route.VirtualHost(name=f"{host}:{port}", domains=[host], routes=found)


def _gateways_of(vs: VirtualService) -> frozenset[str]:
    """Full names of the gateways a VirtualService is bound to."""
    names = (name.removeprefix("./") for name in vs.spec.gateways)
    return frozenset(name if "/" in name else f"{vs.namespace}/{name}" for name in names)


def _hosts(world: World, vs: VirtualService, servers: Iterable[BoundServer]) -> list[str]:
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
