"""Clusters and endpoint sets: what DestinationRules and pods make of a service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from mesh.control.compile import CLUSTER, ENDPOINT, compile
from mesh.control.world import MeshConfig, Proxy, World
from tests.worlds import bookinfo, objects, sample, sidecar

SUFFIX = "reviews.default.svc.cluster.local"


def cluster(world: World, subset: str = "", proxy: Proxy | None = None, name: str = "") -> Any:
    return compile(world, proxy or sidecar()).by_type[CLUSTER][name or f"outbound|9080|{subset}|{SUFFIX}"]


def addresses(world: World, subset: str = "") -> list[str]:
    found: Any = compile(world, sidecar()).by_type[ENDPOINT][f"outbound|9080|{subset}|{SUFFIX}"]
    return [
        e.endpoint.address.socket_address.address for place in found.endpoints for e in place.lb_endpoints
    ]


def rule(
    spec: str, namespace: str = "default", host: str = "reviews", name: str = "r", created: str = ""
) -> Any:
    text = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec: {{host: "{host}", {spec}}}
"""
    return objects(text)[0]


def tls_of(socket: Any) -> Any:
    context = tls_pb2.UpstreamTlsContext()
    assert socket.typed_config.Unpack(context)
    return context


def test_every_subset_has_a_cluster_and_its_own_endpoints() -> None:
    world = bookinfo(*sample("destination-rule-all"))
    assert addresses(world) == ["10.0.0.3", "10.0.0.4", "10.0.0.5"]
    assert [addresses(world, version) for version in ("v1", "v2", "v3")] == [
        ["10.0.0.3"],
        ["10.0.0.4"],
        ["10.0.0.5"],
    ]
    assert cluster(world, "v2").eds_cluster_config.service_name == f"outbound|9080|v2|{SUFFIX}"
    assert cluster(world).lb_policy == cluster(world).LEAST_REQUEST


def test_endpoints_that_are_not_ready_are_left_out() -> None:
    world = bookinfo()
    key = ("default", "reviews")
    first, *rest = world.endpoints[key]
    later = world.evolve(endpoints={**world.endpoints, key: (replace(first, ready=False), *rest)})
    assert addresses(later) == ["10.0.0.4", "10.0.0.5"]


def test_endpoints_say_who_they_are_and_whether_they_speak_mutual_tls() -> None:
    found: Any = compile(bookinfo(), sidecar()).by_type[ENDPOINT][f"outbound|9080||{SUFFIX}"]
    metadata = found.endpoints[0].lb_endpoints[0].metadata.filter_metadata
    assert metadata["envoy.transport_socket_match"]["tlsMode"] == "istio"
    assert metadata["istio"]["workload"] == "reviews-v1;default;reviews;v1;Kubernetes"
    plain: Any = compile(bookinfo(), sidecar()).by_type[ENDPOINT][
        "outbound|8080||mesh-gateway.mesh-system.svc.cluster.local"
    ]
    assert "envoy.transport_socket_match" not in plain.endpoints[0].lb_endpoints[0].metadata.filter_metadata


def test_mutual_tls_is_automatic_and_checks_the_identities_behind_the_service() -> None:
    mutual, plain = cluster(bookinfo()).transport_socket_matches
    assert (mutual.name, plain.name) == ("tlsMode-istio", "tlsMode-disabled")
    context = tls_of(mutual.transport_socket)
    assert context.sni == f"outbound_.9080_._.{SUFFIX}"
    assert list(context.common_tls_context.alpn_protocols) == ["istio-peer-exchange", "istio"]
    assert [secret.name for secret in context.common_tls_context.tls_certificate_sds_secret_configs] == [
        "default"
    ]
    validation = context.common_tls_context.combined_validation_context
    assert validation.validation_context_sds_secret_config.name == "ROOTCA"
    (name,) = validation.default_validation_context.match_typed_subject_alt_names
    assert name.matcher.exact == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"


def test_tls_modes_of_a_rule() -> None:
    strict = cluster(bookinfo(*sample("destination-rule-all-mtls")))
    assert not strict.transport_socket_matches
    assert tls_of(strict.transport_socket).sni == f"outbound_.9080_._.{SUFFIX}"
    off = cluster(bookinfo(rule("trafficPolicy: {tls: {mode: DISABLE}}")))
    assert not off.transport_socket_matches
    assert not off.HasField("transport_socket")
    simple = tls_of(
        cluster(bookinfo(rule("trafficPolicy: {tls: {mode: SIMPLE, sni: a.b}}"))).transport_socket
    )
    assert simple.sni == "a.b"
    validation = simple.common_tls_context.combined_validation_context
    assert validation.validation_context_sds_secret_config.name == "file-root:system"
    nothing = bookinfo(mesh=MeshConfig(enable_auto_mtls=False))
    assert not cluster(nothing).transport_socket_matches


def test_a_subset_overrides_block_by_block_and_a_port_replaces_all() -> None:
    world = bookinfo(
        rule("""
  trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 7}}},
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}},
            {name: v2, labels: {version: v2},
             trafficPolicy: {portLevelSettings: [{port: {number: 9080}, tls: {mode: DISABLE}}]}}]""")
    )
    whole, one, two = (cluster(world, subset) for subset in ("", "v1", "v2"))
    assert whole.lb_policy == whole.RANDOM
    assert one.lb_policy == one.ROUND_ROBIN
    assert one.circuit_breakers.thresholds[0].max_connections.value == 7
    assert two.lb_policy == two.LEAST_REQUEST
    assert two.circuit_breakers.thresholds[0].max_connections.value == 2**32 - 1
    assert not two.transport_socket_matches


def test_pool_and_outlier_settings() -> None:
    spec = """trafficPolicy: {
        connectionPool: {tcp: {connectTimeout: 300ms}, http: {http1MaxPendingRequests: 2, maxRequestsPerConnection: 5}},
        outlierDetection: {consecutive5xxErrors: 3, interval: 2s, baseEjectionTime: 4s, maxEjectionPercent: 80}}"""
    found = cluster(bookinfo(rule(spec)))
    assert found.connect_timeout.ToMilliseconds() == 300
    assert found.circuit_breakers.thresholds[0].max_pending_requests.value == 2
    outliers = found.outlier_detection
    assert (outliers.consecutive_5xx.value, outliers.enforcing_consecutive_5xx.value) == (3, 100)
    assert (outliers.interval.seconds, outliers.base_ejection_time.seconds) == (2, 4)
    assert outliers.enforcing_success_rate.value == 0
    (options,) = found.typed_extension_protocol_options.values()
    read = http_protocol_options_pb2.HttpProtocolOptions()
    assert options.Unpack(read)
    assert read.common_http_protocol_options.max_requests_per_connection.value == 5


def test_grpc_ports_are_http2() -> None:
    telemetry = cluster(bookinfo(), name="outbound|15011||mesh-telemetry.mesh-system.svc.cluster.local")
    read = http_protocol_options_pb2.HttpProtocolOptions()
    assert next(iter(telemetry.typed_extension_protocol_options.values())).Unpack(read)
    assert read.explicit_http_config.HasField("http2_protocol_options")
    assert (
        tls_of(telemetry.transport_socket_matches[0].transport_socket).common_tls_context.alpn_protocols[-1]
        == "h2"
    )


def test_the_rule_of_the_clients_namespace_wins_then_the_services_then_the_roots() -> None:
    client = rule("trafficPolicy: {loadBalancer: {simple: RANDOM}}", "shop", f"{SUFFIX}")
    owner = rule("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}")
    root = rule(
        "trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}", "mesh-system", "*.svc.cluster.local"
    )
    shop = replace(sidecar(), namespace="shop", id="sidecar~1~a.shop~x")
    world = bookinfo(client, owner, root)
    assert cluster(world, proxy=shop).lb_policy == cluster(world).RANDOM
    assert cluster(world).lb_policy == cluster(world).ROUND_ROBIN
    assert cluster(bookinfo(root)).circuit_breakers.thresholds[0].max_connections.value == 1
    hidden = rule('trafficPolicy: {loadBalancer: {simple: RANDOM}}, exportTo: ["."]')
    assert cluster(bookinfo(hidden), proxy=shop).lb_policy == cluster(bookinfo()).LEAST_REQUEST


def test_rules_for_the_same_host_are_merged_the_older_first() -> None:
    old = rule("subsets: [{name: v1, labels: {version: v1}}]", name="z", created="2026-01-01T00:00:00Z")
    new = rule(
        "subsets: [{name: v1, labels: {version: v3}}, {name: v2, labels: {version: v2}}]",
        name="a",
        created="2026-02-01T00:00:00Z",
    )
    world = bookinfo(new, old)
    assert addresses(world, "v1") == ["10.0.0.3"]
    assert addresses(world, "v2") == ["10.0.0.4"]


def test_the_app_and_the_outside_have_clusters() -> None:
    found = compile(bookinfo(), sidecar()).by_type[CLUSTER]
    app: Any = found["inbound|9080||"]
    address = app.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address
    assert (address.address, address.port_value) == (sidecar().app_address, 9080)
    outside: Any = found["PassthroughCluster"]
    assert outside.original_dst_lb_config.http_header_name == ":authority"
    assert "BlackHoleCluster" in found
