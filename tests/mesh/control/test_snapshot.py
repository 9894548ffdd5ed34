"""Snapshots: versions that follow from content, and sets that are whole or refused."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.message import Message

from mesh.control.compile import ALL_TYPES, compile
from mesh.control.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ORDER,
    ROUTE,
    InconsistentError,
    Packer,
    Snapshot,
    build,
)
from tests.worlds import bookinfo, sidecar

Messages = dict[str, dict[str, Message]]


def cluster(name: str, seconds: int = 1) -> Cluster:
    made = Cluster(name=name, type=Cluster.EDS)
    made.connect_timeout.seconds = seconds
    return made


def listener(name: str, route: str) -> Listener:
    manager = HttpConnectionManager()
    manager.rds.route_config_name = route
    made = Listener(name=name)
    made.filter_chains.add().filters.add(name="http").typed_config.Pack(manager)
    return made


def messages() -> Messages:
    return {
        CLUSTER: {"a": cluster("a")},
        ENDPOINT: {"a": ClusterLoadAssignment(cluster_name="a")},
        LISTENER: {"l": listener("l", "r")},
        ROUTE: {"r": RouteConfiguration(name="r")},
    }


def made(found: Messages) -> Snapshot:
    return build(found, Packer())


def test_the_types_are_those_of_the_compiler() -> None:
    assert ORDER == ALL_TYPES


def test_equal_content_has_the_same_version_in_another_process_or_replica() -> None:
    one, other = made(messages()), made(messages())
    assert all(one.resources(url).same(other.resources(url)) for url in ORDER)


def test_a_change_changes_the_version_of_its_type_only() -> None:
    changed = messages()
    changed[ROUTE]["r"] = RouteConfiguration(name="r", most_specific_header_mutations_wins=True)
    before, after = made(messages()), made(changed)
    assert [url for url in ORDER if not before.resources(url).same(after.resources(url))] == [ROUTE]
    assert [one.name for one in after.resources(ROUTE).changed_since(before.resources(ROUTE))] == ["r"]


@pytest.mark.parametrize(
    ("missing", "said"), [(ENDPOINT, "CDS refers to EDS 'a'"), (ROUTE, "LDS refers to RDS 'r'")]
)
def test_what_points_to_nothing_is_refused(missing: str, said: str) -> None:
    broken = messages()
    broken[missing] = {}
    with pytest.raises(InconsistentError, match=said):
        made(broken)


def test_a_shared_message_is_packed_once_and_forgotten_when_unused() -> None:
    packer, shared = Packer(), messages()
    first, second = build(shared, packer), build(shared, packer)
    assert first.resources(CLUSTER)["a"] is second.resources(CLUSTER)["a"]
    packer.next_generation()
    assert build(shared, packer).resources(ROUTE)["r"] is first.resources(ROUTE)["r"]
    packer.next_generation()
    packer.next_generation()
    assert build(shared, packer).resources(ROUTE)["r"] is not first.resources(ROUTE)["r"]


def test_what_the_compiler_makes_of_the_shop_is_whole() -> None:
    world = bookinfo()
    snapshot = made(
        {url: dict(found) for url, found in compile(world, sidecar("productpage-v1")).by_type.items()}
    )
    assert all(snapshot.resources(url) for url in ORDER)
