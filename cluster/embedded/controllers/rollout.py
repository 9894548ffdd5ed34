"""How far a Deployment may go in one step: pure arithmetic over its ReplicaSets.

The rules are those of `kubernetes/pkg/controller/deployment` (rolling.go, recreate.go, deployment_util.go):
never more than replicas + maxSurge pods, never fewer available ones than replicas - maxUnavailable.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.embedded.controllers.base import portion
from cluster.embedded.kube import Object


@dataclass(frozen=True)
class Limits:
    """What a rolling update must keep to, in pods."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        """Pods at most."""
        return self.replicas + self.surge

    @property
    def fewest(self) -> int:
        """Available pods at least."""
        return self.replicas - self.unavailable


@dataclass(frozen=True)
class Counted:
    """A ReplicaSet as the arithmetic sees it."""

    name: str
    wanted: int
    available: int
    running: int = 0


def limits_of(deployment: Object) -> Limits:
    """Limits from spec.strategy; percentages round up for surge and down for unavailable."""
    spec = deployment["spec"]
    replicas = spec.get("replicas", 1)
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge = portion(rolling.get("maxSurge", "25%"), replicas, round_up=True)
    unavailable = portion(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1  # otherwise the update could never begin
    return Limits(replicas, surge, min(unavailable, replicas))


def rolling_step(limits: Limits, new: Counted, old: list[Counted]) -> dict[str, int]:
    """Changed replica counts by ReplicaSet name, `old` given oldest first; empty when nothing may move now."""
    changes: dict[str, int] = {}
    wanted_new = _grow(limits, new, old)
    if wanted_new != new.wanted:
        return {new.name: wanted_new}
    for name, count in _shrink(limits, new, old).items():
        changes[name] = count
    return changes


def _grow(limits: Limits, new: Counted, old: list[Counted]) -> int:
    if new.wanted > limits.replicas:
        return limits.replicas
    room = limits.most - new.wanted - sum(each.wanted for each in old)
    return min(limits.replicas, new.wanted + max(0, room))


def _shrink(limits: Limits, new: Counted, old: list[Counted]) -> dict[str, int]:
    total = new.wanted + sum(each.wanted for each in old)
    budget = total - limits.fewest - max(0, new.wanted - new.available)
    changes: dict[str, int] = {}
    if budget <= 0:
        return changes
    counts = {each.name: each.wanted for each in old}
    for each in old:  # those that do not work anyway go first
        sick = min(budget, max(0, each.wanted - each.available))
        counts[each.name] -= sick
        budget -= sick
    spare = new.available + sum(min(each.available, counts[each.name]) for each in old) - limits.fewest
    for each in old:
        down = min(max(0, spare), counts[each.name], max(0, budget))
        counts[each.name] -= down
        spare -= down
        budget -= down
    return {each.name: counts[each.name] for each in old if counts[each.name] != each.wanted}


def recreate_step(replicas: int, new: Counted, old: list[Counted]) -> dict[str, int]:
    """All old pods end before the first new one starts."""
    if changes := {each.name: 0 for each in old if each.wanted}:
        return changes
    if any(each.running for each in old):
        return {}
    return {new.name: replicas} if new.wanted != replicas else {}
