"""RDS for sidecars: which host names there are, and what happens to a request for each.

Every HTTP port of every visible service gets a virtual host under all the names a client may use. The VirtualService
for its host, if there is one for this proxy, says what happens there; else everything goes to the service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from envoy.config.route.v3 import route_components_pb2 as route
from envoy.config.route.v3 import route_pb2

from mesh.api.routing import Destination
from mesh.api.virtual_service import MESH
from mesh.control.compile import naming, pb
from mesh.control.compile.actions import Target, TargetOf, build_route, default_route
from mesh.control.compile.hashing import anything_hashed, hash_of, rule_if_hashed
from mesh.control.compile.matches import applies, is_catch_all
from mesh.control.compile.naming import host_matches, most_specific, resolve, short_names
from mesh.control.compile.view import view_of
from mesh.control.compile.visibility import VirtualService, services_for, virtual_services_for
from mesh.control.world import Labels, Proxy, Service, ServicePort, World

MAX_DIRECT_RESPONSE = 1024 * 1024


class Asker(NamedTuple):
    """For whom rules are compiled: what `sourceLabels`, `sourceNamespace` and `gateways` of a match look at, and for
    whom DestinationRules are.
    """

    namespace: str
    labels: Labels
    gateways: frozenset[str]
    #: Stands for this value in keys of the memo.
    key: Any


def rules_of(world: World, vs: VirtualService, port: int, asker: Asker) -> tuple[Any, ...]:
    """The routes of a VirtualService on one port, for one kind of asker, in order; none if no rule applies.

    A rule without condition fits every request, so what stands behind it is left out.
    """
    names = destinations_of(world, vs)
    services = tuple(world.by_hostname.get(name) for name in names)
    hashing = tuple(rule_if_hashed(world, asker.namespace, asker.labels, service) for service in services)
    key = ("rules", vs.namespace, vs.name, port, asker.key)
    inputs = (vs, world.mesh, *services, *hashing)
    return world.memo.get(key, inputs, lambda: _build_rules(world, vs, port, asker))


def _build_rules(world: World, vs: VirtualService, port: int, asker: Asker) -> tuple[Any, ...]:
    choose = target_of(world, vs.namespace, port, asker)
    routes = []
    for rule in vs.spec.http:
        for match in rule.match or (None,):
            if match is not None and not applies(match, port, asker.namespace, asker.labels, asker.gateways):
                continue
            built = build_route(rule, match, port, choose)
            built.metadata.filter_metadata["istio"].update({"config": config_path(vs)})
            routes.append(built)
            if is_catch_all(match):
                return tuple(routes)
    return tuple(routes)


def config_path(vs: VirtualService) -> str:
    """Where a route comes from, in the form Istio writes it."""
    group = "networking.istio.io/v1"
    return f"/apis/{group}/namespaces/{vs.namespace}/virtual-service/{vs.name}"


def destinations_of(world: World, vs: VirtualService) -> tuple[str, ...]:
    """Full host names of all services a VirtualService sends requests to."""

    def build() -> tuple[str, ...]:
        targets = [to.destination for rule in vs.spec.http for to in rule.route]
        targets += [to.destination for rule in vs.spec.http for to in rule.mirrors]
        targets += [rule.mirror for rule in vs.spec.http if rule.mirror]
        targets += [to.destination for tls in vs.spec.tls for to in tls.route]
        targets += [to.destination for tcp in vs.spec.tcp for to in tcp.route]
        domain = world.mesh.cluster_domain
        return tuple(dict.fromkeys(resolve(to.host, vs.namespace, domain) for to in targets))

    return world.memo.get(("destinations", vs.namespace, vs.name), (vs, world.mesh), build)


def target_of(world: World, namespace: str, port: int, asker: Asker) -> TargetOf:
    """Names the cluster of a destination, whether it exists or not: a missing one answers 503 with flag NC."""

    def choose(destination: Destination) -> Target:
        hostname = resolve(destination.host, namespace, world.mesh.cluster_domain)
        service = world.by_hostname.get(hostname)
        number = port
        if destination.port:
            number = destination.port.number
        elif service and len(service.ports) == 1:
            number = service.ports[0].port
        rule = rule_if_hashed(world, asker.namespace, asker.labels, service)
        hashed = hash_of(world, rule, destination.subset, number)
        return Target(naming.outbound(number, destination.subset, hostname), hashed)

    return choose


# --- what a sidecar sees ---


class MeshRules(NamedTuple):
    """VirtualServices bound to the sidecars of a namespace, by full host name."""

    exact: Mapping[str, tuple[VirtualService, ...]]
    wildcards: Mapping[str, tuple[VirtualService, ...]]
    #: Every set of labels some `sourceLabels` asks for.
    label_sets: tuple[Mapping[str, str], ...]

    def for_host(self, hostname: str) -> Iterator[VirtualService]:
        """Those that hold for a service, the most specific host first, the oldest first for one host."""
        yield from self.exact.get(hostname, ())
        covering = [pattern for pattern in self.wildcards if host_matches(pattern, hostname)]
        while (pattern := most_specific(covering, hostname)) is not None:
            covering.remove(pattern)
            yield from self.wildcards[pattern]


def mesh_rules(world: World, namespace: str) -> MeshRules:
    listed = virtual_services_for(world, namespace)

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

    return world.memo.get(("mesh rules", namespace), (listed, world.mesh), build)


def mesh_asker(world: World, proxy: Proxy) -> Asker:
    """Sidecars that fulfil the same label conditions get the same routes, so only that is part of the key."""
    label_sets = mesh_rules(world, proxy.namespace).label_sets
    fulfilled = tuple(all(proxy.labels.get(k) == v for k, v in wanted.items()) for wanted in label_sets)
    key = (view_of(world, proxy).rules_key, fulfilled)
    return Asker(proxy.namespace, proxy.labels, frozenset({MESH}), key)


def http_proxy_routes(world: World, proxy: Proxy) -> Any:
    """Route configuration `http_proxy`: all services on all ports, told apart by the port in the authority."""
    return outbound_routes(world, proxy, None)


def outbound_routes(world: World, proxy: Proxy, port: int | None) -> Any:
    """The routes of a listener for one service port, or (None) of the HTTP proxy, which serves all ports."""
    asker = mesh_asker(world, proxy)
    services = services_for(world, proxy.namespace)
    listed = virtual_services_for(world, proxy.namespace)

    def build() -> Any:
        hosts = [*_service_hosts(world, services, asker, port), *_other_hosts(world, services, asker, port)]
        hosts = sorted(without_repeated_domains(hosts), key=lambda host: str(host.name))
        return route_pb2.RouteConfiguration(
            name=naming.HTTP_PROXY if port is None else str(port),
            virtual_hosts=[*hosts, _catch_all(world, proxy)],
            validate_clusters=pb.boolean(False),
            ignore_port_in_host_matching=port is not None,
            max_direct_response_body_size_bytes=pb.uint32(MAX_DIRECT_RESPONSE),
        )

    key = ("outbound routes", port, proxy.interception, asker.key)
    hashing = world.destination_rules if anything_hashed(world) else None
    return world.memo.get(key, (services, world.services, listed, world.mesh, hashing), build)


def _service_hosts(
    world: World, services: Iterable[Service], asker: Asker, only: int | None
) -> Iterator[Any]:
    rules = mesh_rules(world, asker.namespace)
    for service in services:
        for port in service.ports:
            if not port.is_http or only not in (None, port.port):
                continue
            applying = (rules_of(world, vs, port.port, asker) for vs in rules.for_host(service.hostname))
            routes = next((found for found in applying if found), None)
            yield _service_host(world, service, port, asker, routes, with_port=only is None)


def _service_host(
    world: World,
    service: Service,
    port: ServicePort,
    asker: Asker,
    routes: tuple[Any, ...] | None,
    *,
    with_port: bool,
) -> Any:
    name = f"{service.hostname}:{port.port}"
    hashed = hash_of(world, rule_if_hashed(world, asker.namespace, asker.labels, service), "", port.port)

    def build() -> Any:
        cluster = naming.outbound(port.port, "", service.hostname)
        names = short_names(service.hostname, asker.namespace, world.mesh.cluster_domain)
        if service.cluster_ip and service.cluster_ip != "None":
            names.append(service.cluster_ip)
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
    rules = mesh_rules(world, asker.namespace)
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


def _catch_all(world: World, proxy: Proxy) -> Any:
    """Hosts the mesh does not know: passed on, or refused with 502 (Istio's `block_all`)."""
    if world.mesh.outbound_traffic_policy == "ALLOW_ANY":
        host = route.VirtualHost(name="allow_any", domains=["*"], routes=[default_route(naming.PASSTHROUGH)])
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
