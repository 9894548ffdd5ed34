"""What distinguishes one client proxy from another when outbound configuration is compiled for it.

Most proxies of a namespace see the very same clusters, endpoints and routes. A `View` holds what could make a
difference (labels, place, kind of proxy), and its `key` only what does make one in this world: proxies with equal keys
share everything that is compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mesh.api.destination_rule import TrafficPolicy
from mesh.control.compile.visibility import Sidecar, sidecar_for
from mesh.control.world import Interception, Labels, Locality, Proxy, ProxyType, Workload, World


class View(NamedTuple):
    """One client, as far as outbound configuration depends on it."""

    namespace: str
    labels: Labels
    locality: Locality
    type: ProxyType
    interception: Interception
    #: What of the mesh it is to see; None: everything.
    sidecar: Sidecar | None
    #: Which DestinationRules are for this client: its namespace, the workloadSelectors that fit it, its Sidecar.
    rules_key: Any
    #: Stands for the whole view in keys of the memo.
    key: Any


class _Distinctions(NamedTuple):
    """What DestinationRules (and Telemetry objects) ask about clients."""

    selectors: tuple[Labels, ...]
    localities: bool
    labels: tuple[str, ...]


def view_of(world: World, proxy: Proxy) -> View:
    """The view of one proxy."""
    workload = world.workload_of(proxy)
    asked = (world.destination_rules, world.telemetries, world.sidecars, world.mesh)
    return world.memo.get(
        ("view", proxy.id), (proxy, workload, *asked), lambda: _view(world, proxy, workload)
    )


def _view(world: World, proxy: Proxy, workload: Workload | None) -> View:
    asked = _distinctions(world)
    labels = workload.labels if workload else proxy.labels
    place = workload.locality if workload and any(workload.locality) else proxy.locality
    fulfilled = tuple(all(labels.get(k) == v for k, v in wanted.items()) for wanted in asked.selectors)
    sidecar = sidecar_for(world, proxy.namespace, labels) if proxy.type == "sidecar" else None
    rules_key = (proxy.namespace, fulfilled, (sidecar.namespace, sidecar.name) if sidecar else None)
    key = (
        rules_key,
        proxy.type,
        proxy.interception,
        place if asked.localities else None,
        tuple(labels.get(name) for name in asked.labels),
    )
    return View(proxy.namespace, labels, place, proxy.type, proxy.interception, sidecar, rules_key, key)


def _distinctions(world: World) -> _Distinctions:
    rules, logged = world.destination_rules, world.telemetries

    def build() -> _Distinctions:
        wanted_labels: list[Labels] = [rule.spec.client_labels for rule in rules]
        wanted_labels += [each.spec.selector.match_labels for each in logged if each.spec.selector]
        selectors = {tuple(sorted(labels.items())): labels for labels in wanted_labels}
        policies = [policy for rule in rules for policy in rule.spec.policies]
        names = {name.partition("=")[0]: None for policy in policies for name in _priority_labels(policy)}
        return _Distinctions(
            tuple(wanted for wanted in selectors.values() if wanted),
            any(map(_depends_on_place, policies)),
            tuple(names),
        )

    return world.memo.get("distinctions of clients", (rules, logged), build)


def _depends_on_place(policy: TrafficPolicy) -> bool:
    """Localities matter where failover is possible (outlier detection) or distribution is asked for."""
    return any(
        level.outlier_detection or (level.load_balancer and level.load_balancer.locality_lb_setting)
        for level in policy.levels
    )


def _priority_labels(policy: TrafficPolicy) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    for level in policy.levels:
        if level.load_balancer and level.load_balancer.locality_lb_setting:
            found += level.load_balancer.locality_lb_setting.failover_priority
    return found
