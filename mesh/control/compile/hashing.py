"""What of a request is hashed, where a DestinationRule asks for consistent hashing.

The ring belongs to the cluster, but Envoy finds the key of a request on its route. So a route depends on the rules of
the services it leads to. Source: Envoy, RouteAction.HashPolicy.
"""

from __future__ import annotations

from typing import Any

from envoy.config.route.v3 import route_components_pb2 as route

from mesh.api.destination_rule import Subset, TrafficPolicy
from mesh.api.load_balancing import ConsistentHash
from mesh.control.compile import pb
from mesh.control.compile.clusters import policy_for
from mesh.control.compile.visibility import MergedRule, destination_rule_for
from mesh.control.world import Labels, Service, World


def anything_hashed(world: World) -> bool:
    """Does any rule ask for consistent hashing? If not, routes need no look at DestinationRules."""
    rules = world.destination_rules

    def build() -> bool:
        return any(_hashes(policy) for rule in rules for policy in rule.spec.policies)

    return world.memo.get("anything hashed", (rules,), build)


def _hashes(policy: TrafficPolicy) -> bool:
    return any(level.load_balancer and level.load_balancer.consistent_hash for level in policy.levels)


def rule_if_hashed(
    world: World, namespace: str, labels: Labels, service: Service | None
) -> MergedRule | None:
    """The rule that may say how to hash; None as long as nothing in the world is hashed."""
    if service is None or not anything_hashed(world):
        return None
    return destination_rule_for(world, namespace, service, labels)


def hash_of(world: World, rule: MergedRule | None, subset: str, port: int) -> ConsistentHash | None:
    """How requests to this port and subset are hashed."""
    if rule is None:
        return None
    chosen: Subset | None = rule.subsets.get(subset) if subset else None
    balancer = policy_for(world, rule, chosen, port).load_balancer
    return balancer.consistent_hash if balancer else None


def hash_policy(settings: ConsistentHash) -> Any:
    """The key of a request, as Envoy's HashPolicy."""
    policy = route.RouteAction.HashPolicy()
    if settings.http_header_name:
        policy.header.header_name = settings.http_header_name
    elif settings.http_query_parameter_name:
        policy.query_parameter.name = settings.http_query_parameter_name
    elif settings.use_source_ip:
        policy.connection_properties.source_ip = True
    elif cookie := settings.http_cookie:
        policy.cookie.name, policy.cookie.path = cookie.name, cookie.path
        if cookie.ttl is not None:
            policy.cookie.ttl.CopyFrom(pb.duration(cookie.ttl))
        for attribute in cookie.attributes:
            policy.cookie.attributes.add(name=attribute.name, value=attribute.value)
    return policy
