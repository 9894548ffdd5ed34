"""Server-side apply: who owns what after any sequence of applies and updates."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded import fieldsets
from cluster.embedded.apply import Manager, apply, read, track
from cluster.embedded.models import model_schema
from cluster.embedded.status import ApiError

Object = dict[str, Any]
DEPLOYMENT, CONFIGMAP = model_schema("V1Deployment"), model_schema("V1ConfigMap")
ALICE, BOB = Manager("alice", "Apply"), Manager("bob", "Apply")
EDITOR = Manager("editor", "Update")


def config(data: Object | None, **labels: str) -> Object:
    metadata: Object = {"name": "c"} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | (
        {"data": data} if data is not None else {}
    )


def put(
    live: Object | None, manager: Manager, data: Object | None, *, force: bool = False, **labels: str
) -> Object:
    return apply(CONFIGMAP, live, config(data, **labels), manager, force=force, now="t")


def update(live: Object, data: Object) -> Object:
    new = copy.deepcopy(live) | {"data": data}
    track(CONFIGMAP, live, new, EDITOR, "t")
    return new


def owned(object: Object) -> dict[str, set[str]]:
    return {owner.manager.name: set(fieldsets.members(owner.fields)) for owner in read(object)}


def test_what_is_no_longer_stated_goes_unless_shared() -> None:
    live = put(None, ALICE, {"a": "1", "b": "2"})
    live = put(live, BOB, {"b": "2"})
    assert owned(live) == {"alice": {".data.a", ".data.b"}, "bob": {".data.b"}}
    live = put(live, ALICE, {})
    assert live["data"] == {"b": "2"}
    live = put(live, BOB, None)
    assert live.get("data") in (None, {})


def test_conflict_names_field_and_owner_and_force_takes_it() -> None:
    live = put(None, ALICE, {"a": "1"})
    with pytest.raises(ApiError) as refused:
        put(live, BOB, {"a": "2"})
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "alice": .data.a'
    assert refused.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "alice"', "field": ".data.a"}
    ]
    live = put(live, BOB, {"a": "2"}, force=True)
    assert live["data"] == {"a": "2"} and owned(live) == {"bob": {".data.a"}}


def test_an_update_takes_fields_without_asking() -> None:
    live = update(put(None, ALICE, {"a": "1", "b": "1"}), {"a": "2", "b": "1"})
    assert owned(live) == {"alice": {".data.b"}, "editor": {".data.a"}}
    live = update(live, {"a": "2"})
    assert owned(live) == {"editor": {".data.a"}}
    with pytest.raises(ApiError, match='conflict with "editor" using v1'):
        put(live, ALICE, {"a": "1"})


def deployment(*containers: Object, replicas: int | None = None) -> Object:
    spec: Object = {"template": {"spec": {"containers": list(containers)}}}
    spec |= {} if replicas is None else {"replicas": replicas}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def containers(object: Object) -> list[Object]:
    found: list[Object] = object["spec"]["template"]["spec"]["containers"]
    return found


def test_lists_that_are_maps_merge_by_key() -> None:
    live = apply(DEPLOYMENT, None, deployment({"name": "app", "image": "a:1"}), ALICE, force=False, now="t")
    live = apply(DEPLOYMENT, live, deployment({"name": "proxy", "image": "p:1"}), BOB, force=False, now="t")
    assert [c["name"] for c in containers(live)] == ["app", "proxy"]
    live = apply(DEPLOYMENT, live, deployment({"name": "app", "image": "a:2"}), ALICE, force=False, now="t")
    assert containers(live) == [{"name": "app", "image": "a:2"}, {"name": "proxy", "image": "p:1"}]
    live = apply(DEPLOYMENT, live, deployment(), BOB, force=False, now="t")
    assert [c["name"] for c in containers(live)] == ["app"]


def test_part_of_an_item_can_be_somebody_elses() -> None:
    port = {"containerPort": 80, "protocol": "TCP"}
    live = apply(
        DEPLOYMENT,
        None,
        deployment({"name": "a", "image": "a:1", "ports": [port]}),
        ALICE,
        force=False,
        now="t",
    )
    env = [{"name": "X", "value": "1"}]
    live = apply(DEPLOYMENT, live, deployment({"name": "a", "env": env}), BOB, force=False, now="t")
    assert containers(live) == [{"name": "a", "image": "a:1", "ports": [port], "env": env}]
    live = apply(DEPLOYMENT, live, deployment({"name": "a", "image": "a:1"}), ALICE, force=False, now="t")
    assert containers(live)[0].get("ports") in (None, [])
    assert containers(live)[0]["env"] == env


def test_managed_fields_look_as_kubernetes_writes_them() -> None:
    live = apply(
        DEPLOYMENT, None, deployment({"name": "a", "image": "x"}, replicas=1), ALICE, force=False, now="t"
    )
    (entry,) = live["metadata"]["managedFields"]
    assert entry["fieldsV1"] == {
        "f:spec": {
            "f:replicas": {},
            "f:template": {
                "f:spec": {"f:containers": {'k:{"name":"a"}': {".": {}, "f:image": {}, "f:name": {}}}}
            },
        }
    }
    assert (entry["operation"], entry["fieldsType"], entry["apiVersion"]) == ("Apply", "FieldsV1", "apps/v1")


datas = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)
steps = st.lists(
    st.tuples(st.sampled_from([ALICE, BOB, EDITOR]), datas, st.booleans()), min_size=1, max_size=8
)


def run(live: Object | None, manager: Manager, data: Object, force: bool) -> Object | None:
    if manager is not EDITOR:
        return put(live, manager, data, force=force)
    return update(live, data) if live is not None else None


@given(steps)
def test_the_laws_of_ownership(sequence: list[tuple[Manager, Object, bool]]) -> None:
    """After every step: an applier owns exactly what it stated and sees it live; nobody owns what is not there;
    appliers never change what others own unless they force; a field goes only when its last owner lets it go."""
    live: Object | None = None
    for manager, data, force in sequence:
        before = copy.deepcopy(live)
        try:
            after = run(live, manager, data, force)
        except ApiError as error:
            assert error.code == 409 and not force and before == live
            others = owned(live or {})
            assert any(f".data.{key}" in others[o] for key in data for o in others if o != manager.name)
            continue
        if after is None:
            continue
        now = owned(after)
        present = {f".data.{key}" for key in after.get("data") or {}}
        for fields in now.values():
            assert {field for field in fields if field.startswith(".data.")} <= present
        if manager is not EDITOR:
            assert now.get(manager.name, set()) - {".data"} == {f".data.{key}" for key in data}
            assert {key: (after.get("data") or {}).get(key) for key in data} == data
        if before is not None and manager is not EDITOR:
            for owner, fields in owned(before).items():
                for field in fields - {".data"}:
                    key = field.removeprefix(".data.")
                    if owner != manager.name and not (force and key in data):
                        assert after["data"].get(key) == before["data"].get(key)
        live = after


@given(datas, datas)
def test_applying_twice_changes_nothing(first: Object, second: Object) -> None:
    live = put(put(None, ALICE, first), ALICE, second)
    assert put(live, ALICE, second) == live
    assert (live.get("data") or {}) == second


sets = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "f:c"]), inner, max_size=3),
    max_leaves=8,
)


@given(sets, sets)
def test_set_algebra(left: Any, right: Any) -> None:
    def members(fields: Any) -> set[str]:
        return set(fieldsets.members(fields))

    assert members(fieldsets.merge(left, right)) == members(left) | members(right)
    assert members(fieldsets.subtract(left, right)) == members(left) - members(right)
    assert members(fieldsets.intersect(left, right)) == members(left) & members(right)
