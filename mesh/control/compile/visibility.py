"""Who sees what: services and rules are visible in namespaces by exportTo, and the nearest rule wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mesh.api.destination_rule import DestinationRuleSpec, Subset, TrafficPolicy
from mesh.api.objects import ConfigObject
from mesh.api.sidecar import EgressListener, SidecarSpec
from mesh.api.virtual_service import VirtualServiceSpec
from mesh.control import registry
from mesh.control.compile.delegates import whole_virtual_services
from mesh.control.compile.naming import host_matches, most_specific, resolve
from mesh.control.world import Labels, Service, World

DestinationRule = ConfigObject[DestinationRuleSpec]
VirtualService = ConfigObject[VirtualServiceSpec]
Sidecar = ConfigObject[SidecarSpec]


def exported(export_to: Sequence[str], own_namespace: str, client_namespace: str) -> bool:
    """May `client_namespace` see an object of `own_namespace`? Nothing said means everybody."""
    if not export_to or "*" in export_to:
        return True
    if client_namespace == own_namespace and "." in export_to:
        return True
    return client_namespace in export_to


def services_for(world: World, namespace: str, sidecar: Sidecar | None = None) -> tuple[Service, ...]:
    """The services a proxy of this namespace may call, sorted: those exported to it that its Sidecar object, if there
    is one, lets it see. Of several for one host its own namespace's comes first, then Kubernetes', then the oldest.
    """
    found = registry.services(world)

    def build() -> tuple[Service, ...]:
        seen: dict[str, Service] = {}
        for service in found.values():
            if not exported(service.export_to, service.namespace, namespace):
                continue
            if sidecar and not imports(sidecar, service.namespace, service.hostname):
                continue
            other = seen.setdefault(service.hostname, service)
            if other is not service and _precedence(service, namespace) < _precedence(other, namespace):
                seen[service.hostname] = service
        return tuple(sorted(seen.values(), key=lambda service: service.key))

    return world.memo.get(("services", namespace, _sidecar_key(sidecar)), (found, sidecar), build)


def _precedence(service: Service, namespace: str) -> tuple[bool, bool, float, str]:
    return (service.namespace != namespace, service.entry is not None, service.created, service.namespace)


def _sidecar_key(sidecar: Sidecar | None) -> tuple[str, str] | None:
    return (sidecar.namespace, sidecar.name) if sidecar else None


def sidecar_for(world: World, namespace: str, labels: Labels) -> Sidecar | None:
    """The Sidecar object of a workload: one that selects it, else its namespace's, else the mesh's (root namespace)."""
    listed = world.sidecars
    if not listed:
        return None
    own = [each for each in listed if each.namespace == namespace]
    general = [each for each in own if each.spec.workload_selector is None]
    selecting = [s for s in own if s.spec.workload_selector and s.spec.workload_selector.selects(labels)]
    of_mesh = [each for each in listed if each.namespace == world.mesh.root_namespace]
    of_mesh = [each for each in of_mesh if each.spec.workload_selector is None]
    return next(iter((*selecting, *general, *of_mesh)), None)


def imports(
    sidecar: Sidecar, namespace: str, host: str, listeners: Sequence[EgressListener] | None = None
) -> bool:
    """Does a Sidecar object's egress (or these listeners of it) let its workloads see this host?"""
    chosen = sidecar.spec.egress if listeners is None else listeners
    if not chosen:
        return True
    for entry in (entry for listener in chosen for entry in listener.hosts):
        place, _, pattern = entry.partition("/")
        place = sidecar.namespace if place == "." else place
        if place in ("*", namespace) and host_matches(pattern.lower(), host):
            return True
    return False


def services_selecting(world: World, namespace: str, labels: Labels) -> list[Service]:
    """The services of a namespace whose selector fits these pod labels, by name.

    A thousand proxies ask this of a thousand services: so services are found by the first label they ask for.
    """
    services = registry.services(world)

    def build() -> dict[tuple[str, str, str], list[Service]]:
        index: dict[tuple[str, str, str], list[Service]] = {}
        for service in services.values():
            if service.selector and service.entry is None:
                key, value = min(service.selector.items())
                index.setdefault((service.namespace, key, value), []).append(service)
        return index

    index = world.memo.get("services by selector", (services,), build)
    candidates = (s for key, value in labels.items() for s in index.get((namespace, key, value), ()))
    return sorted((s for s in candidates if fits(s.selector, labels)), key=lambda service: service.name)


def fits(selector: Mapping[str, str], labels: Labels) -> bool:
    """Do the labels have everything the selector asks for?"""
    return all(labels.get(key) == value for key, value in selector.items())


def virtual_services_for(
    world: World, namespace: str, sidecar: Sidecar | None = None
) -> tuple[VirtualService, ...]:
    """The VirtualServices a proxy of this namespace obeys, oldest first."""
    listed = whole_virtual_services(world)

    def build() -> tuple[VirtualService, ...]:
        found = (vs for vs in listed if exported(vs.spec.export_to, vs.namespace, namespace))
        return tuple(vs for vs in found if sidecar is None or _imports_rules(world, sidecar, vs))

    return world.memo.get(("virtual services", namespace, _sidecar_key(sidecar)), (listed, sidecar), build)


def _imports_rules(world: World, sidecar: Sidecar, vs: VirtualService) -> bool:
    domain = world.mesh.cluster_domain
    hosts = (resolve(host, vs.namespace, domain) for host in vs.spec.hosts)
    return any(imports(sidecar, vs.namespace, host) for host in hosts)


@dataclass(frozen=True, slots=True)
class MergedRule:
    """What all DestinationRules of one namespace say about one host: the oldest policy, all subsets."""

    sources: tuple[DestinationRule, ...]
    traffic_policy: TrafficPolicy | None
    subsets: Mapping[str, Subset]


def destination_rule_for(
    world: World, client_namespace: str, service: Service, client_labels: Labels = MappingProxyType({})
) -> MergedRule | None:
    """The rule that holds when a proxy of `client_namespace` calls `service`.

    Istio looks in the client's namespace, then in the service's, then in the root namespace; the first that
    has a rule for the host decides, there the most specific host, and rules for the same host are merged. In the
    client's own namespace rules with a workloadSelector that fits the client go before those without one.
    """
    index = _rule_index(world)
    for namespace in dict.fromkeys((client_namespace, service.namespace, world.mesh.root_namespace)):
        known = index.get(namespace)
        if known is None:
            continue
        visible = {
            host: rules
            for host in known.candidates(service.hostname)
            if (rules := _visible(known.by_host[host], namespace, client_namespace, client_labels))
        }
        if (host := most_specific(visible, service.hostname)) is not None:
            return _merge(world, visible[host])
    return None


@dataclass(slots=True)
class _Rules:
    """The DestinationRules of one namespace by full host name; hosts with a wildcard (few) are also listed apart."""

    by_host: dict[str, tuple[DestinationRule, ...]]
    wildcards: list[str]

    def candidates(self, hostname: str) -> Iterator[str]:
        if hostname in self.by_host:
            yield hostname
        yield from self.wildcards

    def add(self, host: str, rule: DestinationRule) -> None:
        if host.startswith("*") and host not in self.by_host:
            self.wildcards.append(host)
        self.by_host[host] = (*self.by_host.get(host, ()), rule)


def _visible(
    rules: tuple[DestinationRule, ...], namespace: str, client_namespace: str, labels: Labels
) -> tuple[DestinationRule, ...]:
    selecting = tuple(
        rule for rule in rules if rule.spec.client_labels and fits(rule.spec.client_labels, labels)
    )
    if selecting and namespace == client_namespace:
        return selecting
    return tuple(
        rule
        for rule in rules
        if not rule.spec.client_labels and exported(rule.spec.export_to, namespace, client_namespace)
    )


def _rule_index(world: World) -> Mapping[str, _Rules]:
    """DestinationRules by their namespace."""
    listed = world.destination_rules

    def build() -> Mapping[str, _Rules]:
        index: dict[str, _Rules] = {}
        for rule in listed:
            host = resolve(rule.spec.host, rule.namespace, world.mesh.cluster_domain)
            index.setdefault(rule.namespace, _Rules({}, [])).add(host, rule)
        return MappingProxyType(index)

    return world.memo.get("rule index", (listed, world.mesh), build)


def _merge(world: World, rules: tuple[DestinationRule, ...]) -> MergedRule:
    def build() -> MergedRule:
        subsets: dict[str, Subset] = {}
        for rule in rules:
            for subset in rule.spec.subsets:
                subsets.setdefault(subset.name, subset)
        policies = (rule.spec.traffic_policy for rule in rules if rule.spec.traffic_policy)
        return MergedRule(rules, next(policies, None), MappingProxyType(subsets))

    key = ("merged rule", *((rule.namespace, rule.name) for rule in rules))
    return world.memo.get(key, rules, build)
