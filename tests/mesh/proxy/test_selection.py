"""Whom the balancer may pick: priorities, panic, localities, warmth."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mesh.proxy.balancer import POLICIES, RoundRobin
from mesh.proxy.selection import SlowStart, priority_loads, select


class Place:
    """As much of an endpoint as selection and balancers look at."""

    def __init__(
        self,
        name: str,
        *,
        usable: bool = True,
        priority: int = 0,
        zone: str = "",
        weight: int = 1,
        zone_weight: int = 1,
    ) -> None:
        self.name, self.usable, self.priority = name, usable, priority
        self.locality, self.locality_weight = ("", zone, ""), zone_weight
        self.own_weight, self.warmth, self.active = weight, 1.0, 0
        self.weight = float(weight)
        self.address = (name, 80)


def shares(
    places: list[Any], *, policy: str = "ROUND_ROBIN", panic: float = 50.0, localities: bool = False
) -> dict[str, float]:
    balancer = select(places, POLICIES[policy], panic, localities)
    if balancer is None:
        return {}
    count = 4000
    seen = Counter(balancer().name for _ in range(count))  # type: ignore[attr-defined]
    return {name: number / count for name, number in seen.items()}


def test_unhealthy_ones_are_left_out_until_too_few_are_left() -> None:
    places = [Place("a"), Place("b"), Place("c", usable=False)]
    assert set(shares(places)) == {"a", "b"}
    places[1].usable = False
    assert set(shares(places)) == {"a", "b", "c"}
    assert set(shares(places, panic=0.0)) == {"a"}
    places[0].usable = False
    assert shares(places, panic=0.0) == {}


def test_what_a_priority_cannot_take_spills_to_the_next() -> None:
    assert priority_loads([1.0, 1.0]) == [1.0, 0.0]
    assert priority_loads([0.5, 1.0]) == pytest.approx([0.7, 0.3])
    assert priority_loads([0.0, 0.0]) == [0.0, 0.0]
    assert priority_loads([0.2, 0.2]) == pytest.approx([0.5, 0.5])
    near = [Place("a"), Place("b", usable=False)]
    seen = shares([*near, Place("far", priority=1)], panic=0.0)
    assert seen == pytest.approx({"a": 0.7, "far": 0.3}, abs=0.05)


def test_localities_share_by_their_weights() -> None:
    places = [
        Place("a1", zone="a", zone_weight=3),
        Place("a2", zone="a", zone_weight=3),
        Place("b", zone="b"),
    ]
    assert shares(places, localities=True) == pytest.approx({"a1": 0.375, "a2": 0.375, "b": 0.25}, abs=0.03)
    assert shares(places) == pytest.approx({"a1": 1 / 3, "a2": 1 / 3, "b": 1 / 3}, abs=0.03)


def test_a_new_endpoint_warms_up() -> None:
    slow = SlowStart(10.0, 1.0, 0.1)
    assert [slow.share(age) for age in (0.0, 5.0, 10.0, 99.0)] == [0.1, 0.5, 1.0, 1.0]
    assert SlowStart(100.0, 2.0, 0.0).share(25.0) == 0.5
    old, new = Place("old"), Place("new")
    new.warmth = 0.25
    assert shares([old, new]) == pytest.approx({"old": 0.8, "new": 0.2}, abs=0.03)


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "RANDOM", "LEAST_REQUEST"])
def test_weights_are_kept_by_every_policy(policy: str) -> None:
    seen = shares([Place("a", weight=1), Place("b", weight=3)], policy=policy)
    assert seen == pytest.approx({"a": 0.25, "b": 0.75}, abs=0.05)


def test_least_request_prefers_the_idle_one() -> None:
    busy, idle = Place("busy"), Place("idle")
    busy.active = 5
    assert shares([busy, idle], policy="LEAST_REQUEST")["idle"] == pytest.approx(0.75, abs=0.05)


def test_round_robin_is_even_and_in_turn() -> None:
    places: Any = [Place("a"), Place("b"), Place("c")]
    balancer = RoundRobin(places)
    assert Counter(balancer().name for _ in range(9)) == {"a": 3, "b": 3, "c": 3}  # type: ignore[attr-defined]
