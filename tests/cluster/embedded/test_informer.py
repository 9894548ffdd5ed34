"""Queues and informers: what every controller relies on."""

import asyncio
import itertools
from typing import Any

import pytest

from cluster.embedded.controllers.base import matches, owned_by, portion, set_condition, short_hash
from cluster.embedded.informer import Informers, WorkQueue
from cluster.embedded.kube import CONFIGMAPS, Api, ApiError
from tests.cluster.conftest import Lab


async def test_a_key_is_worked_on_once_at_a_time_and_again_if_it_changed_meanwhile() -> None:
    running: set[str] = set()
    seen: list[str] = []
    go = asyncio.Event()

    async def work(key: str) -> None:
        assert key not in running
        running.add(key)
        seen.append(key)
        await go.wait()
        running.discard(key)

    queue = WorkQueue("test", work, workers=3)
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("a")
    go.set()
    async with asyncio.timeout(2):
        while len(seen) < 3:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert sorted(seen) == ["a", "a", "b"]
    await queue.stop()


async def test_what_fails_is_tried_again_later_and_later(capsys: pytest.CaptureFixture[str]) -> None:
    times: list[float] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) < 4:
            raise (
                ApiError(409, "Conflict", "somebody was faster")
                if len(times) < 3
                else ValueError("a mistake")
            )
        done.set()

    queue = WorkQueue("test", work)
    queue.add("x")
    async with asyncio.timeout(5):
        await done.wait()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] < gaps[1] < gaps[2]
    said = capsys.readouterr().err
    assert "a mistake" in said and "faster" not in said  # a conflict is no news
    await queue.stop()


async def test_the_earlier_of_two_appointments_stands() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    queue = WorkQueue("test", work)
    queue.add_later("x", 60)
    queue.add_later("x", 0.01)
    queue.add_later("x", 60)
    async with asyncio.timeout(2):
        while not seen:
            await asyncio.sleep(0.005)
    await queue.stop()


async def test_an_informer_follows_its_kind_and_its_own_writes(lab: Lab) -> None:
    async with Api.from_kubeconfig(lab.cluster.kubeconfig) as api:
        informers = Informers(api)
        changes: list[tuple[str, str]] = []

        def heard(old: Any, new: Any) -> None:
            meta = (new or old)["metadata"]
            if meta["namespace"] == lab.namespace and meta["name"] == "one":
                changes.append(("gone" if new is None else "new" if old is None else "changed", meta["name"]))

        informer = informers.of(CONFIGMAPS)
        informer.subscribe(heard)
        await informers.synced()
        made = await api.create(CONFIGMAPS, lab.namespace, {"metadata": {"name": "one"}})
        informer.assume(made)
        assert informer.get(lab.namespace, "one") == made
        patched = await api.patch(CONFIGMAPS, lab.namespace, "one", {"data": {"a": "1"}})
        informer.assume(patched)
        informer.assume(made)  # older: of no effect
        found = informer.get(lab.namespace, "one")
        assert found and found["data"] == {"a": "1"}
        with pytest.raises(ApiError) as refused:
            await api.update(CONFIGMAPS, {**made, "data": {"a": "2"}})
        assert refused.value.reason == "Conflict"
        await api.delete(CONFIGMAPS, lab.namespace, "one")
        assert await api.delete(CONFIGMAPS, lab.namespace, "one") is None
        async with asyncio.timeout(5):
            while informer.get(lab.namespace, "one"):
                await asyncio.sleep(0.005)
        assert [change for change, _ in changes] == ["new", "changed", "gone"]
        await informers.stop()


@pytest.mark.parametrize(
    ("term", "labels", "selected"),
    [
        ({"operator": "In", "values": ["x", "y"]}, {"k": "x"}, True),
        ({"operator": "In", "values": ["x"]}, {}, False),
        ({"operator": "NotIn", "values": ["x"]}, {}, True),
        ({"operator": "Exists"}, {"k": ""}, True),
        ({"operator": "DoesNotExist"}, {"k": "x"}, False),
    ],
)
def test_label_selectors(term: dict[str, Any], labels: dict[str, str], selected: bool) -> None:
    assert matches({"matchExpressions": [{"key": "k", **term}]}, labels) is selected
    assert matches({}, labels)


def test_portions_hashes_owners_and_conditions() -> None:
    assert (
        portion("50%", 3, round_up=True),
        portion("50%", 3, round_up=False),
        portion(2, 3, round_up=True),
    ) == (2, 1, 2)
    assert short_hash({"a": 1, "b": 2}) == short_hash({"b": 2, "a": 1}) != short_hash({"a": 2})
    owner = {"metadata": {"uid": "u"}}
    mine = {"metadata": {"ownerReferences": [{"uid": "u", "controller": True}]}}
    other = {"metadata": {"ownerReferences": [{"uid": "u"}]}}
    assert owned_by(owner, [mine, other]) == [mine]
    first = set_condition([], {"type": "Ready", "status": "True"}, "1")
    same = set_condition(first, {"type": "Ready", "status": "True"}, "2")
    changed = set_condition(same, {"type": "Ready", "status": "False"}, "3")
    assert [one[0]["lastTransitionTime"] for one in (first, same, changed)] == ["1", "1", "3"]
