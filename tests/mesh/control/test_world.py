"""The memo computes again only what changed, and forgets what nobody asks for."""

from __future__ import annotations

import pytest
from envoy.config.core.v3 import base_pb2

from mesh.control.compile import ALL_TYPES, CLUSTER, ENDPOINT, ROUTE, compile
from mesh.control.world import Memo, Proxy, World
from tests.worlds import bookinfo, by_kind, sample, service, sidecar


def test_a_value_is_kept_as_long_as_its_inputs_are_the_same_objects() -> None:
    memo, made = Memo(), []

    def build() -> int:
        made.append(1)
        return len(made)

    one, other = object(), object()
    assert [memo.get("k", (one,), build) for _ in range(3)] == [1, 1, 1]
    assert memo.get("k", (other,), build) == 2
    assert memo.get("k", (other, one), build) == 3


def test_what_is_not_asked_for_any_more_is_forgotten() -> None:
    memo = Memo()
    memo.get("kept", (), lambda: 0)
    for index in range(50_000):
        memo.get(index, (), lambda: 1)
        memo.get("kept", (), lambda: 2)
        if index % 100 == 0:
            memo.rest()
    assert memo.get("kept", (), lambda: 3) == 0
    assert memo.get(0, (), lambda: 4) == 4
    assert len(memo._old) + len(memo._new) < 15_000


def test_one_great_computation_loses_nothing() -> None:
    memo = Memo()
    for _ in range(2):
        for index in range(50_000):
            memo.get(index, (), lambda: 1)
        memo.rest()
    assert memo.misses == 50_000


def changed(old: World, new: World, proxy: Proxy) -> dict[str, int]:
    """How many resources of each type are other objects than before."""
    before, after = compile(old, proxy).by_type, compile(new, proxy).by_type
    return {
        t: sum(message is not before[t].get(name) for name, message in after[t].items()) for t in ALL_TYPES
    }


def test_a_route_change_makes_new_routes_and_nothing_else() -> None:
    old = bookinfo(*sample("destination-rule-all"), *sample("virtual-service-reviews-80-20"))
    config = {**old.config, **by_kind(sample("virtual-service-reviews-90-10"))}
    assert list(changed(old, old.evolve(config=config), sidecar()).values()) == [0, 0, 0, 1]


def test_an_endpoint_change_makes_only_that_endpoint_set_anew() -> None:
    old = bookinfo()
    key = ("default", "reviews")
    new = old.evolve(endpoints={**old.endpoints, key: old.endpoints[key][1:]})
    assert changed(old, new, sidecar())[ENDPOINT] == 1
    assert changed(old, new, sidecar())[CLUSTER] == 0


def test_a_new_service_leaves_other_clusters_alone() -> None:
    old = bookinfo()
    extra = service("extra")
    new = old.evolve(services={**old.services, extra.key: extra})
    found = changed(old, new, sidecar())
    assert (found[CLUSTER], found[ENDPOINT], found[ROUTE]) == (1, 1, 1)


def test_sidecars_of_a_namespace_share_what_they_may_call() -> None:
    world = bookinfo(*sample("destination-rule-all"))
    one, other = (compile(world, sidecar(name)).by_type for name in ("reviews-v1", "ratings-v1"))
    assert all(other[ENDPOINT][name] is message for name, message in one[ENDPOINT].items())
    assert one[ROUTE]["http_proxy"] is other[ROUTE]["http_proxy"]


def node(id: str, **metadata: object) -> base_pb2.Node:
    made = base_pb2.Node(id=id)
    made.metadata.update(metadata)
    return made


def test_a_proxy_is_read_from_its_node() -> None:
    metadata = {
        "LABELS": {"app": "a"},
        "SERVICE_ACCOUNT": "sa",
        "APP_ADDRESS": "127.0.0.9",
        "WORKLOAD_NAME": "w",
    }
    proxy = Proxy.from_node(node("sidecar~10.0.0.1~pod-0.shop~shop.svc.cluster.local", **metadata))
    assert (proxy.type, proxy.ip, proxy.pod_name, proxy.namespace) == ("sidecar", "10.0.0.1", "pod-0", "shop")
    assert (proxy.labels, proxy.service_account, proxy.app_address) == ({"app": "a"}, "sa", "127.0.0.9")
    assert proxy.interception == "NONE"


@pytest.mark.parametrize("id", ["", "x", "waypoint~1~a.b~c", "sidecar~1~nodot~c"])
def test_a_strange_node_is_refused(id: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Proxy.from_node(node(id))
