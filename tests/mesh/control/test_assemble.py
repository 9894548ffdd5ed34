"""The world follows the cluster: incrementally it is what it would be from scratch, and what did not change
stays.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.control.assemble import KIND_OF, Assembler
from mesh.control.kube import CONFIG_MAPS, ENDPOINT_SLICES, NAMESPACES, PODS, SERVICES, Resource
from mesh.control.watch import key_of
from mesh.control.world import World
from tests.mesh.control.kubernetes import (
    Object,
    endpoint,
    endpoint_slice,
    meta,
    pod,
    service,
    virtual_service,
)

VIRTUAL_SERVICES = next(resource for resource, kind in KIND_OF.items() if kind == "VirtualService")
REVIEWS = ("default", "reviews")


def put(assembler: Assembler, resource: Resource, *objects: Object) -> bool:
    return assembler.apply(resource, {key_of(obj): obj for obj in objects})


def shop() -> Assembler:
    assembler = Assembler()
    put(assembler, NAMESPACES, {"metadata": {"name": "default", "labels": {"istio-injection": "enabled"}}})
    put(assembler, SERVICES, service("reviews"), service("ratings"))
    put(assembler, PODS, pod("reviews-1", "10.1.0.1"), pod("ratings-1", "10.1.0.2", app="ratings"))
    put(assembler, ENDPOINT_SLICES, endpoint_slice("r", "reviews", endpoint("10.1.0.1", "reviews-1")))
    put(assembler, ENDPOINT_SLICES, endpoint_slice("t", "ratings", endpoint("10.1.0.2", "ratings-1")))
    put(assembler, VIRTUAL_SERVICES, virtual_service("reviews", 90))
    return assembler


def test_a_change_that_means_nothing_to_the_mesh_makes_no_new_world() -> None:
    assembler = shop()
    before = assembler.world
    heartbeat = pod("reviews-1", "10.1.0.1", conditions=[{"type": "Ready", "status": "True"}])
    assert put(assembler, PODS, heartbeat) is False
    status = virtual_service("reviews", 90) | {"status": {"conditions": []}}
    assert put(assembler, VIRTUAL_SERVICES, status) is False
    assert assembler.world is before


def test_what_did_not_change_stays_the_same_object() -> None:
    assembler = shop()
    before = assembler.world
    assert put(assembler, PODS, pod("reviews-1", "10.1.0.1", labels={"version": "v2"})) is True
    after = assembler.world
    assert after is not before
    assert after.endpoints[REVIEWS][0].labels["version"] == "v2"
    assert after.endpoints["default", "ratings"] is before.endpoints["default", "ratings"]
    assert after.services is before.services
    assert after.config is before.config


def test_one_endpoint_of_many_changes_alone() -> None:
    assembler = shop()
    put(assembler, PODS, pod("reviews-2", "10.1.0.3"))
    both = endpoint("10.1.0.1", "reviews-1"), endpoint("10.1.0.3", "reviews-2")
    put(assembler, ENDPOINT_SLICES, endpoint_slice("r", "reviews", *both))
    before = assembler.world.endpoints[REVIEWS]
    put(
        assembler,
        ENDPOINT_SLICES,
        endpoint_slice("r", "reviews", both[0], endpoint("10.1.0.3", "reviews-2", False)),
    )
    after = assembler.world.endpoints[REVIEWS]
    assert after[0] is before[0]
    assert (before[1].ready, after[1].ready) == (True, False)


def test_a_slice_that_comes_before_its_pod_is_completed_by_it() -> None:
    assembler = Assembler()
    put(assembler, ENDPOINT_SLICES, endpoint_slice("r", "reviews", endpoint("10.1.0.1", "reviews-1")))
    assert assembler.world.endpoints[REVIEWS][0].tls_mode == "disabled"
    put(assembler, PODS, pod("reviews-1", "10.1.0.1"))
    assert assembler.world.endpoints[REVIEWS][0].tls_mode == "istio"
    assembler.apply(PODS, {("default", "reviews-1"): None})
    assert assembler.world.endpoints[REVIEWS][0].tls_mode == "disabled"


def test_an_invalid_rule_that_got_in_leaves_the_last_good_one() -> None:
    assembler = shop()
    before = assembler.world
    bad = virtual_service("reviews", 90)
    bad["spec"]["http"][0]["route"][0]["weight"] = "much"
    assert put(assembler, VIRTUAL_SERVICES, bad) is False
    assert assembler.world is before
    assert "spec.http[0].route[0].weight" in str(assembler.invalid["VirtualService", "default", "reviews"])
    assert put(assembler, VIRTUAL_SERVICES, virtual_service("reviews", 10)) is True
    assert assembler.invalid == {}
    assembler.apply(VIRTUAL_SERVICES, {REVIEWS: None})
    assert assembler.world.virtual_services == ()


def test_bad_settings_leave_the_old_ones() -> None:
    assembler = Assembler()
    config = {"metadata": meta("mesh", "mesh-system"), "data": {"mesh": "trustDomain: td.example"}}
    assert put(assembler, CONFIG_MAPS, config) is True
    assert assembler.world.mesh.trust_domain == "td.example"
    for text in ("[", "- 1", "connectTimeout: {}", "extensionProviders: 1"):
        put(assembler, CONFIG_MAPS, config | {"data": {"mesh": text}})
        assert assembler.world.mesh.trust_domain == "td.example"


names = st.sampled_from(["a", "b"])
ips = st.sampled_from(["10.1.0.1", "10.1.0.2", "10.1.0.3"])
pods = st.builds(lambda name, ip, version: pod(name, ip, labels={"version": version}), names, ips, names)
slices = st.builds(
    lambda name, of, ends: endpoint_slice(name, of, *ends),
    names,
    names,
    st.lists(st.builds(endpoint, ips, st.none() | names, st.booleans()), max_size=3),
)
changes = st.one_of(
    st.tuples(st.just(PODS), pods, st.booleans()),
    st.tuples(st.just(ENDPOINT_SLICES), slices, st.booleans()),
    st.tuples(st.just(SERVICES), st.builds(service, names), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, max_size=25))
def test_step_by_step_is_the_same_as_from_scratch(steps: list[tuple[Resource, Object, bool]]) -> None:
    stepwise, last = Assembler(), dict[tuple[Resource, Any], Object]()
    for resource, obj, deleted in steps:
        key = key_of(obj)
        if deleted:
            last.pop((resource, key), None)
            stepwise.apply(resource, {key: None})
        else:
            last[resource, key] = obj
            stepwise.apply(resource, {key: obj})
        assert isinstance(stepwise.world, World)
    scratch = Assembler()
    for (resource, _), obj in last.items():
        put(scratch, resource, obj)
    for part in ("services", "workloads", "endpoints"):
        assert getattr(stepwise.world, part) == getattr(scratch.world, part)
