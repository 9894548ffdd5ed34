"""How many pods a disruption budget spares."""

from typing import Any

import pytest

from cluster.embedded.budgets import check, wanted
from cluster.embedded.status import ApiError


def pod(name: str, *, ready: bool = True, phase: str = "Running", ending: bool = False) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    metadata = {"name": name, "labels": {"a": "b"}} | ({"deletionTimestamp": "t"} if ending else {})
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


def budget(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}} | spec}


@pytest.mark.parametrize(
    ("spec", "total", "need"),
    [
        ({"minAvailable": 2}, 5, 2),
        ({"minAvailable": "50%"}, 3, 2),
        ({"maxUnavailable": 1}, 3, 2),
        ({"maxUnavailable": "34%"}, 3, 1),
        ({"maxUnavailable": 9}, 3, 0),
        ({}, 3, 1),
    ],
)
def test_what_a_budget_wants(spec: dict[str, Any], total: int, need: int) -> None:
    assert wanted(budget(**spec), total) == need


@pytest.mark.parametrize(
    ("victim", "others", "allowed"),
    [
        (pod("p"), [pod("q"), pod("r")], True),
        (pod("p"), [pod("q", ready=False)], False),
        (pod("p"), [pod("q", ending=True)], False),
        (pod("p", ready=False), [pod("q"), pod("r")], True),
        (pod("p", ready=False), [pod("q")], False),
        (pod("p", phase="Pending", ready=False), [], True),
        (pod("p", ending=True), [], True),
    ],
)
def test_two_must_stay(victim: dict[str, Any], others: list[dict[str, Any]], allowed: bool) -> None:
    pods = [victim, *others]
    if allowed:
        check(victim, [budget(minAvailable=2)], pods)
        return
    with pytest.raises(ApiError) as refused:
        check(victim, [budget(minAvailable=2)], pods)
    assert refused.value.code == 429


def test_a_budget_for_others_says_nothing() -> None:
    check(pod("p"), [budget(selector={"matchLabels": {"a": "other"}}, minAvailable=9)], [])
