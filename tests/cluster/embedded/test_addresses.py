"""Which ClusterIPs and node ports Services get."""

from typing import Any

import pytest

from cluster.embedded.addresses import NODE_PORTS, Allocator
from cluster.embedded.status import ApiError
from cluster.embedded.store import Store


def service(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": "ClusterIP", "ports": [{"port": 80}]} | spec,
    }


def add(store: Store, allocator: Allocator, made: dict[str, Any]) -> dict[str, Any]:
    allocator.assign(made, None)
    return dict(store.create("services", made).object["spec"])


def test_every_service_its_own_until_none_is_left() -> None:
    store = Store()
    allocator = Allocator(store, "127.9.128.0/29")
    assert allocator.api_address == "127.9.128.1"
    given = [add(store, allocator, service(f"s{i}"))["clusterIP"] for i in range(5)]
    assert given == [f"127.9.128.{i}" for i in range(2, 7)]
    with pytest.raises(ApiError, match=r"all addresses of 127\.9\.128\.0/29 are taken"):
        add(store, allocator, service("more"))
    entry = store.get("services", "n", "s2")
    store.remove("services", entry.key, entry.revision)
    assert add(store, allocator, service("again"))["clusterIP"] == "127.9.128.4"


def test_where_there_is_one_address_all_share_it() -> None:
    store = Store()
    allocator = Allocator(store, "127.0.0.1/32")
    assert {add(store, allocator, service(name))["clusterIP"] for name in "abc"} == {"127.0.0.1"}
    assert allocator.api_address == "127.0.0.1"


def test_node_ports() -> None:
    store = Store()
    allocator = Allocator(store, "127.9.128.0/24")
    first = add(store, allocator, service("a", type="NodePort", ports=[{"port": 1}, {"port": 2}]))
    numbers = [port["nodePort"] for port in first["ports"]]
    assert len(set(numbers)) == 2 and set(numbers) <= set(NODE_PORTS)
    for wanted, says in ((numbers[0], "already allocated"), (80, "not in the valid range")):
        with pytest.raises(ApiError, match=says):
            add(store, allocator, service("b", type="NodePort", ports=[{"port": 1, "nodePort": wanted}]))
    with pytest.raises(ApiError, match="may not be used when `type` is 'ClusterIP'"):
        add(store, allocator, service("b", ports=[{"port": 1, "nodePort": 30001}]))


def test_an_update_keeps_what_was_given() -> None:
    store = Store()
    allocator = Allocator(store, "127.9.128.0/24")
    made = service("a", type="NodePort")
    spec = add(store, allocator, made)
    new = service("a", type="NodePort", ports=[{"port": 80}, {"port": 81}])
    allocator.assign(new, made)
    assert new["spec"]["clusterIP"] == spec["clusterIP"]
    assert (
        new["spec"]["ports"][0]["nodePort"]
        == spec["ports"][0]["nodePort"]
        != new["spec"]["ports"][1]["nodePort"]
    )


@pytest.mark.parametrize("address", ["127.10.0.1", "nonsense"])
def test_addresses_out_of_range(address: str) -> None:
    with pytest.raises(ApiError, match="must be in 127"):
        Allocator(Store(), "127.9.128.0/24").assign(service("a", clusterIP=address), None)


def test_no_address_for_external_names_and_headless_services() -> None:
    allocator = Allocator(Store(), "127.9.128.0/24")
    external, headless = service("a", type="ExternalName"), service("b", clusterIP="None")
    allocator.assign(external, None)
    allocator.assign(headless, None)
    assert "clusterIP" not in external["spec"] and headless["spec"]["clusterIPs"] == ["None"]
