"""Nearby endpoints come first, and only where something can tell that they are unhealthy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.destination_rule import TrafficPolicy
from mesh.control.compile import ENDPOINT, compile
from mesh.control.compile.locality import covers, groups, preference
from mesh.control.world import Endpoint, Locality, World
from tests.mesh.control.compile.test_clusters import SUFFIX, cluster, rule
from tests.worlds import bookinfo, sidecar

PLACES: list[Locality] = [
    ("r1", "z1", "s1"),
    ("r1", "z1", "s2"),
    ("r1", "z2", ""),
    ("r2", "z1", ""),
    ("r3", "", ""),
]


def endpoint(place: Locality, number: int = 0, **labels: str) -> Endpoint:
    region, zone, subzone = place
    address = f"10.1.{PLACES.index(place)}.{number}"
    return Endpoint(address, 80, "", labels=labels, region=region, zone=zone, subzone=subzone)


def policy(spec: dict[str, Any]) -> TrafficPolicy:
    return TrafficPolicy.model_validate(spec)


def priorities(spec: dict[str, Any], own: Locality = PLACES[0]) -> dict[Locality, int]:
    found = groups([endpoint(place) for place in PLACES], preference(policy(spec), own, {}))
    return {group.locality: group.priority for group in found}


OUTLIERS = {"outlierDetection": {"consecutive5xxErrors": 1}}


def test_without_outlier_detection_all_places_are_alike() -> None:
    assert set(priorities({}).values()) == {0}
    failover = {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "r1", "to": "r3"}]}}}
    assert set(priorities(failover).values()) == {0}


def test_with_it_the_nearest_come_first() -> None:
    assert list(priorities(OUTLIERS).values()) == [0, 1, 2, 3, 3]
    off = {**OUTLIERS, "loadBalancer": {"localityLbSetting": {"enabled": False}}}
    assert set(priorities(off).values()) == {0}


def test_failover_names_the_region_that_is_next() -> None:
    spec = {**OUTLIERS, "loadBalancer": {"localityLbSetting": {"failover": [{"from": "r1", "to": "r3"}]}}}
    assert list(priorities(spec).values()) == [0, 1, 2, 4, 3]
    assert list(priorities(spec, ("r2", "z9", "")).values()) == [1, 1, 1, 0, 1], "priorities have no gap"


def test_failover_priority_compares_labels_in_order() -> None:
    spec = {**OUTLIERS, "loadBalancer": {"localityLbSetting": {"failoverPriority": ["a", "b=1"]}}}
    members = [endpoint(PLACES[0], 1, a="x", b="1"), endpoint(PLACES[0], 2, a="x"), endpoint(PLACES[0], 3)]
    found = groups(members, preference(policy(spec), PLACES[0], {"a": "x"}))
    assert [(group.priority, group.endpoints[0].address[-1]) for group in found] == [
        (0, "1"),
        (1, "2"),
        (2, "3"),
    ]


def test_labels_of_the_place_count_too() -> None:
    names = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"]
    spec = {**OUTLIERS, "loadBalancer": {"localityLbSetting": {"failoverPriority": names}}}
    assert list(priorities(spec).values()) == [0, 0, 1, 2, 2]


def test_distribution_gives_each_place_its_percentage() -> None:
    to = {"r1/z1/*": 70, "r2": 30}
    spec = {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "r1/*", "to": to}]}}}
    found = groups([endpoint(place) for place in PLACES], preference(policy(spec), PLACES[0], {}))
    assert [(group.weight, len(group.endpoints)) for group in found] == [
        (35, 1),
        (35, 1),
        (0, 0),
        (30, 1),
        (0, 0),
    ]
    elsewhere = groups([endpoint(place) for place in PLACES], preference(policy(spec), PLACES[4], {}))
    assert all(group.endpoints for group in elsewhere)


@pytest.mark.parametrize(
    ("pattern", "covered"), [("*", 5), ("r1", 3), ("r1/z1", 2), ("r1/z1/s2", 1), ("r9", 0)]
)
def test_places_are_covered_by_their_beginning(pattern: str, covered: int) -> None:
    assert sum(covers(pattern, place) for place in PLACES) == covered


@given(st.lists(st.sampled_from(PLACES), max_size=8), st.sampled_from(PLACES), st.booleans())
def test_nobody_is_lost_and_priorities_have_no_gap(places: list[Locality], own: Locality, fail: bool) -> None:
    spec = {**OUTLIERS, "loadBalancer": {"localityLbSetting": {"failover": [{"from": "r1", "to": "r2"}]}}}
    members = [endpoint(place, number) for number, place in enumerate(places)]
    found = groups(members, preference(policy(spec if fail else OUTLIERS), own, {}))
    assert sorted(e.address for group in found for e in group.endpoints) == sorted(e.address for e in members)
    assert sorted({group.priority for group in found}) == list(
        range(len({group.priority for group in found}))
    )


def placed() -> World:
    """Bookinfo with reviews v1 here, v2 and v3 there."""
    world = bookinfo(rule("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}"))
    key = ("default", "reviews")
    first, *rest = world.endpoints[key]
    moved = (replace(first, region="here"), *(replace(each, region="there") for each in rest))
    return world.evolve(endpoints={**world.endpoints, key: moved})


def test_proxies_at_different_places_get_different_priorities() -> None:
    world = placed()
    here, there = (replace(sidecar(), locality=(place, "", "")) for place in ("here", "there"))
    for proxy, expected in ((here, [0, 1]), (there, [1, 0])):
        found: Any = compile(world, proxy).by_type[ENDPOINT][f"outbound|9080||{SUFFIX}"]
        assert [group.priority for group in found.endpoints] == expected
    assert compile(world, here).by_type[ENDPOINT] is not compile(world, there).by_type[ENDPOINT]


def test_weights_of_localities_count_only_where_asked_for() -> None:
    assert not cluster(placed()).common_lb_config.HasField("locality_weighted_lb_config")
    spread = rule(
        'trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: "a", to: {"a": 100}}]}}}'
    )
    assert cluster(bookinfo(spread)).common_lb_config.HasField("locality_weighted_lb_config")
