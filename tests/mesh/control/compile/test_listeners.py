"""Listeners: what a pod shows to the mesh, as PeerAuthentication demands, and what it hides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from mesh.control.compile import LISTENER, compile
from mesh.control.compile.listeners import EXCLUDE_INBOUND
from mesh.control.world import MeshConfig, ServicePort, WorkloadPort, World
from tests.worlds import bookinfo, objects, service, sidecar


def listeners(world: World, workload: str = "reviews-v1") -> dict[str, Any]:
    return dict(compile(world, sidecar(workload, world)).by_type[LISTENER])


def inbound(world: World, workload: str = "reviews-v1", port: int = 9080) -> Any:
    proxy = sidecar(workload, world)
    return listeners(world, workload)[f"{proxy.ip}_{port}"]


def manager(chain: Any) -> Any:
    found = hcm.HttpConnectionManager()
    assert chain.filters[-1].typed_config.Unpack(found)
    return found


def peers(
    mode: str, namespace: str = "default", selector: str = "", ports: str = "{}", name: str = "p"
) -> Any:
    extra = f"selector: {{matchLabels: {selector}}}, portLevelMtls: {ports}," if selector else ""
    text = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{extra if ports != "{}" else extra.replace("portLevelMtls: {},", "")} mtls: {{mode: {mode}}}}}
"""
    return objects(text)[0]


def chains(listener: Any) -> list[str]:
    return [chain.name for chain in listener.filter_chains]


def test_a_sidecar_listens_for_its_app_and_in_front_of_it() -> None:
    found = listeners(bookinfo())
    assert set(found) == {"http_proxy", "10.0.0.3_9080"}
    outbound = found["http_proxy"]
    address = outbound.address.socket_address
    assert (address.address, address.port_value) == ("10.0.0.30", 15001)
    http = manager(outbound.filter_chains[0])
    assert http.rds.route_config_name == "http_proxy"
    assert [each.name for each in http.http_filters] == [
        "envoy.filters.http.cors",
        "envoy.filters.http.fault",
        "envoy.filters.http.router",
    ]


def test_permissive_takes_tls_and_plaintext() -> None:
    listener = inbound(bookinfo())
    assert chains(listener) == ["mtls", "plaintext"]
    assert [each.filter_chain_match.transport_protocol for each in listener.filter_chains] == [
        "tls",
        "raw_buffer",
    ]
    assert listener.listener_filters[0].name == "envoy.filters.listener.tls_inspector"
    context = tls_pb2.DownstreamTlsContext()
    assert listener.filter_chains[0].transport_socket.typed_config.Unpack(context)
    assert context.require_client_certificate.value
    validation = context.common_tls_context.combined_validation_context.default_validation_context
    assert validation.match_typed_subject_alt_names[0].matcher.prefix == "spiffe://cluster.local/"
    http = manager(listener.filter_chains[1])
    assert http.route_config.virtual_hosts[0].routes[0].route.cluster == "inbound|9080||"
    assert http.forward_client_cert_details == hcm.HttpConnectionManager.APPEND_FORWARD


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([("STRICT", "mesh-system", "")], ["mtls"]),
        ([("STRICT", "default", "")], ["mtls"]),
        ([("STRICT", "other", "")], ["mtls", "plaintext"]),
        ([("STRICT", "mesh-system", ""), ("PERMISSIVE", "default", "")], ["mtls", "plaintext"]),
        ([("STRICT", "mesh-system", ""), ("UNSET", "default", "")], ["mtls"]),
        ([("PERMISSIVE", "default", ""), ("STRICT", "default", "{app: reviews}")], ["mtls"]),
        ([("STRICT", "default", ""), ("DISABLE", "default", "{app: reviews}")], ["plaintext"]),
        ([("STRICT", "default", "{app: ratings}")], ["mtls", "plaintext"]),
        ([("STRICT", "mesh-system", "{app: reviews}")], ["mtls", "plaintext"]),
    ],
)
def test_the_nearest_policy_decides(policies: list[tuple[str, str, str]], expected: list[str]) -> None:
    found = [peers(*policy, name=f"p{index}") for index, policy in enumerate(policies)]
    assert chains(inbound(bookinfo(*found))) == expected


def test_a_port_may_differ() -> None:
    policy = peers("STRICT", selector="{app: reviews}", ports='{"9080": {mode: DISABLE}}')
    assert chains(inbound(bookinfo(policy))) == ["plaintext"]
    clusters: Any = compile(bookinfo(policy), sidecar()).by_type
    endpoints = clusters["type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"]
    reviews = endpoints["outbound|9080||reviews.default.svc.cluster.local"].endpoints[0].lb_endpoints[0]
    assert "envoy.transport_socket_match" not in reviews.metadata.filter_metadata


def declared(world: World, **fields: Any) -> World:
    key = ("default", "reviews-v1-0")
    return world.evolve(workloads={**world.workloads, key: replace(world.workloads[key], **fields)})


def test_ports_come_from_containers_and_services_and_annotations() -> None:
    world = declared(
        bookinfo(),
        ports=(WorkloadPort(9080, "http"), WorkloadPort(7000, "db", "TCP"), WorkloadPort(15020, "own")),
        annotations={EXCLUDE_INBOUND: "9999, 9080"},
    )
    extra = service(
        "extra", ServicePort("grpc", 80, "http"), ServicePort("http", 81, 9081), selector={"app": "reviews"}
    )
    found = listeners(world.evolve(services={**world.services, extra.key: extra}))
    assert set(found) == {"http_proxy", *(f"10.0.0.3_{port}" for port in (7000, 9080, 9081, 9999))}
    excluded = found["10.0.0.3_9080"]
    assert [each.name for each in excluded.filter_chains[0].filters] == ["envoy.filters.network.tcp_proxy"]
    assert not excluded.filter_chains[0].HasField("transport_socket")
    database = found["10.0.0.3_7000"]
    assert list(database.filter_chains[0].filter_chain_match.application_protocols) == [
        "istio-peer-exchange",
        "istio",
    ]


def test_access_logs_name_their_side_or_are_off() -> None:
    (log,) = manager(inbound(bookinfo()).filter_chains[0]).access_log
    config = als_pb2.HttpGrpcAccessLogConfig()
    assert log.typed_config.Unpack(config)
    common = config.common_config
    assert common.log_name == "inbound"
    assert common.buffer_flush_interval.ToMilliseconds() == 200
    cluster = common.grpc_service.envoy_grpc.cluster_name
    assert cluster == "outbound|15011||mesh-telemetry.mesh-system.svc.cluster.local"
    assert (
        cluster
        in compile(bookinfo(), sidecar()).by_type["type.googleapis.com/envoy.config.cluster.v3.Cluster"]
    )
    assert not manager(
        inbound(bookinfo(mesh=MeshConfig(access_log_service=None))).filter_chains[0]
    ).access_log
