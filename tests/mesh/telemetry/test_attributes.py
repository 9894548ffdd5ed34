"""Istio's labels out of access log entries."""

import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import ResponseFlags

from mesh.telemetry.attributes import FLAGS, PEER_ID, Labeller, Reporter, label, parse_node_id, read_facts
from mesh.telemetry.directory import Directory, Workload
from tests.mesh.telemetry.entries import (
    HOST,
    PRODUCTPAGE,
    REVIEWS_V2,
    at,
    by_key,
    entry,
    inbound,
    node_id,
    outbound,
    pod,
    san,
    shop_directory,
)


def labels(reporter, logged, directory=None):
    return label(reporter, read_facts(logged), directory or shop_directory())._asdict()


def has(found, **expected):
    assert {name: found[name] for name in expected} == expected


def test_the_callers_side():
    has(
        labels(PRODUCTPAGE, outbound()),
        reporter="source",
        source_workload="productpage-v1",
        source_workload_namespace="default",
        source_version="v1",
        destination_workload="reviews-v2",
        destination_version="v2",
        destination_service=HOST,
        destination_service_name="reviews",
        destination_service_namespace="default",
        response_code="200",
        response_flags="-",
        request_protocol="http",
        connection_security_policy="unknown",  # Istio: only the server's side knows
    )


def test_the_callees_side():
    has(
        labels(REVIEWS_V2, inbound()),
        reporter="destination",
        source_workload="productpage-v1",
        source_principal=san("bookinfo-productpage"),
        destination_workload="reviews-v2",
        destination_service_name="reviews",
        destination_principal=san("bookinfo-reviews"),
        connection_security_policy="mutual_tls",
    )


def test_plaintext_and_one_sided_tls_are_not_mutual():
    plain = inbound()
    plain.common_properties.ClearField("tls_properties")
    has(labels(REVIEWS_V2, plain), connection_security_policy="none", source_principal="unknown")
    one_sided = inbound()
    one_sided.common_properties.tls_properties.ClearField("peer_certificate_properties")
    has(labels(REVIEWS_V2, one_sided), connection_security_policy="none")


def test_a_caller_whom_the_address_does_not_tell():
    """All pods call from one address: the id the peer gave tells, or else a certificate only one workload
    has.
    """
    has(labels(REVIEWS_V2, inbound(caller="127.0.0.1")), source_workload="productpage-v1")
    with_id = inbound(caller="127.0.0.1")
    with_id.request.request_headers[PEER_ID] = node_id("ratings", "v1", "10.0.0.2")
    has(labels(REVIEWS_V2, with_id), source_workload="ratings-v1")
    shared = inbound(caller="127.0.0.1")
    names = shared.common_properties.tls_properties.peer_certificate_properties.subject_alt_name
    names[0].uri = san("bookinfo-reviews")
    has(labels(REVIEWS_V2, shared), source_workload="unknown", source_workload_namespace="default")


def test_requests_that_reached_nobody_still_tell_what_was_asked_for():
    nowhere = outbound(503, to="", upstream_cluster="", response_flags={"no_cluster_found": True})
    has(
        labels(PRODUCTPAGE, nowhere),
        destination_service_name="reviews",  # by the Host header
        destination_workload="unknown",
        response_code="503",
        response_flags="NC",
    )
    has(
        labels(PRODUCTPAGE, entry(502, upstream_cluster="BlackHoleCluster")),
        destination_service_name="reviews",
    )
    stranger = entry(200, upstream_cluster="PassthroughCluster")
    stranger.request.authority = "example.com"
    has(
        labels(PRODUCTPAGE, stranger),
        destination_service="unknown",
        destination_service_name="PassthroughCluster",
    )


def test_a_host_outside_the_cluster():
    has(
        labels(PRODUCTPAGE, outbound(upstream_cluster="outbound|443||api.example.com", to="192.0.2.1")),
        destination_service="api.example.com",
        destination_service_name="api.example.com",
        destination_workload="unknown",
    )


def test_nobody_known_is_unknown_and_never_an_error():
    empty = Directory()
    has(labels(PRODUCTPAGE, outbound(), empty), source_workload="unknown", destination_service=HOST)
    has(labels(REVIEWS_V2, inbound(caller=""), empty), destination_workload="unknown")
    has(labels(Reporter(), entry(0)), reporter="source", response_code="0", source_workload="unknown")


def test_a_proxy_the_api_does_not_know_yet_is_believed():
    new = Reporter("inbound", "default", "new", "10.9.9.9", Workload("new-v1", "default", "new", "v1"))
    has(labels(new, inbound()), destination_workload="new-v1", destination_version="v1")


def test_another_log_name_is_told_by_the_cluster():
    reporter = REVIEWS_V2._replace(log_name="my-envoy")
    has(labels(reporter, inbound()), reporter="destination")
    has(labels(reporter, outbound()), reporter="source")
    has(labels(PRODUCTPAGE._replace(log_name="gateway"), outbound()), reporter="source")


def test_every_flag_of_envoy_has_its_short_name():
    assert set(FLAGS) == {field.name for field in ResponseFlags.DESCRIPTOR.fields}
    two = outbound(
        503, response_flags={"upstream_connection_failure": True, "upstream_retry_limit_exceeded": True}
    )
    has(labels(PRODUCTPAGE, two), response_flags="UF,URX")


@pytest.mark.parametrize("node", ["", "envoy-1", "a~b~c", "sidecar~1.2.3.4~nodot~d"])
def test_node_ids_of_another_form(node):
    namespace, _, _ = parse_node_id(node)
    assert namespace == ""


def test_answers_are_remembered_until_the_directory_changes():
    directory = shop_directory()
    labeller = Labeller(directory)
    facts = read_facts(outbound(to="10.0.0.99"))
    assert labeller.labels(PRODUCTPAGE, facts).destination_workload == "unknown"
    assert labeller.labels(PRODUCTPAGE, facts) is labeller.labels(PRODUCTPAGE, facts)
    directory.change_pods(by_key(pod("reviews", "v3", "10.0.0.99")))
    assert labeller.labels(PRODUCTPAGE, facts).destination_workload == "reviews-v3"


def test_facts_hold_no_port_of_the_caller():
    """Else every new connection would miss the cache."""
    one, other = inbound(), inbound()
    other.common_properties.downstream_direct_remote_address.CopyFrom(
        entry(
            downstream_direct_remote_address=at("10.0.0.1", 999)
        ).common_properties.downstream_direct_remote_address
    )
    assert read_facts(one) == read_facts(other)
