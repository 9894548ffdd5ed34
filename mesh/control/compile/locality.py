"""Which endpoints come first for a client at a certain place: priorities (failover) and weights (distribution).

Source: istio.io, Reference, Destination Rule, LocalityLoadBalancerSetting; Envoy, "Priority levels" and "Locality
weighted load balancing". Failover happens only where outlier detection says what is unhealthy, and then by default:
same subzone, zone, region, then the rest.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mesh.api.destination_rule import TrafficPolicy
from mesh.api.load_balancing import Distribute, Failover, LocalityLbSetting
from mesh.control.world import Endpoint, Labels, Locality


class Group(NamedTuple):
    """Endpoints of one locality and one priority (0 first) with their share of requests."""

    locality: Locality
    priority: int
    weight: int
    endpoints: tuple[Endpoint, ...]


class Preference(NamedTuple):
    """What a policy says about places, for one client."""

    setting: LocalityLbSetting
    failover: bool
    locality: Locality
    labels: Labels

    @property
    def key(self) -> tuple[Locality, tuple[str | None, ...]]:
        """What of the client makes a difference."""
        names = (name.partition("=")[0] for name in self.setting.failover_priority)
        return self.locality, tuple(label_of(self.labels, self.locality, name) for name in names)


#: Labels that every workload has by its place.
_OF_PLACE = {
    "topology.kubernetes.io/region": 0,
    "topology.kubernetes.io/zone": 1,
    "topology.istio.io/subzone": 2,
}


def label_of(labels: Labels, locality: Locality, name: str) -> str | None:
    """A label of a workload, or of the place it is at."""
    index = _OF_PLACE.get(name)
    return labels.get(name) if index is None else locality[index]


_DEFAULT = LocalityLbSetting.model_construct()


def preference(policy: TrafficPolicy, locality: Locality, labels: Labels) -> Preference | None:
    """None when the policy treats all places alike."""
    setting = policy.load_balancer.locality_lb_setting if policy.load_balancer else None
    if setting is None:
        return Preference(_DEFAULT, True, locality, labels) if policy.outlier_detection else None
    if setting.enabled is False:
        return None
    return Preference(setting, policy.outlier_detection is not None, locality, labels)


def weighs_localities(policy: TrafficPolicy) -> bool:
    """Must Envoy choose a locality by weight before an endpoint? Only where somebody asks for it."""
    setting = policy.load_balancer.locality_lb_setting if policy.load_balancer else None
    if setting is None or setting.enabled is False:
        return False
    failover = policy.outlier_detection and (setting.failover or setting.failover_priority)
    return bool(setting.distribute or failover)


def groups(endpoints: Sequence[Endpoint], wanted: Preference | None) -> list[Group]:
    """The endpoints by locality, in a stable order."""
    by_place: dict[Locality, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        by_place[endpoint.locality].append(endpoint)
    found = [Group(place, 0, _weight(members), tuple(members)) for place, members in sorted(by_place.items())]
    if wanted is None:
        return found
    if wanted.setting.distribute:
        return _distributed(found, wanted)
    if wanted.failover:
        return _prioritized(found, wanted)
    return found


def _weight(endpoints: Sequence[Endpoint]) -> int:
    return sum(endpoint.weight for endpoint in endpoints)


def _distributed(found: list[Group], wanted: Preference) -> list[Group]:
    rule = next((each for each in wanted.setting.distribute if covers(each.from_, wanted.locality)), None)
    return found if rule is None else list(_shares(found, rule))


def _shares(found: list[Group], rule: Distribute) -> Iterator[Group]:
    """Each place the rule names divides its percentage among the localities it covers; others get nothing."""
    chosen = {place: [g for g in found if covers(place, g.locality)] for place in rule.to}
    for group in found:
        place = next((place for place, members in chosen.items() if group in members), None)
        if place is None:
            yield group._replace(endpoints=(), weight=0)
        else:
            total = sum(member.weight for member in chosen[place])
            yield group._replace(weight=math.ceil(group.weight * rule.to[place] / max(total, 1)))


def covers(pattern: str, locality: Locality) -> bool:
    """Does `region/zone/subzone` (parts left out or `*` at the end) cover a locality?"""
    parts = [part for part in pattern.split("/") if part != "*"]
    return list(locality[: len(parts)]) == parts


def _prioritized(found: list[Group], wanted: Preference) -> list[Group]:
    setting = wanted.setting
    split = [part for group in found for part in _by_labels(group, wanted)]
    if setting.failover or not setting.failover_priority:
        split = [
            group._replace(
                priority=group.priority * 5 + _distance(group.locality, wanted.locality, setting.failover)
            )
            for group in split
        ]
    # Envoy wants priorities from 0 without a gap.
    ranks = {priority: rank for rank, priority in enumerate(sorted({group.priority for group in split}))}
    return [group._replace(priority=ranks[group.priority]) for group in split]


def _distance(place: Locality, own: Locality, failover: Sequence[Failover]) -> int:
    """0: same subzone, 1: same zone, 2: same region, 3: another (the one to fail over to), 4: not that one."""
    if place[0] == own[0]:
        return 2 if place[1] != own[1] else 1 if place[2] != own[2] else 0
    rule = next((each for each in failover if each.from_ == own[0]), None)
    return 4 if rule is not None and place[0] != rule.to else 3


def _by_labels(group: Group, wanted: Preference) -> Iterator[Group]:
    """The more of the labels, in order, an endpoint has in common with the client, the earlier it comes."""
    by_priority: dict[int, list[Endpoint]] = defaultdict(list)
    for endpoint in group.endpoints:
        by_priority[_mismatch(endpoint, wanted)].append(endpoint)
    for priority, members in sorted(by_priority.items()):
        yield Group(group.locality, priority, _weight(members), tuple(members))


def _mismatch(endpoint: Endpoint, wanted: Preference) -> int:
    names = wanted.setting.failover_priority
    for index, name in enumerate(names):
        label, given, value = name.partition("=")
        own = value if given else label_of(wanted.labels, wanted.locality, label)
        if label_of(endpoint.labels, endpoint.locality, label) != own:
            return len(names) - index
    return 0
