"""The fields of Envoy's API that this proxy honours, and the check that a resource has no others.

`HONOURED` is the whole list; a field that is set and not in it makes a NACK that names it. `HARMLESS` are
fields that may be set because they change nothing here, each for the reason beside it.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.geoip.v3 import geoip_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.geoip_providers.maxmind.v3 import maxmind_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import symbol_database
from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from xds.type.v3 import typed_struct_pb2

from mesh.proxy.config import ConfigError

KNOWN_FILES = (
    als_pb2,
    cluster_pb2,
    common_fault_pb2,
    cors_pb2,
    geoip_pb2,
    header_mutation_pb2,
    maxmind_pb2,
    typed_struct_pb2,
    endpoint_pb2,
    fault_pb2,
    http_connection_manager_pb2,
    http_inspector_pb2,
    http_protocol_options_pb2,
    listener_pb2,
    network_rbac_pb2,
    original_dst_pb2,
    previous_hosts_pb2,
    previous_priorities_config_pb2,
    upstream_proxy_protocol_pb2,
    raw_buffer_pb2,
    rbac_pb2,
    route_pb2,
    router_pb2,
    tcp_proxy_pb2,
    tls_inspector_pb2,
    tls_pb2,
)
"""Imported so that protobuf knows the types that may stand in an `Any`."""

_L = "envoy.config.listener.v3."
_C = "envoy.config.core.v3."
_R = "envoy.config.route.v3."
_K = "envoy.config.cluster.v3."
_E = "envoy.config.endpoint.v3."
_H = "envoy.extensions.filters.network.http_connection_manager.v3."
_T = "envoy.extensions.transport_sockets.tls.v3."
_M = "envoy.type.matcher.v3."
_A = "envoy.config.rbac.v3."
_P = "envoy.extensions.geoip_providers."

HONOURED: dict[str, str] = {
    # listeners
    _L + "Listener": "name address filter_chains default_filter_chain listener_filters traffic_direction"
    " listener_filters_timeout continue_on_listener_filters_timeout use_original_dst bind_to_port",
    _L + "FilterChain": "filter_chain_match filters transport_socket name",
    _L + "FilterChainMatch": "transport_protocol application_protocols server_names destination_port"
    " prefix_ranges",
    _L + "Filter": "name typed_config",
    _L + "ListenerFilter": "name typed_config",
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector": "",
    "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": "",
    "envoy.extensions.filters.listener.original_dst.v3.OriginalDst": "",
    _H + "HttpConnectionManager": "stat_prefix rds route_config http_filters access_log use_remote_address"
    " xff_num_trusted_hops generate_request_id preserve_external_request_id normalize_path merge_slashes"
    " path_with_escaped_slashes_action http_protocol_options server_name server_header_transformation"
    " forward_client_cert_details set_current_client_cert_details max_request_headers_kb"
    " common_http_protocol_options stream_idle_timeout codec_type upgrade_configs",
    _H + "HttpConnectionManager.SetCurrentClientCertDetails": "subject uri dns",
    _H + "HttpConnectionManager.UpgradeConfig": "upgrade_type enabled",
    _H + "Rds": "route_config_name config_source",
    _H + "HttpFilter": "name typed_config",
    _C + "Http1ProtocolOptions": "accept_http_10 allow_absolute_url",
    _C + "HttpProtocolOptions": "idle_timeout max_requests_per_connection max_connection_duration",
    "envoy.extensions.filters.http.router.v3.Router": "",
    "envoy.extensions.filters.http.rbac.v3.RBAC": "rules rules_stat_prefix",
    "envoy.extensions.filters.http.rbac.v3.RBACPerRoute": "rbac",
    "envoy.extensions.filters.http.fault.v3.HTTPFault": "delay abort headers",
    "envoy.extensions.filters.http.fault.v3.FaultAbort": "http_status grpc_status percentage",
    "envoy.extensions.filters.common.fault.v3.FaultDelay": "fixed_delay percentage",
    "envoy.extensions.filters.http.cors.v3.Cors": "",
    "envoy.extensions.filters.http.cors.v3.CorsPolicy": "allow_origin_string_match allow_methods allow_headers"
    " expose_headers max_age allow_credentials forward_not_matching_preflights",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation": "mutations",
    "envoy.extensions.filters.http.header_mutation.v3.Mutations": "request_mutations",
    "envoy.config.common.mutation_rules.v3.HeaderMutation": "remove",
    "envoy.extensions.filters.http.geoip.v3.Geoip": "provider",
    "xds.type.v3.TypedStruct": "type_url value",
    _C + "TypedExtensionConfig": "name typed_config",
    _P + "maxmind.v3.MaxMindConfig": "city_db_path common_provider_config",
    _P + "common.v3.CommonGeoipProviderConfig": "geo_field_keys",
    _P + "common.v3.CommonGeoipProviderConfig.GeolocationFieldKeys": "country region city",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": "stat_prefix cluster weighted_clusters"
    " idle_timeout access_log",
    "envoy.extensions.filters.network.rbac.v3.RBAC": "rules stat_prefix",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster": "clusters",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight": "name weight",
    "envoy.config.accesslog.v3.AccessLog": "name typed_config",
    "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig": "common_config"
    " additional_request_headers_to_log",
    "envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig": "log_name grpc_service"
    " buffer_flush_interval buffer_size_bytes transport_api_version",
    "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig": "common_config",
    # access rules
    _A + "RBAC": "action policies",
    _A + "Policy": "permissions principals",
    _A + "Permission": "any header and_rules or_rules not_rule url_path destination_port destination_ip"
    " destination_port_range requested_server_name",
    _A + "Permission.Set": "rules",
    _A + "Principal": "any authenticated and_ids or_ids not_id header url_path source_ip direct_remote_ip"
    " remote_ip filter_state",
    _A + "Principal.Set": "ids",
    _A + "Principal.Authenticated": "principal_name",
    _M + "FilterStateMatcher": "key string_match",
    _C + "CidrRange": "address_prefix prefix_len",
    "envoy.type.v3.Int32Range": "start end",
    "envoy.type.v3.Int64Range": "start end",
    # TLS
    _C + "TransportSocket": "name typed_config",
    _T + "DownstreamTlsContext": "common_tls_context require_client_certificate",
    _T + "UpstreamTlsContext": "common_tls_context sni",
    _T + "CommonTlsContext": "alpn_protocols tls_params tls_certificate_sds_secret_configs"
    " validation_context_sds_secret_config combined_validation_context validation_context",
    _T + "CommonTlsContext.CombinedCertificateValidationContext": "default_validation_context"
    " validation_context_sds_secret_config",
    _T + "CertificateValidationContext": "match_typed_subject_alt_names match_subject_alt_names",
    _T + "SubjectAltNameMatcher": "san_type matcher",
    _T + "SdsSecretConfig": "name sds_config",
    _T + "TlsParameters": "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites",
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer": "",
    # routes
    _R + "RouteConfiguration": "name virtual_hosts request_headers_to_add request_headers_to_remove"
    " response_headers_to_add response_headers_to_remove ignore_port_in_host_matching",
    _R + "VirtualHost": "name domains routes require_tls request_headers_to_add request_headers_to_remove"
    " response_headers_to_add response_headers_to_remove retry_policy include_request_attempt_count"
    " typed_per_filter_config",
    _R + "Route": "name match route redirect direct_response request_headers_to_add"
    " request_headers_to_remove response_headers_to_add response_headers_to_remove typed_per_filter_config",
    _R + "RouteMatch": "prefix path safe_regex path_separated_prefix headers query_parameters case_sensitive",
    _R + "HeaderMatcher": "name string_match exact_match prefix_match suffix_match contains_match"
    " safe_regex_match present_match range_match invert_match treat_missing_header_as_empty",
    _R + "QueryParameterMatcher": "name string_match present_match",
    _R + "RouteAction": "cluster weighted_clusters timeout retry_policy prefix_rewrite regex_rewrite"
    " host_rewrite_literal cluster_not_found_response_code request_mirror_policies hash_policy",
    _R + "RouteAction.HashPolicy": "header cookie connection_properties query_parameter terminal",
    _R + "RouteAction.HashPolicy.Header": "header_name",
    _R + "RouteAction.HashPolicy.Cookie": "name ttl path attributes",
    _R + "RouteAction.HashPolicy.CookieAttribute": "name value",
    _R + "RouteAction.HashPolicy.ConnectionProperties": "source_ip",
    _R + "RouteAction.HashPolicy.QueryParameter": "name",
    _R + "RouteAction.RequestMirrorPolicy": "cluster runtime_fraction",
    _C + "RuntimeFractionalPercent": "default_value",
    _R + "WeightedCluster": "clusters use_hash_policy",
    _R + "WeightedCluster.ClusterWeight": "name weight request_headers_to_add request_headers_to_remove"
    " response_headers_to_add response_headers_to_remove host_rewrite_literal",
    _R + "RedirectAction": "host_redirect port_redirect path_redirect prefix_rewrite https_redirect"
    " scheme_redirect response_code strip_query",
    _R + "DirectResponseAction": "status body",
    _R + "RetryPolicy": "retry_on num_retries per_try_timeout retriable_status_codes retry_back_off"
    " retriable_headers retry_host_predicate host_selection_retry_max_attempts retry_priority",
    _R + "RetryPolicy.RetryPriority": "name typed_config",
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig": "update_frequency",
    _R + "RetryPolicy.RetryBackOff": "base_interval max_interval",
    _R + "RetryPolicy.RetryHostPredicate": "name typed_config",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate": "",
    _C + "HeaderValueOption": "header append_action keep_empty_value",
    _C + "HeaderValue": "key value",
    _C + "DataSource": "inline_string inline_bytes",
    _M + "StringMatcher": "exact prefix suffix contains safe_regex ignore_case",
    _M + "RegexMatcher": "regex google_re2",
    _M + "RegexMatchAndSubstitute": "pattern substitution",
    _M + "PathMatcher": "path",
    "envoy.type.v3.Percent": "value",
    "envoy.type.v3.FractionalPercent": "numerator denominator",
    # clusters and endpoints
    _K + "Cluster": "name type eds_cluster_config connect_timeout lb_policy load_assignment circuit_breakers"
    " transport_socket transport_socket_matches metadata typed_extension_protocol_options common_lb_config"
    " outlier_detection max_requests_per_connection ring_hash_lb_config maglev_lb_config"
    " round_robin_lb_config least_request_lb_config upstream_connection_options original_dst_lb_config"
    " upstream_bind_config",
    _C + "BindConfig": "source_address",
    _K + "Cluster.OriginalDstLbConfig": "use_http_header http_header_name",
    _K + "Cluster.EdsClusterConfig": "eds_config service_name",
    _K + "Cluster.TransportSocketMatch": "name match transport_socket",
    _K + "Cluster.CommonLbConfig": "healthy_panic_threshold locality_weighted_lb_config",
    _K + "CircuitBreakers": "thresholds",
    _K + "CircuitBreakers.Thresholds": "max_connections max_pending_requests max_requests max_retries"
    " retry_budget",
    _K + "CircuitBreakers.Thresholds.RetryBudget": "budget_percent min_retry_concurrency",
    _K + "Cluster.RingHashLbConfig": "minimum_ring_size",
    _K + "Cluster.MaglevLbConfig": "table_size",
    _K + "Cluster.RoundRobinLbConfig": "slow_start_config",
    _K + "Cluster.LeastRequestLbConfig": "slow_start_config choice_count",
    _K + "Cluster.SlowStartConfig": "slow_start_window aggression min_weight_percent",
    _K + "Cluster.CommonLbConfig.LocalityWeightedLbConfig": "",
    _K + "UpstreamConnectionOptions": "tcp_keepalive",
    _C + "RuntimeDouble": "default_value",
    "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport": "config"
    " transport_socket",
    _C + "ProxyProtocolConfig": "version",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig": "http_protocol_options"
    " http2_protocol_options",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.OutlierDetection": "error_matcher",
    "envoy.config.common.matcher.v3.MatchPredicate": "or_match http_response_headers_match",
    "envoy.config.common.matcher.v3.MatchPredicate.MatchSet": "rules",
    "envoy.config.common.matcher.v3.HttpHeadersMatch": "headers",
    _K + "OutlierDetection": "consecutive_5xx consecutive_gateway_failure base_ejection_time"
    " max_ejection_percent enforcing_consecutive_gateway_failure enforcing_consecutive_5xx"
    " split_external_local_origin_errors consecutive_local_origin_failure"
    " enforcing_consecutive_local_origin_failure",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": "common_http_protocol_options"
    " explicit_http_config use_downstream_protocol_config outlier_detection",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig": "http_protocol_options"
    " http2_protocol_options",
    _E + "ClusterLoadAssignment": "cluster_name endpoints",
    _E + "LocalityLbEndpoints": "lb_endpoints priority locality load_balancing_weight",
    _E + "LbEndpoint": "endpoint health_status metadata load_balancing_weight",
    _E + "Endpoint": "address",
    _C + "Address": "socket_address",
    _C + "SocketAddress": "address port_value protocol",
}

HARMLESS: dict[str, str] = {
    # config sources name the one ADS stream, or the Unix socket for Envoy: here both are this process
    _H + "Rds": "config_source",
    # statistics' names, and hints for tools
    _L + "Listener": "stat_prefix metadata access_log per_connection_buffer_limit_bytes"
    " connection_balance_config",
    _L + "FilterChain": "metadata transport_socket_connect_timeout",
    _R + "Route": "metadata decorator stat_prefix",
    _C + "RuntimeDouble": "runtime_key",
    _R + "RouteConfiguration": "validate_clusters max_direct_response_body_size_bytes metadata",
    _R + "RouteMatch": "",
    # we send no traces yet, so there is nothing to sample
    _H + "HttpConnectionManager": "tracing internal_address_config always_set_request_id_in_response"
    " delayed_close_timeout drain_timeout",
    # mirrored requests are never traced
    _R + "RouteAction.RequestMirrorPolicy": "trace_sampled",
    # gRPC's own timeout header is for HTTP/2 routes
    _R + "RouteAction": "max_grpc_timeout max_stream_duration",
    _K + "Cluster": "alt_stat_name per_connection_buffer_limit_bytes"
    " dns_lookup_family dns_refresh_rate respect_dns_ttl ignore_health_on_host_removal filters"
    " track_cluster_stats",
    # statistics only
    _K + "CircuitBreakers.Thresholds": "track_remaining",
    _K + "OutlierDetection": "interval enforcing_success_rate enforcing_failure_percentage"
    " enforcing_local_origin_success_rate",
    _K + "Cluster.CommonLbConfig": "close_connections_on_host_set_change",
    _C + "HttpProtocolOptions": "headers_with_underscores_action",
    "envoy.extensions.filters.http.router.v3.Router": "start_child_span suppress_envoy_headers",
    _T + "CommonTlsContext": "",
    _L + "ListenerFilter": "filter_disabled",
    # what we do not know we refuse, optional or not
    _H + "HttpFilter": "is_optional",
}

_LEAVES = frozenset(
    (
        _C + "ConfigSource",
        _C + "Metadata",
        _C + "GrpcService",
        _C + "Locality",
        _C + "Http2ProtocolOptions",
        _C + "TcpKeepalive",
        _H + "HttpConnectionManager.Tracing",
    )
)
"""Messages that are read as a whole elsewhere, or say nothing to this proxy."""

_KNOWN = {
    name: frozenset(HONOURED.get(name, "").split()) | frozenset(HARMLESS.get(name, "").split())
    for name in (*HONOURED, *HARMLESS)
}


def check(message: Message, path: str = "") -> None:
    """Raise ConfigError, naming the field, if `message` has anything this proxy does not do."""
    name = message.DESCRIPTOR.full_name
    if name in _LEAVES or (name.startswith("google.protobuf.") and name != "google.protobuf.Any"):
        return
    if isinstance(message, Any):
        check(unpack(message, path), path)
        return
    known = _KNOWN.get(name)
    if known is None:
        raise ConfigError(f"{path or name}: {name} is not supported")
    for field, value in message.ListFields():
        where = f"{path}.{field.name}" if path else field.name
        if field.name not in known:
            raise ConfigError(f"{where}: this field of {name} is not supported")
        _check_value(field, value, where)


def _check_value(field: FieldDescriptor, value: object, where: str) -> None:
    if field.message_type is None:
        return
    if field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is not None:
            for key, entry in value.items():  # type: ignore[attr-defined]
                check(entry, f"{where}[{key}]")
    elif field.is_repeated:
        for number, entry in enumerate(value):  # type: ignore[arg-type]
            check(entry, f"{where}[{number}]")
    else:
        check(value, where)  # type: ignore[arg-type]


def unpack(any_message: Any, path: str) -> Message:
    """The message inside an Any. Raises ConfigError for a type this process does not know."""
    name = any_message.TypeName()
    try:
        message: Message = symbol_database.Default().GetSymbol(name)()
        message.ParseFromString(any_message.value)
    except KeyError:
        raise ConfigError(f"{path}: type {name} is not supported") from None
    except DecodeError as error:
        raise ConfigError(f"{path}: cannot be read as {name}: {error}") from error
    return message
