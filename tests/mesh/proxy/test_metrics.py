"""Istio's standard metrics, read as Prometheus would."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from mesh.proxy import peers
from mesh.proxy.pages import prometheus
from tests.support import xds
from tests.support.proxies import Lab

CLAIM = peers.claim(
    "sidecar~1.2.3.4~productpage-v1-0.shop~shop.svc.cluster.local",
    {"NAME": "productpage-v1-0", "NAMESPACE": "shop", "WORKLOAD_NAME": "productpage-v1",
     "LABELS": {"app": "productpage", "version": "v1"}, "CLUSTER_ID": "Kubernetes"},
)  # fmt: skip
CLAIM_HEADERS = dict(line.split(": ") for line in CLAIM.decode().split("\r\n"))


def samples(lab: Lab, name: str) -> list[tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(prometheus(lab.proxy))
    return [(s.labels, s.value) for family in families for s in family.samples if s.name == name]


async def test_an_inbound_request_is_counted_with_both_workloads(lab: Lab) -> None:
    await lab.push(
        xds.listener("web", lab.address, 8080, xds.hcm("routes"), traffic_direction="INBOUND"),
    )
    client = await lab.connect()
    answer = await client.request(headers=CLAIM_HEADERS, method="POST", body=b"x" * 2000)
    assert "x-envoy-peer-metadata" not in dict(answer.json()["headers"])
    [(labels, value)] = samples(lab, "istio_requests_total")
    assert value == 1
    wanted = {
        "reporter": "destination",
        "source_workload": "productpage-v1",
        "source_workload_namespace": "shop",
        "source_app": "productpage",
        "source_version": "v1",
        "destination_workload": "test-v1",
        "destination_app": "test",
        "destination_service": "test.default.svc.cluster.local",
        "response_code": "200",
        "response_flags": "-",
        "connection_security_policy": "none",
    }
    assert {key: labels[key] for key in wanted} == wanted
    buckets = {labels["le"]: value for labels, value in samples(lab, "istio_request_bytes_bucket")}
    assert (buckets["1000"], buckets["2500"], buckets["+Inf"]) == (0, 1, 1)


async def test_a_claim_from_outside_is_not_believed(lab: Lab) -> None:
    await lab.push(
        xds.listener(
            "web", lab.address, 8080, xds.hcm("routes", use_remote_address=True), traffic_direction="OUTBOUND"
        )
    )
    client = await lab.connect()
    answer = await client.request(headers={**CLAIM_HEADERS, "x-forwarded-for": "6.6.6.6"})
    seen = dict(answer.json()["headers"])
    assert "x-envoy-peer-metadata" not in seen
    assert seen["x-forwarded-for"].endswith(lab.proxy.runtime.listeners["web"].spec.address[0][:4] + "0.0.1")
    [(labels, _)] = samples(lab, "istio_requests_total")
    assert (labels["reporter"], labels["source_workload"]) == ("source", "test-v1")


async def test_an_outbound_request_is_counted_with_the_service_it_was_for(lab: Lab) -> None:
    name = "outbound|9080|v2|reviews.shop.svc.cluster.local"
    workload = {"filter_metadata": {"istio": {"workload": "reviews-v2;shop;reviews;v2;Kubernetes"}}}
    await lab.push(
        xds.cluster(name),
        xds.endpoints(name, lab.one.address, metadata=workload),
        xds.listener("web", lab.address, 8080, xds.hcm("routes"), traffic_direction="OUTBOUND"),
    )
    await lab.route(xds.rule(name))
    client = await lab.connect()
    for _ in range(3):
        await client.request()
    [(labels, value)] = samples(lab, "istio_requests_total")
    assert value == 3
    assert labels["destination_service"] == "reviews.shop.svc.cluster.local"
    assert (labels["destination_service_name"], labels["destination_service_namespace"]) == (
        "reviews",
        "shop",
    )
    assert (labels["destination_workload"], labels["destination_version"]) == ("reviews-v2", "v2")
    assert samples(lab, "istio_request_duration_milliseconds_count")[0][1] == 3


def test_nonsense_in_a_claim_is_an_unknown_workload() -> None:
    claims = peers.Claims()
    assert claims.workload(b"%%%") is peers.UNKNOWN
    assert claims.workload(b"AAAA") is not None
