"""What a DestinationRule's traffic policy makes of a cluster: balancing, limits, outlier detection, TLS.

Source: istio.io, Reference, Destination Rule; Envoy, config.cluster.v3.Cluster.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.common.matcher.v3 import matcher_pb2
from envoy.config.core.v3 import base_pb2, protocol_pb2, proxy_protocol_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.wrappers_pb2 import UInt64Value

from mesh.api.connection_pool import HTTPSettings, OutlierDetection, TCPSettings
from mesh.api.destination_rule import TrafficPolicy
from mesh.api.load_balancing import ConsistentHash, LoadBalancerSettings
from mesh.control.compile import locality, pb, tls
from mesh.control.world import ServicePort

UNLIMITED = 2**32 - 1
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
Options = http_protocol_options_pb2.HttpProtocolOptions
_POLICIES = {
    "UNSPECIFIED": cluster_pb2.Cluster.LEAST_REQUEST,
    "LEAST_CONN": cluster_pb2.Cluster.LEAST_REQUEST,
    "LEAST_REQUEST": cluster_pb2.Cluster.LEAST_REQUEST,
    "ROUND_ROBIN": cluster_pb2.Cluster.ROUND_ROBIN,
    "RANDOM": cluster_pb2.Cluster.RANDOM,
}


def unlimited() -> Any:
    """No limit unless a DestinationRule sets one (Envoy's own default of 1024 would surprise)."""
    return circuit_breaker_pb2.CircuitBreakers.Thresholds(
        max_connections=pb.uint32(UNLIMITED),
        max_pending_requests=pb.uint32(UNLIMITED),
        max_requests=pb.uint32(UNLIMITED),
        max_retries=pb.uint32(UNLIMITED),
        track_remaining=True,
    )


def apply(cluster: Any, policy: TrafficPolicy, port: ServicePort) -> None:
    """Everything but TLS, which also depends on who is behind the service."""
    _balance(cluster, policy.load_balancer or LoadBalancerSettings.model_construct())
    if locality.weighs_localities(policy):
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    limit(cluster, policy)
    if policy.outlier_detection:
        _outlier_detection(cluster, policy.outlier_detection)
    http_options(cluster, policy, is_http2(policy, port))


def limit(cluster: Any, policy: TrafficPolicy) -> None:
    """The connection pool's limits and how its connections are made."""
    _limits(cluster, policy)
    if policy.connection_pool and policy.connection_pool.tcp:
        _tcp(cluster, policy.connection_pool.tcp)


def is_http2(policy: TrafficPolicy, port: ServicePort) -> bool:
    """HTTP/2 to the service: by its port's protocol, or because the rule upgrades to it."""
    http = policy.connection_pool.http if policy.connection_pool else None
    upgrade = bool(http and http.h2_upgrade_policy == "UPGRADE")
    return port.is_http2 or (upgrade and port.is_http)


def _balance(cluster: Any, settings: LoadBalancerSettings) -> None:
    if settings.simple == "PASSTHROUGH":
        cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
        cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
        cluster.ClearField("eds_cluster_config")
        cluster.ClearField("load_assignment")
        return
    if cluster.type == cluster_pb2.Cluster.ORIGINAL_DST:
        return
    cluster.lb_policy = _POLICIES[settings.simple]
    if settings.consistent_hash:
        _ring(cluster, settings.consistent_hash)
    elif slow_start := _slow_start(settings):
        if cluster.lb_policy == cluster_pb2.Cluster.ROUND_ROBIN:
            cluster.round_robin_lb_config.slow_start_config.CopyFrom(slow_start)
        else:
            cluster.least_request_lb_config.slow_start_config.CopyFrom(slow_start)


def _ring(cluster: Any, settings: ConsistentHash) -> None:
    if settings.maglev:
        cluster.lb_policy = cluster_pb2.Cluster.MAGLEV
        cluster.maglev_lb_config.table_size.CopyFrom(UInt64Value(value=settings.maglev.table_size))
        return
    cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
    size = settings.ring_hash.minimum_ring_size if settings.ring_hash else settings.minimum_ring_size
    cluster.ring_hash_lb_config.minimum_ring_size.CopyFrom(UInt64Value(value=size or 1024))


def _slow_start(settings: LoadBalancerSettings) -> Any | None:
    if settings.warmup_duration_secs:
        return cluster_pb2.Cluster.SlowStartConfig(
            slow_start_window=pb.duration(settings.warmup_duration_secs)
        )
    warm = settings.warmup
    if warm is None:
        return None
    result = cluster_pb2.Cluster.SlowStartConfig(slow_start_window=pb.duration(warm.duration))
    result.aggression.default_value = 1.0 if warm.aggression is None else warm.aggression
    # Envoy wants a key for what may be changed at run time; nobody sets this one.
    result.aggression.runtime_key = "mesh.warmup.aggression"
    result.min_weight_percent.value = 10.0 if warm.minimum_percent is None else warm.minimum_percent
    return result


def _limits(cluster: Any, policy: TrafficPolicy) -> None:
    limits = cluster.circuit_breakers.thresholds[0]
    pool = policy.connection_pool
    if pool and pool.tcp and pool.tcp.max_connections:
        limits.max_connections.value = pool.tcp.max_connections
    if pool and pool.http:
        if pool.http.http1_max_pending_requests:
            limits.max_pending_requests.value = pool.http.http1_max_pending_requests
        if pool.http.http2_max_requests:
            limits.max_requests.value = pool.http.http2_max_requests
        if pool.http.max_retries:
            limits.max_retries.value = pool.http.max_retries
    if budget := policy.retry_budget:
        limits.retry_budget.budget_percent.value = budget.percent
        limits.retry_budget.min_retry_concurrency.value = budget.min_retry_concurrency


def _tcp(cluster: Any, settings: TCPSettings) -> None:
    if settings.connect_timeout:
        cluster.connect_timeout.CopyFrom(pb.duration(settings.connect_timeout))
    if keepalive := settings.tcp_keepalive:
        found = cluster.upstream_connection_options.tcp_keepalive
        found.SetInParent()
        if keepalive.probes:
            found.keepalive_probes.value = keepalive.probes
        if keepalive.time:
            found.keepalive_time.value = round(keepalive.time.total_seconds())
        if keepalive.interval:
            found.keepalive_interval.value = round(keepalive.interval.total_seconds())


def http_options(cluster: Any, policy: TrafficPolicy, http2: bool) -> None:
    """HttpProtocolOptions, only where they differ from Envoy's default (HTTP/1.1, no limits)."""
    pool = policy.connection_pool
    http, tcp = (pool.http, pool.tcp) if pool else (None, None)
    options = Options()
    common = _common_options(http, tcp)
    if common.ByteSize():
        options.common_http_protocol_options.CopyFrom(common)
    if policy.outlier_detection and policy.outlier_detection.outlier_detection_http_error_codes:
        options.outlier_detection.error_matcher.CopyFrom(_error_matcher(policy.outlier_detection))
    if http and http.use_client_protocol:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        _http2(options.use_downstream_protocol_config.http2_protocol_options, http)
    elif http2:
        _http2(options.explicit_http_config.http2_protocol_options, http)
    elif options.ByteSize():
        options.explicit_http_config.http_protocol_options.SetInParent()
    if options.ByteSize():
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pb.pack(options))


def _common_options(http: HTTPSettings | None, tcp: TCPSettings | None) -> Any:
    common = protocol_pb2.HttpProtocolOptions()
    idle = http.idle_timeout if http and http.idle_timeout is not None else tcp.idle_timeout if tcp else None
    if idle is not None:
        common.idle_timeout.CopyFrom(pb.duration(idle))
    if http and http.max_requests_per_connection:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp and tcp.max_connection_duration:
        common.max_connection_duration.CopyFrom(pb.duration(tcp.max_connection_duration))
    return common


def _http2(options: Any, settings: HTTPSettings | None) -> None:
    options.SetInParent()
    if settings and settings.max_concurrent_streams:
        options.max_concurrent_streams.value = settings.max_concurrent_streams
    if settings and settings.http2_keep_alive:
        options.connection_keepalive.interval.CopyFrom(pb.duration(settings.http2_keep_alive.interval))
        options.connection_keepalive.timeout.CopyFrom(pb.duration(settings.http2_keep_alive.timeout))


def _error_matcher(settings: OutlierDetection) -> Any:
    """Which answers count as errors, instead of all 5xx."""
    rules = []
    for code in settings.outlier_detection_http_error_codes:
        header = route_components_pb2.HeaderMatcher(name=":status", string_match=pb.exact(str(code)))
        match = matcher_pb2.HttpHeadersMatch(headers=[header])
        rules.append(matcher_pb2.MatchPredicate(http_response_headers_match=match))
    if len(rules) == 1:
        return rules[0]
    return matcher_pb2.MatchPredicate(or_match=matcher_pb2.MatchPredicate.MatchSet(rules=rules))


def _outlier_detection(cluster: Any, settings: OutlierDetection) -> None:
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
    if settings.split_external_local_origin_errors:
        found.split_external_local_origin_errors = True
        found.enforcing_local_origin_success_rate.value = 0
        if settings.consecutive_local_origin_failures:
            found.consecutive_local_origin_failure.value = settings.consecutive_local_origin_failures
            found.enforcing_consecutive_local_origin_failure.value = 100
    cluster.outlier_detection.CopyFrom(found)
    cluster.common_lb_config.healthy_panic_threshold.value = settings.min_health_percent or 0


def apply_proxy_protocol(cluster: Any, policy: TrafficPolicy) -> None:
    """Put the PROXY protocol header in front of whatever each connection speaks."""
    if policy.proxy_protocol is None:
        return
    version = proxy_protocol_pb2.ProxyProtocolConfig.Version.Value(policy.proxy_protocol.version)
    sockets = [match.transport_socket for match in cluster.transport_socket_matches]
    if not sockets:
        if not cluster.HasField("transport_socket"):
            cluster.transport_socket.CopyFrom(tls.raw_socket())
        sockets = [cluster.transport_socket]
    for socket in sockets:
        wrapped = upstream_proxy_protocol_pb2.ProxyProtocolUpstreamTransport(transport_socket=socket)
        wrapped.config.version = version
        socket.CopyFrom(
            base_pb2.TransportSocket(
                name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=pb.pack(wrapped)
            )
        )
