"""Which endpoint gets the next request: round robin, random, least request, or by hash (Envoy's `lb_policy`).

Third step to the upstream, after the route has named the cluster. A balancer is made anew when a cluster's
endpoints change; the endpoints and their connections stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import random, randrange
from typing import TYPE_CHECKING, Protocol

from mesh.proxy.hashing import Maglev, RingHash

if TYPE_CHECKING:
    from mesh.proxy.cluster import Endpoint
    from mesh.proxy.exchange import Exchange


class Balancer(Protocol):
    """Picks one of a fixed, non-empty set of endpoints, for a request or (None) for a bare connection."""

    def __call__(self, exchange: Exchange | None = None) -> Endpoint: ...


class RoundRobin:
    """One after the other. With weights, smooth: heavier ones more often, evenly spread."""

    __slots__ = ("_credit", "_endpoints", "_next", "_plain", "_total")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = list(endpoints)
        self._plain = len({endpoint.weight for endpoint in endpoints}) == 1
        self._total = sum(endpoint.weight for endpoint in endpoints)
        # A random start: many proxies that learn of the same endpoints do not all begin with the first.
        self._next = randrange(len(self._endpoints))
        self._credit = [random() * endpoint.weight for endpoint in endpoints]

    def __call__(self, exchange: Exchange | None = None) -> Endpoint:
        endpoints = self._endpoints
        if self._plain:
            number = self._next
            self._next = number + 1 if number + 1 < len(endpoints) else 0
            return endpoints[number]
        credit = self._credit
        for number, endpoint in enumerate(endpoints):
            credit[number] += endpoint.weight
        best = max(range(len(credit)), key=credit.__getitem__)
        credit[best] -= self._total
        return endpoints[best]


class Random:
    """Any, each as likely as its weight says."""

    __slots__ = ("_bounds", "_endpoints", "_total")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = list(endpoints)
        self._bounds = list(accumulate(endpoint.weight for endpoint in endpoints))
        self._total = self._bounds[-1]

    def __call__(self, exchange: Exchange | None = None) -> Endpoint:
        return self._endpoints[bisect_right(self._bounds, random() * self._total)]


class LeastRequest:
    """The less busy of `choices` drawn at random (the power of two choices).

    With unequal weights the draw follows the weights.
    """

    __slots__ = ("_choices", "_draw", "_endpoints", "_plain")

    def __init__(self, endpoints: Sequence[Endpoint], choices: int = 2) -> None:
        self._endpoints = list(endpoints)
        self._choices = choices
        self._plain = len({endpoint.weight for endpoint in endpoints}) == 1
        self._draw = Random(endpoints)

    def __call__(self, exchange: Exchange | None = None) -> Endpoint:
        endpoints = self._endpoints
        if len(endpoints) == 1:
            return endpoints[0]
        if not self._plain:
            drawn = [self._draw(exchange) for _ in range(self._choices)]
            return min(drawn, key=lambda endpoint: endpoint.active)
        count = len(endpoints)
        best = endpoints[int(random() * count)]
        for _ in range(self._choices - 1):
            other = endpoints[int(random() * count)]
            if other.active < best.active:
                best = other
        return best


POLICIES: dict[str, Callable[[Sequence[Endpoint]], Balancer]] = {
    "ROUND_ROBIN": RoundRobin,
    "RANDOM": Random,
    "LEAST_REQUEST": LeastRequest,
    "RING_HASH": RingHash,
    "MAGLEV": Maglev,
}
"""By Envoy's name of the policy."""
