"""Weights are read from a VirtualService as Istio means them, and changed without touching anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.parse import validate
from widgets import split

JASON = {
    "match": [{"headers": {"end-user": {"exact": "jason"}}}],
    "route": [{"destination": {"host": "reviews", "subset": "v2"}}],
}


def service(*routes: split.Object) -> split.Object:
    return {
        "apiVersion": split.API_VERSION,
        "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default", "resourceVersion": "7", "uid": "u"},
        "spec": {"hosts": ["reviews"], "http": list(routes)},
        "status": {"conditions": []},
    }


def to(**weights: int | None) -> split.Object:
    return {
        "route": [
            {"destination": {"host": "reviews", "subset": subset}}
            | ({} if weight is None else {"weight": weight})
            for subset, weight in weights.items()
        ]
    }


@pytest.mark.parametrize(
    ("route", "shares"),
    [
        (to(v1=90, v3=10), {"v1": 0.9, "v3": 0.1}),
        (to(v1=1, v3=1), {"v1": 0.5, "v3": 0.5}),
        (to(v1=None), {"v1": 1.0}),
        (to(v1=0), {"v1": 1.0}),
        ({"route": [{"destination": {"host": "reviews"}}]}, {}),
        (JASON, {}),
    ],
)
def test_intended_shares(route: split.Object, shares: dict[str, float]) -> None:
    assert split.intended(service(route)) == shares


def test_without_an_object_nothing_is_intended() -> None:
    assert split.intended(None) == {}
    assert split.intended({"spec": {}}) == {}


def test_special_rules_stay_and_what_the_server_added_goes() -> None:
    before = service(JASON, to(v1=100))
    after = split.with_weights(before, "reviews", {"v1": 80, "v3": 20}, "default")
    assert after["spec"]["http"][0] == JASON
    assert split.intended(after) == {"v1": 0.8, "v3": 0.2}
    assert after["metadata"] == {"name": "reviews", "namespace": "default"}
    assert "status" not in after
    assert before["spec"]["http"][1] == to(v1=100)  # not changed in place


def test_a_default_route_is_added_after_the_special_ones() -> None:
    after = split.with_weights(service(JASON), "reviews", {"v1": 100}, "default")
    assert [bool(route.get("match")) for route in after["spec"]["http"]] == [True, False]


def test_timeouts_and_retries_of_the_route_stay() -> None:
    after = split.with_weights(service({**to(v1=100), "timeout": "3s"}), "reviews", {"v3": 100}, "default")
    assert after["spec"]["http"][0]["timeout"] == "3s"


def test_when_the_spec_was_changed() -> None:
    assert split.changed_at(None) is None
    assert split.changed_at({"metadata": {}}) is None
    fields = [
        {"manager": "kubectl", "time": "2026-01-01T00:00:05Z"},
        {"manager": "lab", "time": "2026-01-01T00:00:07Z"},
        {"manager": "control", "time": "2026-01-01T00:00:09Z", "subresource": "status"},
    ]
    assert split.changed_at({"metadata": {"managedFields": fields}}) == 1767225608.0


@given(st.integers(0, 100))
def test_what_is_set_is_intended(percent: int) -> None:
    made = split.with_weights(None, "reviews", {"v1": 100 - percent, "v3": percent}, "default")
    assert validate(made) == []
    assert split.intended(made) == {"v1": (100 - percent) / 100, "v3": percent / 100}
