"""Whom a cluster's balancer may pick, and how heavy each is: priorities, localities, health, slow start.

Called when endpoints, their health or their warmth change, never for a request. Envoy's rules: a priority takes as
much as its healthy share allows (with 40 % to spare) and the rest spills to the next; when too few are healthy
(panic) all are used. https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import random
from typing import TYPE_CHECKING

from mesh.proxy.balancer import Balancer

if TYPE_CHECKING:
    from mesh.proxy.cluster import Endpoint
    from mesh.proxy.exchange import Exchange

OVERPROVISIONING = 1.4
"""How much more than its share a healthy part can take (Envoy's `overprovisioning_factor`)."""


class SlowStart:
    """How a new endpoint warms up (Envoy's `SlowStartConfig`): seconds, exponent, least share in [0, 1]."""

    __slots__ = ("aggression", "least", "window")

    def __init__(self, window: float, aggression: float = 1.0, least: float = 0.1) -> None:
        self.window = window
        self.aggression = aggression
        self.least = least

    def share(self, age: float) -> float:
        """Of its weight, what an endpoint of that age gets."""
        if age >= self.window:
            return 1.0
        warmed = float((max(age, 1.0) / self.window) ** (1.0 / self.aggression))
        return max(self.least, warmed)


Make = Callable[[Sequence["Endpoint"]], Balancer]


def select(
    endpoints: Sequence[Endpoint], make: Make, panic_threshold: float, locality_weighted: bool
) -> Balancer | None:
    """A balancer over those that may be picked, or None if there are none. Sets each endpoint's `weight`.

    `panic_threshold` is in percent.
    """
    by_priority: dict[int, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        by_priority[endpoint.priority].append(endpoint)
    levels = [by_priority[priority] for priority in sorted(by_priority)]
    loads = priority_loads([_healthy_share(level) for level in levels])
    if not levels:
        return None
    if not any(loads):
        loads = [1.0] + [0.0] * (len(levels) - 1)
    chosen: list[tuple[float, Balancer]] = []
    for level, load in zip(levels, loads, strict=True):
        usable = _usable(level, panic_threshold) if load else []
        if usable:
            _weigh(level, usable, locality_weighted)
            chosen.append((load, make(usable)))
    if len(chosen) < 2:
        return chosen[0][1] if chosen else None
    return _Priorities(chosen)


def priority_loads(healthy: Sequence[float]) -> list[float]:
    """How the requests are shared among priorities whose healthy shares these are."""
    left, loads = 1.0, []
    for share in healthy:
        load = min(left, share * OVERPROVISIONING)
        loads.append(load)
        left = max(left - load, 0.0)
    total = sum(loads)
    return [load / total for load in loads] if total else loads


def _healthy_share(level: Sequence[Endpoint]) -> float:
    return sum(endpoint.usable for endpoint in level) / len(level)


def _usable(level: Sequence[Endpoint], panic_threshold: float) -> list[Endpoint]:
    healthy = [endpoint for endpoint in level if endpoint.usable]
    panic = len(healthy) * 100 < panic_threshold * len(level)
    return list(level) if panic else healthy


def _weigh(level: Sequence[Endpoint], usable: Sequence[Endpoint], locality_weighted: bool) -> None:
    """By its own weight and warmth; with locality weights, a locality's endpoints share what it may take."""
    for endpoint in usable:
        endpoint.weight = endpoint.own_weight * endpoint.warmth
    if not locality_weighted:
        return
    everyone: dict[tuple[str, str, str], int] = defaultdict(int)
    members: dict[tuple[str, str, str], list[Endpoint]] = defaultdict(list)
    for endpoint in level:
        everyone[endpoint.locality] += 1
    for endpoint in usable:
        members[endpoint.locality].append(endpoint)
    for locality, found in members.items():
        takes = found[0].locality_weight * min(1.0, OVERPROVISIONING * len(found) / everyone[locality])
        total = sum(endpoint.weight for endpoint in found)
        for endpoint in found:
            endpoint.weight = takes * endpoint.weight / total


class _Priorities:
    """Several priorities at once: each request draws one."""

    __slots__ = ("_balancers", "_bounds")

    def __init__(self, levels: Sequence[tuple[float, Balancer]]) -> None:
        self._balancers = [balancer for _, balancer in levels]
        self._bounds = list(accumulate(load for load, _ in levels))

    def __call__(self, exchange: Exchange | None = None) -> Endpoint:
        number = bisect_right(self._bounds, random() * self._bounds[-1])
        return self._balancers[min(number, len(self._balancers) - 1)](exchange)
