"""People whose truth is known: as seeded, where the database says, with devices that tell what they are."""

from __future__ import annotations

from collections import Counter

import pytest

from mesh.proxy.devices import device
from mesh.proxy.geography import atlas, installed
from mesh.shop.plan import Plan, changed
from mesh.shop.population import DESKTOP_SITE, HOMES, SOUTHERN_SPAIN, Person, people, reach

EVERYBODY = people(4000, 1, installed())


def test_a_seed_makes_the_same_people() -> None:
    assert people(100, 1, installed()) == EVERYBODY[:100]
    assert {p.address for p in people(100, 2, installed())} != {p.address for p in EVERYBODY[:100]}
    assert len({person.name for person in EVERYBODY}) == len(EVERYBODY)


def test_their_addresses_are_where_they_live() -> None:
    world = atlas(installed())
    for person in EVERYBODY:
        place = world.place(person.address)
        assert place is not None and (place.country, place.region) == person.region
    assert {person.region for person in EVERYBODY} == set(HOMES)


def test_their_devices_say_what_they_are_except_where_nothing_can() -> None:
    iphones = [person for person in EVERYBODY if person.device == "iPhone"]
    told = Counter(device(person.agent).family for person in iphones)
    assert set(told) == {"iPhone", "Mac"}
    assert told["Mac"] / len(iphones) < 3 * DESKTOP_SITE
    assert all(device(p.agent).family != "iPhone" for p in EVERYBODY if p.device != "iPhone")


def test_they_visit_as_a_plan() -> None:
    mix = [{"name": p.name, "weight": p.habit, "headers": p.headers} for p in EVERYBODY[:1000]]
    kinds = changed(Plan(), {"mix": mix}).kinds()
    assert kinds[0] == (EVERYBODY[0].name, EVERYBODY[0].headers)


def test_a_missing_database_is_an_error() -> None:
    with pytest.raises(OSError):
        people(1, 1, "/does/not/exist.mmdb")


def person(name: str, region: str, device: str) -> Person:
    return Person(name, ("ES", region), device, "", "", 1.0)


def test_reach_is_scored_in_users() -> None:
    somebody = [person("a", "AN", "iPhone"), person("b", "CE", "iPhone"), person("c", "MD", "iPhone")]
    somebody += [person("d", "AN", "Android"), person("away", "AN", "iPhone")]
    right = reach(somebody, {"a": {"v3": 2}, "b": {"v1": 1}, "c": {"v1": 2}, "d": {"v1": 1}}, "v3")
    assert (right.precision, right.recall, right.stickiness) == (1.0, 0.5, 1.0)
    wrong = reach(somebody, {"a": {"v1": 1, "v3": 1}, "b": {"v1": 2}, "c": {"v3": 2}, "d": {"v3": 1}}, "v3")
    assert (wrong.precision, wrong.recall, wrong.stickiness) == (1 / 3, 0.5, 2 / 3)
    assert reach(somebody, {}, "v3").precision == 1.0
    assert ("ES", "ML") in SOUTHERN_SPAIN
