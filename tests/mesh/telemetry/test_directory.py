"""Who is behind an address."""

import pytest

from mesh.telemetry.directory import GONE_REMEMBERED, Directory, workload_name
from tests.mesh.telemetry.entries import by_key, pod, service, shop_directory


def owner(kind, name):
    return [{"kind": kind, "name": name, "controller": True}]


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ({"ownerReferences": owner("ReplicaSet", "a-b-7d"), "labels": {"pod-template-hash": "7d"}}, "a-b"),
        ({"ownerReferences": owner("ReplicaSet", "a-b-7d")}, "a-b-7d"),
        ({"ownerReferences": owner("StatefulSet", "db"), "labels": {}}, "db"),
        ({"ownerReferences": [{"kind": "Node", "name": "n"}]}, "lone"),
        ({}, "lone"),
    ],
)
def test_the_workload_is_the_owner_of_the_owner(metadata, name):
    assert workload_name({"name": "lone", **metadata}) == name


def test_an_address_is_its_latest_pods():
    directory = Directory()
    old, new = pod("a", "v1", "10.0.0.1"), pod("b", "v1", "10.0.0.1")
    directory.change_pods(by_key(old))
    directory.change_pods(dict.fromkeys(by_key(old)))
    assert directory.pod_at("10.0.0.1").workload.name == "a-v1"  # its last reports may still come
    directory.change_pods(by_key(new))
    assert directory.pod_at("10.0.0.1").workload.name == "b-v1"


def test_the_gone_are_forgotten_in_the_end():
    directory = Directory()
    for number in range(GONE_REMEMBERED + 5):
        made = by_key(pod(f"a{number}", "v1", f"10.0.{number // 250}.{number % 250}"))
        directory.change_pods(made)
        directory.change_pods(dict.fromkeys(made))
    assert directory.pod_at("10.0.0.0") is None
    assert directory.pod_named("default", "a0-v1-7d9f-abcde") is None
    assert directory.pod_named("default", "a9-v1-7d9f-abcde") is not None


def test_pods_of_the_hosts_network_and_finished_ones_own_no_address():
    directory = Directory()
    finished = pod("b", "v1", "10.0.0.2")
    finished["status"]["phase"] = "Succeeded"
    directory.change_pods(by_key(pod("a", "v1", "10.0.0.1", hostNetwork=True), finished))
    assert directory.pod_at("10.0.0.1") is None and directory.pod_at("10.0.0.2") is None
    assert directory.pod_named("default", "a-v1-7d9f-abcde").workload.name == "a-v1"


@pytest.mark.parametrize(
    "host",
    [
        "reviews",
        "reviews:9080",
        "reviews.default",
        "reviews.default.svc:80",
        "reviews.default.svc.cluster.local",
    ],
)
def test_a_service_by_any_of_its_names(host):
    assert shop_directory().service_of_host(host, "default").name == "reviews"


@pytest.mark.parametrize(
    "host", ["", "example.com", "reviews.other", "reviews.default.svc.example.com", "a.b.c.d"]
)
def test_other_names_are_no_service(host):
    assert shop_directory().service_of_host(host, "default") is None


def test_the_service_of_a_pod_is_the_one_asked_for_or_the_first_with_that_port():
    directory = shop_directory()
    directory.change_services(
        by_key(service("a-reviews") | {"spec": service("reviews", target="http")["spec"]})
    )
    reviews = directory.pod_at("10.0.0.11")
    assert directory.service_of_pod(reviews, 9080).name == "a-reviews"
    assert directory.service_of_pod(reviews, 9080, "reviews:9080").name == "reviews"
    assert directory.service_of_pod(reviews, 9080, "ratings").name == "a-reviews"
    assert directory.service_of_pod(reviews, 1, "x") is None


def test_a_service_account_tells_the_workload_only_if_one_has_it():
    directory = shop_directory()
    assert directory.only_workload_of("default", "bookinfo-ratings").name == "ratings-v1"
    assert directory.only_workload_of("default", "bookinfo-reviews") is None


def test_pods_that_share_an_address_are_told_apart_by_their_ports():
    directory = Directory()
    first, second = pod("a", "v1", "127.0.0.1"), pod("b", "v1", "127.0.0.1")
    directory.change_pods(by_key(first, second))

    def part(one, port):
        target = {"kind": "Pod", "name": one["metadata"]["name"], "namespace": "default"}
        endpoint = {"addresses": ["127.0.0.1"], "targetRef": target}
        metadata = {"name": f"slice-{port}", "namespace": "default"}
        return {"metadata": metadata, "endpoints": [endpoint], "ports": [{"port": port}]}

    slices = by_key(part(first, 20001), part(second, 20002))
    directory.change_slices(slices)
    assert directory.pod_at("127.0.0.1", 20001).workload.name == "a-v1"
    assert directory.pod_at("127.0.0.1", 20002).workload.name == "b-v1"
    version = directory.version
    directory.change_slices(dict.fromkeys(slices))
    assert directory.version > version
    assert directory.pod_at("127.0.0.1", 20001) is directory.pod_at("127.0.0.1")
