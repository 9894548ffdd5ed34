"""Sticky splits: a share of the users, who stay when it grows, whoever else experiments on them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from mesh.api import parse, validate
from mesh.control.compile import ROUTE, compile
from mesh.control.compile.sticky import in_parts, sum_for
from tests.worlds import bookinfo, gateway, sample, sidecar

USERS = [f"user-{number}" for number in range(20_000)]
MAXIMUM = 3.2905  # of a normal variable, in 999 of 1000 cases


def reviews(share: int, sticky: str = "cookie:user", **annotations: str) -> dict[str, Any]:
    """A VirtualService that sends `share` percent of the users to v3."""
    shares = {"v1": 100 - share, "v3": share}
    to = [{"destination": {"host": "reviews", "subset": s}, "weight": w} for s, w in shares.items()]
    notes = {"mesh-lab.io/sticky": sticky, **annotations}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "default", "annotations": notes},
        "spec": {"hosts": ["reviews"], "http": [{"route": to}]},
    }


def chosen(users: list[str], weights: list[int], salt: str) -> list[int]:
    """The number of each user's destination, as Envoy chooses it."""
    bounds = list(accumulate(in_parts(weights, sum_for(salt))))
    return [bisect_right(bounds, xxh64_intdigest(user.encode()) % bounds[-1]) for user in users]


def test_the_share_of_users_is_the_share_asked_for() -> None:
    for share in (1, 10, 50):
        count = sum(chosen(USERS, [100 - share, share], "default/reviews"))
        expected, deviation = len(USERS) * share / 100, (len(USERS) * share * (100 - share)) ** 0.5 / 100
        assert abs(count - expected) < MAXIMUM * deviation


@given(st.integers(0, 100), st.integers(0, 100), st.text(), st.booleans())
def test_nobody_loses_the_feature_when_its_share_grows(a: int, b: int, salt: str, first: bool) -> None:
    low, high = sorted((a, b))
    for share in (low, high):
        assert sum(in_parts([share, 100 - share], sum_for(salt))) == sum_for(salt)
    users = USERS[:300]
    weights = [[share, 100 - share] if first else [100 - share, share] for share in (low, high)]
    feature = 0 if first else 1
    before, after = (chosen(users, w, salt) for w in weights)
    assert all(late == feature for early, late in zip(before, after, strict=True) if early == feature)


def test_from_10_to_50_percent_all_twenty_thousand_stay() -> None:
    before, after = (chosen(USERS, [100 - share, share], "default/reviews") for share in (10, 50))
    assert all(late for early, late in zip(before, after, strict=True) if early)


def test_experiments_with_other_salts_are_independent() -> None:
    one, other = chosen(USERS, [1, 1], "autumn"), chosen(USERS, [1, 1], "winter")
    both = sum(a and b for a, b in zip(one, other, strict=True))
    assert abs(both - len(USERS) / 4) < MAXIMUM * (len(USERS) * 3 / 16) ** 0.5
    assert one == chosen(USERS, [50, 50], "autumn")


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any), st.text())
def test_parts_are_as_large_as_the_weights(weights: list[int], salt: str) -> None:
    whole = sum_for(salt)
    for weight, part in zip(weights, in_parts(weights, whole), strict=True):
        assert abs(part / whole - weight / sum(weights)) < 2e-6


def split(config: dict[str, Any]) -> Any:
    world = bookinfo(*sample("destination-rule-all"), parse(config))
    table: Any = compile(world, sidecar(world=world)).by_type[ROUTE]["http_proxy"]
    (host,) = (host for host in table.virtual_hosts if host.name.startswith("reviews."))
    return host.routes[0].route


def test_it_becomes_envoys_hash_policy() -> None:
    action = split(reviews(10))
    assert action.weighted_clusters.use_hash_policy.value
    assert [w.weight.value for w in action.weighted_clusters.clusters] == in_parts(
        [90, 10], sum_for("default/reviews")
    )
    (policy,) = action.hash_policy
    assert (policy.cookie.name, policy.cookie.path, policy.terminal) == ("user", "/", True)
    assert policy.cookie.ttl.seconds == 30 * 24 * 3600
    assert split(reviews(10, "header:x-user")).hash_policy[0].header.header_name == "x-user"
    salted = split(reviews(10, **{"mesh-lab.io/sticky-salt": "autumn"}))
    assert sum(w.weight.value for w in salted.weighted_clusters.clusters) == sum_for("autumn")


def test_without_the_annotation_nothing_changes() -> None:
    config = reviews(10)
    del config["metadata"]["annotations"]
    action = split(config)
    assert [w.weight.value for w in action.weighted_clusters.clusters] == [90, 10]
    assert not action.hash_policy


def test_a_gateway_gives_newcomers_their_cookie_before_the_split() -> None:
    notes = {"mesh-lab.io/sticky": "cookie:user"}
    gateways, service = sorted(sample("bookinfo-gateway"), key=lambda each: each.kind)
    world = bookinfo(gateways, replace(service, annotations=notes))
    table: Any = compile(world, gateway(world)).by_type[ROUTE]["http.8080"]
    for each in table.virtual_hosts[0].routes:
        (only,) = each.route.weighted_clusters.clusters
        assert only.name == "outbound|9080||productpage.default.svc.cluster.local"
        assert each.route.weighted_clusters.use_hash_policy.value


def test_what_cannot_be_a_key_is_refused_at_apply() -> None:
    for wrong in ("", "cookie", "cookie:", "cookie:a b", "claim:sub", "header:a:b", "cookie:" + "x" * 65):
        (problem,) = validate(reviews(10, wrong))
        assert "must be cookie:NAME or header:NAME" in str(problem)
    config = reviews(10, **{"mesh-lab.io/sticky-salt": "x"})
    del config["metadata"]["annotations"]["mesh-lab.io/sticky"]
    (problem,) = validate(config)
    assert "has no effect" in str(problem)
