"""The rules of one VirtualService as Envoy's routes, for one kind of proxy that asks."""

from __future__ import annotations

from typing import Any, NamedTuple

from mesh.api.routing import Destination
from mesh.api.sticky import sticky_of
from mesh.api.virtual_service import MESH
from mesh.control.compile import naming
from mesh.control.compile.actions import Target, TargetOf, build_route
from mesh.control.compile.hashing import hash_of, rule_if_hashed
from mesh.control.compile.matches import applies, is_catch_all
from mesh.control.compile.naming import resolve
from mesh.control.compile.sticky import make_sticky
from mesh.control.compile.view import View
from mesh.control.compile.visibility import VirtualService
from mesh.control.registry import by_hostname
from mesh.control.world import Labels, World


class Asker(NamedTuple):
    """For whom rules are compiled: what `sourceLabels`, `sourceNamespace` and `gateways` of a match look at, and for
    whom DestinationRules are.
    """

    view: View
    gateways: frozenset[str]
    #: Stands for this value in keys of the memo.
    key: Any

    @property
    def namespace(self) -> str:
        return self.view.namespace

    @property
    def labels(self) -> Labels:
        return self.view.labels


def rules_of(world: World, vs: VirtualService, port: int, asker: Asker) -> tuple[Any, ...]:
    """The routes of a VirtualService on one port, for one kind of asker, in order; none if no rule applies.

    A rule without condition fits every request, so what stands behind it is left out.
    """
    names = destinations_of(world, vs)
    services = tuple(by_hostname(world).get(name) for name in names)
    hashing = tuple(rule_if_hashed(world, asker.namespace, asker.labels, service) for service in services)
    key = ("rules", vs.namespace, vs.name, port, asker.key)
    inputs = (vs, world.mesh, *services, *hashing)
    return world.memo.get(key, inputs, lambda: _build_rules(world, vs, port, asker))


def _build_rules(world: World, vs: VirtualService, port: int, asker: Asker) -> tuple[Any, ...]:
    choose = target_of(world, vs.namespace, port, asker)
    sticky = sticky_of(vs.annotations, f"{vs.namespace}/{vs.name}")
    routes = []
    for rule in vs.spec.http:
        for match in rule.match or (None,):
            if match is not None and not applies(match, port, asker.namespace, asker.labels, asker.gateways):
                continue
            built = build_route(rule, match, port, choose)
            if sticky is not None:
                make_sticky(built, sticky, at_gateway=MESH not in asker.gateways)
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
        service = by_hostname(world).get(hostname)
        number = port
        if destination.port:
            number = destination.port.number
        elif service and len(service.ports) == 1:
            number = service.ports[0].port
        rule = rule_if_hashed(world, asker.namespace, asker.labels, service)
        hashed = hash_of(world, rule, destination.subset, number)
        return Target(naming.outbound(number, destination.subset, hostname), hashed)

    return choose
