"""RDS for sidecars: which host names there are, and what happens to a request for each.

Every HTTP port of every visible service gets a virtual host under all the names a client may use. The VirtualService
for its host, if there is one for this proxy, says what happens there; else everything goes to the service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from envoy.config.route.v3 import route_components_pb2 as route
from envoy.config.route.v3 import route_pb2

from mesh.api.load_balancing import ConsistentHash
from mesh.api.sidecar import EgressListener
from mesh.api.virtual_service import MESH
from mesh.control.compile import naming, pb
from mesh.control.compile.actions import default_route
from mesh.control.compile.hashing import anything_hashed, hash_of, rule_if_hashed
from mesh.control.compile.naming import host_matches, most_specific, resolve, short_names
from mesh.control.compile.rules import Asker, rules_of
from mesh.control.compile.view import View, view_of
from mesh.control.compile.visibility import VirtualService, imports, services_for, virtual_services_for
from mesh.control.registry import services as all_services
from mesh.control.world import Proxy, Service, ServicePort, World

MAX_DIRECT_RESPONSE = 1024 * 1024


class MeshRules(NamedTuple):
    """VirtualServices bound to the sidecars of a namespace, by full host name."""

    exact: Mapping[str, tuple[VirtualService, ...]]
    wildcards: Mapping[str, tuple[VirtualService, ...]]
    #: Every set of labels some `sourceLabels` asks for.
    label_sets: tuple[Mapping[str, str], ...]

    def for_host(self, hostname: str) -> Iterator[VirtualService]:
        """Those that hold for a service, the most specific host first, the oldest first for one host."""
        yield from self.exact.get(hostname, ())
        if not self.wildcards:
            return
        covering = [pattern for pattern in self.wildcards if host_matches(pattern, hostname)]
        while (pattern := most_specific(covering, hostname)) is not None:
            covering.remove(pattern)
            yield from self.wildcards[pattern]


def mesh_rules(world: World, view: View) -> MeshRules:
    """The VirtualServices for the sidecars with this view."""
    listed = virtual_services_for(world, view.namespace, view.sidecar)

    def build() -> MeshRules:
        exact: dict[str, tuple[VirtualService, ...]] = {}
        wildcards: dict[str, tuple[VirtualService, ...]] = {}
        label_sets: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        for vs in listed:
            if MESH not in vs.spec.gateway_names:
                continue
            for host in vs.spec.hosts:
                name = resolve(host, vs.namespace, world.mesh.cluster_domain)
                table = wildcards if name.startswith("*") else exact
                table[name] = (*table.get(name, ()), vs)
            asked = [match.source_labels for rule in vs.spec.http for match in rule.match]
            asked += [match.source_labels for tls in vs.spec.tls for match in tls.match]
            asked += [match.source_labels for tcp in vs.spec.tcp for match in tcp.match]
            label_sets |= {tuple(sorted(labels.items())): labels for labels in asked if labels}
        return MeshRules(exact, wildcards, tuple(label_sets.values()))

    sidecar = view.sidecar.name if view.sidecar else None
    return world.memo.get(("mesh rules", view.namespace, sidecar), (listed, world.mesh, view.sidecar), build)


def mesh_asker(world: World, proxy: Proxy) -> Asker:
    """Sidecars that fulfil the same label conditions get the same routes, so only that is part of the key."""
    view = view_of(world, proxy)
    label_sets = mesh_rules(world, view).label_sets
    fulfilled = tuple(all(view.labels.get(k) == v for k, v in wanted.items()) for wanted in label_sets)
    return Asker(view, frozenset({MESH}), (view.rules_key, fulfilled))


def http_proxy_routes(world: World, proxy: Proxy) -> Any:
    """Route configuration `http_proxy`: all services on all ports, told apart by the port in the authority."""
    return outbound_routes(world, proxy, None)


def outbound_routes(
    world: World, proxy: Proxy, port: int | None, egress: EgressListener | None = None
) -> Any:
    """The routes of a listener for one service port, or (None) of the HTTP proxy, which serves all ports.

    A port for which a Sidecar object has a listener of its own (`egress`) serves what that one names.
    """
    asker = mesh_asker(world, proxy)
    sidecar = asker.view.sidecar
    visible = services_for(world, proxy.namespace, sidecar)
    listed = virtual_services_for(world, proxy.namespace, sidecar)

    def build() -> Any:
        services = visible
        if sidecar and egress:
            services = tuple(s for s in visible if imports(sidecar, s.namespace, s.hostname, [egress]))
        hosts = [*_service_hosts(world, services, asker, port), *_other_hosts(world, services, asker, port)]
        hosts = sorted(without_repeated_domains(hosts), key=lambda host: str(host.name))
        return route_pb2.RouteConfiguration(
            name=naming.HTTP_PROXY if port is None else str(port),
            virtual_hosts=[*hosts, _catch_all(world, asker.view)],
            validate_clusters=pb.boolean(False),
            ignore_port_in_host_matching=port is not None,
            max_direct_response_body_size_bytes=pb.uint32(MAX_DIRECT_RESPONSE),
        )

    key = ("outbound routes", port, proxy.interception, asker.key)
    hashing = world.destination_rules if anything_hashed(world) else None
    inputs = (visible, all_services(world), listed, world.mesh, hashing, sidecar, egress)
    return world.memo.get(key, inputs, build)


def _service_hosts(
    world: World, services: Iterable[Service], asker: Asker, only: int | None
) -> Iterator[Any]:
    rules, hashing = mesh_rules(world, asker.view), anything_hashed(world)
    for service in services:
        for port in service.ports:
            if not port.is_http or only not in (None, port.port):
                continue
            applying = (rules_of(world, vs, port.port, asker) for vs in rules.for_host(service.hostname))
            routes = next((found for found in applying if found), None)
            rule = rule_if_hashed(world, asker.namespace, asker.labels, service) if hashing else None
            hashed = hash_of(world, rule, "", port.port)
            yield _service_host(world, service, port, asker, routes, with_port=only is None, hashed=hashed)


def _service_host(
    world: World,
    service: Service,
    port: ServicePort,
    asker: Asker,
    routes: tuple[Any, ...] | None,
    *,
    with_port: bool,
    hashed: ConsistentHash | None,
) -> Any:
    name = f"{service.hostname}:{port.port}"

    def build() -> Any:
        cluster = naming.outbound(port.port, "", service.hostname)
        names = short_names(service.hostname, asker.namespace, world.mesh.cluster_domain)
        names += service.vips
        return route.VirtualHost(
            name=name,
            domains=_domains(names, port.port) if with_port else names,
            routes=routes or [default_route(cluster, hashed)],
        )

    is_local = asker.namespace == service.namespace
    return world.memo.get(
        (
            "virtual host",
            name,
            is_local,
            with_port,
            id(routes) if routes else None,
            id(hashed) if hashed else None,
        ),
        (service, port, routes, world.mesh, hashed),
        build,
    )


def _domains(names: Iterable[str], port: int) -> list[str]:
    """`name:port`, and on port 80, which clients leave out, the bare name too."""
    return [
        form for name in names for form in ((name, f"{name}:{port}") if port == 80 else (f"{name}:{port}",))
    ]


def _other_hosts(world: World, services: Iterable[Service], asker: Asker, only: int | None) -> Iterator[Any]:
    """Hosts of VirtualServices that are no service: names of our own, reachable on port 80 (as in Istio)."""
    if only not in (None, 80):
        return
    known = {service.hostname for service in services}
    rules = mesh_rules(world, asker.view)
    for host, candidates in (*rules.exact.items(), *rules.wildcards.items()):
        if host in known or any(host_matches(host, name) for name in known if host.startswith("*")):
            continue
        routes = next((found for vs in candidates if (found := rules_of(world, vs, 80, asker))), None)
        if routes:
            yield route.VirtualHost(name=f"{host}:80", domains=_domains([host], 80), routes=routes)


def without_repeated_domains(hosts: Iterable[Any]) -> Iterator[Any]:
    """Envoy refuses a domain that stands in two virtual hosts: the first keeps it."""
    seen: set[str] = set()
    for host in hosts:
        fresh = [domain for domain in host.domains if domain not in seen]
        seen.update(fresh)
        if len(fresh) == len(host.domains):
            yield host
        elif fresh:
            copy = route.VirtualHost()
            copy.CopyFrom(host)
            copy.domains[:] = fresh
            yield copy


def open_to_all(world: World, view: View) -> bool:
    """May a client call hosts the mesh does not know? Its Sidecar object says, else the mesh config."""
    policy = view.sidecar.spec.outbound_traffic_policy if view.sidecar else None
    return (policy.mode if policy else world.mesh.outbound_traffic_policy) == "ALLOW_ANY"


def egress_proxy(world: World, view: View) -> str | None:
    """The cluster by way of which calls to unknown hosts go, where a Sidecar object names one."""
    policy = view.sidecar.spec.outbound_traffic_policy if view.sidecar else None
    to = policy.egress_proxy if policy else None
    if to is None or to.port is None or view.sidecar is None:
        return None
    hostname = resolve(to.host, view.sidecar.namespace, world.mesh.cluster_domain)
    return naming.outbound(to.port.number, to.subset, hostname)


def _catch_all(world: World, view: View) -> Any:
    """Hosts the mesh does not know: passed on, or refused with 502 (Istio's `block_all`)."""
    if open_to_all(world, view):
        to = egress_proxy(world, view) or naming.PASSTHROUGH
        host = route.VirtualHost(name="allow_any", domains=["*"], routes=[default_route(to)])
        host.routes[0].name = "allow_any"
        host.routes[0].route.ClearField("retry_policy")
        return host
    refused = route.Route(name="block_all", match=route.RouteMatch(prefix="/"))
    refused.direct_response.status = 502
    return route.VirtualHost(name="block_all", domains=["*"], routes=[refused])


def inbound_routes(port: int) -> Any:
    """Everything to the app, without time limit: the client's sidecar has the limits."""
    everything = route.Route(name="default", match=route.RouteMatch(prefix="/"))
    everything.route.cluster = naming.inbound(port)
    everything.route.timeout.CopyFrom(pb.duration(0))
    return route_pb2.RouteConfiguration(
        name=naming.inbound(port),
        virtual_hosts=[route.VirtualHost(name=f"inbound|http|{port}", domains=["*"], routes=[everything])],
        validate_clusters=pb.boolean(False),
    )
