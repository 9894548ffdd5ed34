"""The store: one counter, a history that watchers share, and what happens to one who falls behind."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded.status import ApiError
from cluster.embedded.store import HISTORY, Store, same
from cluster.embedded.write import share


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": name, "namespace": "n"}} | more


def test_revisions_grow_over_all_resources() -> None:
    store = Store()
    a = store.create("things", thing("a"))
    b = store.create("others", thing("b"))
    assert b.revision == a.revision + 1 == store.revision
    assert b.object["metadata"]["resourceVersion"] == str(b.revision)


def test_optimistic_locking() -> None:
    store = Store()
    first = store.create("things", thing("a"))
    second = store.replace("things", thing("a", x=1), first.revision)
    for stale in (store.replace, lambda *args: store.remove("things", ("n", "a"), args[2])):
        with pytest.raises(ApiError) as refused:
            stale("things", thing("a", x=2), first.revision)
        assert refused.value.reason == "Conflict"
    assert store.get("things", "n", "a") is second


def test_json_is_made_once_and_shows_the_version_asked_for() -> None:
    entry = Store().create("things", thing("a"))
    assert entry.json("v1") is entry.json("v1")
    assert b'"apiVersion":"v2"' in entry.json("v2")


operations = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete"])), max_size=30)


@given(operations, st.integers(0, 30))
def test_list_and_then_watch_misses_nothing(steps: list[tuple[str, str]], when: int) -> None:
    """Whatever is listed at some time plus the events since then is the state at the end."""
    store, seen, position = Store(), dict[str, Any](), store_start(Store())
    for index, (name, what) in enumerate(steps):
        if index == when:
            seen = {entry.key[1]: entry.object for entry in store.entries("things")}
            position = store.start("things", store.revision)
        entry = store.find("things", "n", name)
        if what == "put" and entry is None:
            store.create("things", thing(name, x=index))
        elif what == "put" and entry:
            store.replace("things", thing(name, x=index), entry.revision)
        elif entry:
            store.remove("things", entry.key, entry.revision)
    for event in store.read("things", position):
        if event.type == "DELETED":
            seen.pop(event.entry.key[1])
        else:
            seen[event.entry.key[1]] = event.entry.object
    assert seen == {entry.key[1]: entry.object for entry in store.entries("things")}


def store_start(store: Store) -> int:
    return store.start("things", store.revision)


def test_history_is_bounded_and_who_falls_behind_is_told() -> None:
    store = Store()
    entry = store.create("things", thing("a"))
    first, position = entry.revision, store.start("things", entry.revision)
    for index in range(2 * HISTORY + 1):
        entry = store.replace("things", thing("a", x=index), entry.revision)
    for late in (lambda: store.start("things", first), lambda: store.read("things", position)):
        with pytest.raises(ApiError) as refused:
            late()
        assert (refused.value.code, refused.value.reason) == (410, "Expired")
    assert len(store.read("things", store.start("things", store.revision - HISTORY))) == HISTORY
    with pytest.raises(ApiError, match="too large resource version"):
        store.start("things", store.revision + 1)


async def test_waiting_wakes_all_watchers_of_that_resource_only() -> None:
    store = Store()
    waits = [asyncio.create_task(store.wait("things", 5)) for _ in range(3)]
    other = asyncio.create_task(store.wait("others", 0.05))
    await asyncio.sleep(0)
    store.create("things", thing("a"))
    assert await asyncio.gather(*waits) == [True, True, True]
    assert await other is False


def test_states_share_what_did_not_change_but_their_versions() -> None:
    old = thing("a", spec={"x": [1]}, status={"y": 1}) | {"metadata": {"name": "a", "labels": {"l": "1"}}}
    new = json.loads(json.dumps(old)) | {"status": {"y": 2}}
    before = json.dumps(new)
    share(old, new)
    assert json.dumps(new) == before
    assert new["spec"] is old["spec"] and new["metadata"]["labels"] is old["metadata"]["labels"]
    assert new["metadata"] is not old["metadata"]


def test_sameness_of_json() -> None:
    assert same({"a": [1], "b": {}}, {"b": {}, "a": [1]})
    assert not same({"a": True}, {"a": 1}) and not same(1, 1.0)
