"""Sticky splits: a user's key chooses among the weighted clusters, in Envoy's own terms (`use_hash_policy`).

Envoy takes xxHash64 of the key modulo the sum of the weights, and looks in which cluster's interval that falls. All
that is asked of a split follows from how the weights are written:

* Sticky, across restarts and gateways: the hash has no seed.
* Monotone: the sum stays the same whatever the weights are, and each bound moves only with the weights before it. So of
  two destinations neither loses a user while its weight goes up (of more, this holds for the first and the last).
* Independent: the sum is a prime that the salt chooses. What a hash is modulo one prime tells nothing of what it is
  modulo another (Chinese remainder theorem), so who is in one experiment is no more likely to be in the next.

Who has no key yet is drawn at random, and with a cookie our gateway gives one (Envoy, which sets cookies only where
the endpoint is chosen, does not).
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Any

from envoy.config.route.v3 import route_components_pb2 as route

from mesh.api.sticky import Sticky
from mesh.control.compile import pb

COOKIE_SECONDS = 30 * 24 * 3600
"""How long a newcomer's cookie lasts."""
_SMALLEST_SUM, _SPREAD = 1_000_000, 15_000_000


def make_sticky(built: Any, sticky: Sticky, *, at_gateway: bool) -> None:
    """Let the user's key decide where this route splits. Changes `built`, an Envoy Route.

    At a gateway a cookie is given to newcomers on routes without a split too: the split may come deeper in the mesh.
    """
    if built.WhichOneof("action") != "route":
        return
    action = built.route
    if action.WhichOneof("cluster_specifier") == "cluster" and at_gateway and sticky.kind == "cookie":
        action.weighted_clusters.clusters.add(name=action.cluster, weight=pb.uint32(1))
    if action.WhichOneof("cluster_specifier") != "weighted_clusters":
        return
    split = action.weighted_clusters
    weights = in_parts([cluster.weight.value for cluster in split.clusters], sum_for(sticky.salt))
    for cluster, weight in zip(split.clusters, weights, strict=True):
        cluster.weight.value = weight
    split.use_hash_policy.value = True
    others = list(action.hash_policy)
    del action.hash_policy[:]
    action.hash_policy.extend([_policy(sticky), *others])


def _policy(sticky: Sticky) -> Any:
    policy = route.RouteAction.HashPolicy(terminal=True)
    if sticky.kind == "header":
        policy.header.header_name = sticky.name
    else:
        policy.cookie.name, policy.cookie.path = sticky.name, "/"
        policy.cookie.ttl.CopyFrom(pb.duration(COOKIE_SECONDS))
    return policy


def in_parts(weights: list[int], whole: int) -> list[int]:
    """The weights in parts of `whole`; each bound between two is rounded by itself, so it depends on nothing else."""
    total = sum(weights)
    bounds = [0, *((whole * before + total // 2) // total for before in accumulate(weights))]
    return [upper - lower for lower, upper in pairwise(bounds)]


@cache
def sum_for(salt: str) -> int:
    """The prime for a salt: the first one from a place that the salt's hash says."""
    number = _SMALLEST_SUM + int.from_bytes(sha256(salt.encode()).digest()[:8], "big") % _SPREAD
    while not _is_prime(number):
        number += 1
    return number


def _is_prime(number: int) -> bool:
    return number % 2 == 1 and all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2))
