"""JSON Patch, merge patch and strategic merge patch: their laws, and the cases people meet."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded.models import ref
from cluster.embedded.patch import json_equal, json_patch, merge_patch, strategic_merge
from cluster.embedded.status import ApiError

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b~/c"])
keys = st.sampled_from(["a", "b", "c", "d/e", "~"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=4)
DEPLOYMENT, POD = ref("V1Deployment"), ref("V1Pod")


def without_nulls(value: Any) -> Any:
    """A value as it can stand in an object that merge patches make: no null members."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


def difference(old: Any, new: Any) -> Any:
    """The merge patch from one object to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif not json_equal(old[key], value):
            patch[key] = difference(old[key], value)
    return patch


@given(objects, objects)
def test_merge_patch_is_the_algorithm_of_rfc_7386(target: Any, patch: Any) -> None:
    def rfc(target: Any, patch: Any) -> Any:
        if not isinstance(patch, dict):
            return patch
        target = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = rfc(target.get(name), value)
        return target

    before = copy.deepcopy((target, patch))
    assert merge_patch(target, patch) == rfc(target, patch)
    assert (target, patch) == before


@given(objects.map(without_nulls), objects.map(without_nulls))
def test_a_merge_patch_takes_any_object_to_any_other(old: Any, new: Any) -> None:
    assert json_equal(merge_patch(old, difference(old, new)), new)


@given(objects.map(without_nulls), objects)
def test_merge_patch_twice_is_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


@given(objects, keys, values)
def test_json_patch_add_test_remove(document: Any, key: str, value: Any) -> None:
    before = copy.deepcopy(document)
    path = "/" + escaped(key)
    added = json_patch(
        document, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}]
    )
    assert json_equal(added, document | {key: value})
    removed = json_patch(added, [{"op": "remove", "path": path}])
    assert removed == {name: item for name, item in document.items() if name != key}
    assert document == before


@given(objects, keys, keys)
def test_json_patch_move_is_copy_and_remove(document: Any, one: str, two: str) -> None:
    if one not in document or one == two:
        return
    a, b = "/" + escaped(one), "/" + escaped(two)
    moved = json_patch(document, [{"op": "move", "from": a, "path": b}])
    copied = json_patch(document, [{"op": "copy", "from": a, "path": b}, {"op": "remove", "path": a}])
    assert json_equal(moved, copied)


@given(st.lists(values, max_size=4), st.integers(0, 5), values)
def test_json_patch_in_lists(items: list[Any], index: int, value: Any) -> None:
    step = {"op": "add", "path": f"/l/{index}", "value": value}
    if index > len(items):
        with pytest.raises(ApiError):
            json_patch({"l": items}, [step])
        return
    added = json_patch({"l": items}, [step])["l"]
    assert json_equal(added, [*items[:index], value, *items[index:]])
    assert json_equal(json_patch({"l": added}, [{"op": "remove", "path": f"/l/{index}"}]), {"l": items})
    assert json_equal(json_patch({"l": items}, [step | {"path": "/l/-"}]), {"l": [*items, value]})


@pytest.mark.parametrize(
    ("patch", "code", "says"),
    [
        ({}, 400, "a patch is a list of operations"),
        ([{"op": "frob", "path": "/a"}], 400, "unexpected kind of operation"),
        ([{"op": "add", "path": "/a"}], 400, 'has no "value"'),
        ([{"op": "add", "path": "a", "value": 1}], 400, "is not a JSON pointer"),
        ([{"op": "remove", "path": "/none"}], 422, "no such element: none"),
        ([{"op": "replace", "path": "/none", "value": 1}], 422, "no such element"),
        ([{"op": "remove", "path": "/l/01"}], 422, "no such index: 01"),
        ([{"op": "remove", "path": "/l/-"}], 422, "no such index: -"),
        ([{"op": "test", "path": "/a", "value": True}], 422, "testing path /a failed"),
        ([{"op": "move", "from": "/o", "path": "/o/x"}], 422, "cannot move"),
    ],
)
def test_json_patch_refusals(patch: Any, code: int, says: str) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1, "l": [0, 1], "o": {}}, patch)
    assert refused.value.code == code and says in refused.value.message


def pod(*containers: Any) -> Any:
    return {"spec": {"containers": list(containers)}}


A, B = {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}


@pytest.mark.parametrize(
    ("patch", "containers"),
    [
        (pod({"name": "b", "image": "b:2"}), [A, B | {"image": "b:2"}]),
        (pod({"name": "c"}), [A, B, {"name": "c"}]),
        (pod({"name": "a", "$patch": "delete"}), [B]),
        (pod({"$patch": "replace"}, {"name": "z"}), [{"name": "z"}]),
        (pod({"name": "a", "$patch": "replace", "image": "n"}), [{"name": "a", "image": "n"}, B]),
        (
            pod({"name": "a", "env": [{"name": "Y", "value": "2"}]}),
            [A | {"env": [*A["env"], {"name": "Y", "value": "2"}]}, B],
        ),  # type: ignore[misc]
        (pod({"name": "a", "env": None}), [{"name": "a", "image": "a:1"}, B]),
        ({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}, [B, A]),
        (
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                    "containers": [{"name": "c"}],
                }
            },
            None,
        ),
        ({"spec": {"$patch": "replace", "containers": [B]}}, [B]),
    ],
)
def test_strategic_merge_of_containers(patch: Any, containers: Any) -> None:
    target = pod(A, B)
    before = copy.deepcopy(target)
    result = strategic_merge(POD, target, patch)["spec"]["containers"]
    if containers is None:
        assert [c["name"] for c in result].index("c") < [c["name"] for c in result].index("a")
    else:
        assert result == containers
    assert target == before


def test_strategic_merge_of_other_lists() -> None:
    target = {
        "metadata": {"finalizers": ["a", "b"]},
        "spec": {"tolerations": [{"key": "x"}], "containers": []},
    }
    patch = {
        "metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
        "spec": {"tolerations": [{"key": "y"}]},
    }
    result = strategic_merge(POD, target, patch)
    assert sorted(result["metadata"]["finalizers"]) == ["b", "c"]
    assert result["spec"]["tolerations"] == [{"key": "y"}]


def test_retain_keys() -> None:
    target = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(DEPLOYMENT, target, patch)["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("patch", [pod({"image": "x"}), pod("x"), {"$patch": "frob"}])
def test_strategic_merge_refusals(patch: Any) -> None:
    with pytest.raises(ApiError) as refused:
        strategic_merge(POD, pod(A), patch)
    assert refused.value.code == 400


@given(objects.map(without_nulls), objects)
def test_without_a_schema_a_strategic_merge_is_a_merge(target: Any, patch: Any) -> None:
    assert strategic_merge({}, target, patch) == merge_patch(target, patch)
