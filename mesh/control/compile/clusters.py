"""CDS: a cluster for every port of every service and each of its subsets, and those a proxy needs for itself.

The same cluster serves every proxy of a namespace, and usually all of them: it depends on the service, the
DestinationRule that holds for the client's namespace, and the identities behind the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.message import Message

from mesh.api.destination_rule import ClientTLSSettings, HTTPSettings, OutlierDetection, Subset, TrafficPolicy
from mesh.control.compile import naming, pb, tls
from mesh.control.compile.endpoints import identities, load_assignment
from mesh.control.compile.visibility import MergedRule, destination_rule_for, services_for
from mesh.control.world import MeshConfig, Service, ServicePort, World

_UNLIMITED = 2**32 - 1
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_POLICIES = {
    "UNSPECIFIED": cluster_pb2.Cluster.LEAST_REQUEST,
    "LEAST_CONN": cluster_pb2.Cluster.LEAST_REQUEST,
    "LEAST_REQUEST": cluster_pb2.Cluster.LEAST_REQUEST,
    "ROUND_ROBIN": cluster_pb2.Cluster.ROUND_ROBIN,
    "RANDOM": cluster_pb2.Cluster.RANDOM,
}

Both = tuple[Mapping[str, Message], Mapping[str, Message]]


def outbound(world: World, namespace: str) -> Both:
    """(clusters, endpoint sets) by name: everything a proxy of this namespace may call."""
    services = services_for(world, namespace)
    inputs = (services, world.endpoints, world.destination_rules, world.peer_authentications, world.mesh)

    def build() -> Both:
        clusters: dict[str, Message] = {}
        endpoints: dict[str, Message] = {}
        for service in services:
            rule = destination_rule_for(world, namespace, service)
            for port, subset in _parts(service, rule):
                cluster = _outbound_cluster(world, service, port, subset, rule)
                clusters[cluster.name] = cluster
                endpoints[cluster.name] = load_assignment(world, service, port, subset)
        return clusters, endpoints

    return world.memo.get(("outbound", namespace), inputs, build)


def _parts(service: Service, rule: MergedRule | None) -> Iterator[tuple[ServicePort, Subset | None]]:
    for port in service.ports:
        if port.protocol == "UDP":
            continue
        yield port, None
        for subset in rule.subsets.values() if rule else ():
            yield port, subset


def _outbound_cluster(
    world: World, service: Service, port: ServicePort, subset: Subset | None, rule: MergedRule | None
) -> Any:
    proven = identities(world, service)
    name = naming.outbound(port.port, subset.name if subset else "", service.hostname)
    sources = rule.sources if rule else ()
    key = ("cluster", name, proven, *((source.namespace, source.name) for source in sources))

    def build() -> Any:
        policy = effective_policy(rule, subset, port.port)
        cluster = _base(world.mesh, name, service)
        cluster.type = cluster_pb2.Cluster.EDS
        cluster.eds_cluster_config.CopyFrom(
            cluster_pb2.Cluster.EdsClusterConfig(eds_config=pb.ads(), service_name=name)
        )
        _apply_policy(cluster, policy, port)
        server_name = naming.sni(port.port, subset.name if subset else "", service.hostname)
        _apply_tls(cluster, policy.tls, server_name, proven, world.mesh, port)
        return cluster

    return world.memo.get(key, (service, rule, world.mesh), build)


def effective_policy(rule: MergedRule | None, subset: Subset | None, port: int) -> TrafficPolicy:
    """What holds for one port of one subset: the rule's policy, then the subset's over it, block by block.

    A port-level setting replaces every block of its own level, also those it leaves out (as Istio documents).
    """
    blocks: dict[str, Any] = {}
    for policy in (rule.traffic_policy if rule else None, subset.traffic_policy if subset else None):
        if policy is None:
            continue
        for name in ("load_balancer", "connection_pool", "outlier_detection", "tls"):
            if getattr(policy, name) is not None:
                blocks[name] = getattr(policy, name)
        for setting in policy.port_level_settings:
            if setting.port.number == port:
                names = ("load_balancer", "connection_pool", "outlier_detection", "tls")
                blocks = {name: getattr(setting, name) for name in names}
    return TrafficPolicy.model_construct(**blocks)


def _base(mesh: MeshConfig, name: str, service: Service | None = None) -> Any:
    cluster = cluster_pb2.Cluster(
        name=name,
        connect_timeout=pb.duration(mesh.connect_timeout),
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(thresholds=[_unlimited()]),
    )
    if service is not None:
        said = {"host": service.hostname, "name": service.name, "namespace": service.namespace}
        cluster.metadata.filter_metadata["istio"].update({"services": [said]})
    return cluster


def _unlimited() -> Any:
    """No limit unless a DestinationRule sets one (Envoy's own default of 1024 would surprise)."""
    return circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=pb.uint32(_UNLIMITED),
        max_pending_requests=pb.uint32(_UNLIMITED),
        max_requests=pb.uint32(_UNLIMITED),
        max_retries=pb.uint32(_UNLIMITED),
        track_remaining=True,
    )


def _apply_policy(cluster: Any, policy: TrafficPolicy, port: ServicePort) -> None:
    simple = policy.load_balancer.simple if policy.load_balancer else "UNSPECIFIED"
    cluster.lb_policy = _POLICIES[simple]
    pool = policy.connection_pool
    limits = cluster.circuit_breakers.thresholds[0]
    if pool and pool.tcp:
        if pool.tcp.max_connections:
            limits.max_connections.value = pool.tcp.max_connections
        if pool.tcp.connect_timeout:
            cluster.connect_timeout.CopyFrom(pb.duration(pool.tcp.connect_timeout))
    if pool and pool.http:
        if pool.http.http1_max_pending_requests:
            limits.max_pending_requests.value = pool.http.http1_max_pending_requests
        if pool.http.http2_max_requests:
            limits.max_requests.value = pool.http.http2_max_requests
        if pool.http.max_retries:
            limits.max_retries.value = pool.http.max_retries
    _apply_http_options(cluster, pool.http if pool else None, port.is_http2)
    if policy.outlier_detection:
        _apply_outlier_detection(cluster, policy.outlier_detection)


def _apply_http_options(cluster: Any, settings: HTTPSettings | None, http2: bool) -> None:
    """HttpProtocolOptions, only where they differ from Envoy's default (HTTP/1.1, no limits)."""
    common = protocol_pb2.HttpProtocolOptions()
    if settings and settings.idle_timeout:
        common.idle_timeout.CopyFrom(pb.duration(settings.idle_timeout))
    if settings and settings.max_requests_per_connection:
        common.max_requests_per_connection.value = settings.max_requests_per_connection
    if not (http2 or common.ByteSize()):
        return
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if common.ByteSize():
        options.common_http_protocol_options.CopyFrom(common)
    if http2:
        options.explicit_http_config.http2_protocol_options.SetInParent()
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(pb.pack(options))


def _apply_outlier_detection(cluster: Any, settings: OutlierDetection) -> None:
    """Only what is asked for is enforced; ejection by success rate, Envoy's default, is off (as in Istio)."""
    found = outlier_detection_pb2.OutlierDetection(enforcing_success_rate=pb.uint32(0))
    if settings.consecutive_5xx_errors is not None:
        found.consecutive_5xx.value = settings.consecutive_5xx_errors
        found.enforcing_consecutive_5xx.value = 100 if settings.consecutive_5xx_errors else 0
    if settings.consecutive_gateway_errors is not None:
        found.consecutive_gateway_failure.value = settings.consecutive_gateway_errors
        found.enforcing_consecutive_gateway_failure.value = 100 if settings.consecutive_gateway_errors else 0
    if settings.interval:
        found.interval.CopyFrom(pb.duration(settings.interval))
    if settings.base_ejection_time:
        found.base_ejection_time.CopyFrom(pb.duration(settings.base_ejection_time))
    if settings.max_ejection_percent:
        found.max_ejection_percent.value = settings.max_ejection_percent
    cluster.outlier_detection.CopyFrom(found)
    cluster.common_lb_config.healthy_panic_threshold.value = settings.min_health_percent or 0


def _apply_tls(
    cluster: Any,
    settings: ClientTLSSettings | None,
    server_name: str,
    proven: tuple[str, ...],
    mesh: MeshConfig,
    port: ServicePort,
) -> None:
    """The rule's TLS mode; without one, mutual TLS to endpoints with a sidecar and plaintext to the others."""
    http2 = port.is_http2
    if settings is None:
        if not mesh.enable_auto_mtls:
            return
        matched = cluster.transport_socket_matches.add(name="tlsMode-istio")
        matched.match.update({"tlsMode": "istio"})
        matched.transport_socket.CopyFrom(tls.client_socket(server_name, proven, http2=http2))
        other = cluster.transport_socket_matches.add(name="tlsMode-disabled")
        other.match.SetInParent()
        other.transport_socket.CopyFrom(tls.raw_socket())
    elif settings.mode == "ISTIO_MUTUAL":
        names = settings.subject_alt_names or proven
        cluster.transport_socket.CopyFrom(tls.client_socket(settings.sni or server_name, names, http2=http2))
    elif settings.mode == "SIMPLE":
        host = server_name.rpartition("_.")[2]
        cluster.transport_socket.CopyFrom(
            tls.origination_socket(
                settings.sni or host,
                settings.subject_alt_names or (settings.sni or host,),
                verify=not settings.insecure_skip_verify,
                http2=http2,
            )
        )


def inbound(mesh: MeshConfig, app_address: str, port: int, *, http2: bool) -> Any:
    """The app behind the sidecar, at its inside address."""
    cluster = _base(mesh, naming.inbound(port))
    cluster.type = cluster_pb2.Cluster.STATIC
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=pb.address(app_address, port))
    )
    cluster.load_assignment.CopyFrom(
        endpoint_pb2.ClusterLoadAssignment(
            cluster_name=cluster.name,
            endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])],
        )
    )
    _apply_http_options(cluster, None, http2)
    return cluster


def passthrough(mesh: MeshConfig, interception: str) -> Any:
    """Where requests to hosts outside the mesh go: to the address the client had in mind.

    With interception that is the connection's original destination. Without, all there is is the authority
    of the request, so only hosts given as IP:PORT can be reached.
    """
    cluster = _base(mesh, naming.PASSTHROUGH)
    cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    if interception == "NONE":
        cluster.original_dst_lb_config.use_http_header = True
        cluster.original_dst_lb_config.http_header_name = ":authority"
    return cluster


def inbound_passthrough(mesh: MeshConfig) -> Any:
    """Ports the app does not declare, behind iptables: to the original destination, from an address that iptables
    knows and does not catch again (127.0.0.6, as in Istio).
    """
    cluster = _base(mesh, naming.INBOUND_PASSTHROUGH)
    cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    cluster.upstream_bind_config.source_address.CopyFrom(pb.address("127.0.0.6", 0).socket_address)
    return cluster


def black_hole(mesh: MeshConfig) -> Any:
    """A cluster without any endpoint."""
    cluster = _base(mesh, naming.BLACK_HOLE)
    cluster.type = cluster_pb2.Cluster.STATIC
    return cluster
