"""LDS: a `Listener` becomes a `ListenerSpec` with its filter chains."""

from __future__ import annotations

from typing import Any as AnyType

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.filters.listener.http_inspector.v3 import http_inspector_pb2
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from mesh.proxy.config import ConfigError, access, values
from mesh.proxy.config.fields import unpack
from mesh.proxy.config.filters import chain_filter
from mesh.proxy.config.routes import route_table
from mesh.proxy.filters.rbac import Rules
from mesh.proxy.hcm import AccessLogSpec, HttpSpec, Settings
from mesh.proxy.identity import Secrets
from mesh.proxy.listener_spec import INSPECT_SECONDS, ChainMatch, ChainSpec, ListenerSpec
from mesh.proxy.tcp import TcpSpec

_Hcm = hcm_pb2.HttpConnectionManager
_LISTENER_FILTERS = (
    tls_inspector_pb2.TlsInspector,
    http_inspector_pb2.HttpInspector,
    original_dst_pb2.OriginalDst,
)
_PEER_CLAIMS = {"INBOUND": "hear", "OUTBOUND": "drop", "UNSPECIFIED": "pass"}


def listener(message: listener_pb2.Listener, secrets: Secrets) -> ListenerSpec:
    """Translate a checked Listener. Raises ConfigError."""
    direction = base_pb2.TrafficDirection.Name(message.traffic_direction)
    inspect = False
    redirected = message.use_original_dst.value
    for number, listener_filter in enumerate(message.listener_filters):
        config = unpack(listener_filter.typed_config, f"listener_filters[{number}]")
        inspect = inspect or isinstance(config, tls_inspector_pb2.TlsInspector)
        redirected = redirected or isinstance(config, original_dst_pb2.OriginalDst)
        if not isinstance(config, _LISTENER_FILTERS):
            raise ConfigError(f"listener_filters[{number}]: {listener_filter.name} is not supported")
    chains = [
        _chain(chain, direction, secrets, f"filter_chains[{number}]")
        for number, chain in enumerate(message.filter_chains)
    ]
    default = None
    if message.HasField("default_filter_chain"):
        default = _chain(message.default_filter_chain, direction, secrets, "default_filter_chain")
    if not chains and default is None:
        raise ConfigError("filter_chains: at least one is needed")
    return ListenerSpec(
        message.name,
        values.address(message.address, "address"),
        chains,
        default_chain=default,
        inspect_tls=inspect,
        inspect_seconds=values.seconds(message.listener_filters_timeout)
        if message.HasField("listener_filters_timeout")
        else INSPECT_SECONDS,
        waits_for_hello=not message.continue_on_listener_filters_timeout,
        direction=direction,
        bound=message.bind_to_port.value if message.HasField("bind_to_port") else True,
        original_destination=redirected,
        hands_off=message.use_original_dst.value,
    )


def _chain(chain: AnyType, direction: str, secrets: Secrets, where: str) -> ChainSpec:
    tls = None
    if chain.HasField("transport_socket"):
        tls = values.downstream_tls(chain.transport_socket, secrets, f"{where}.transport_socket")
    match = chain.filter_chain_match
    configs = [unpack(each.typed_config, f"{where}.filters") for each in chain.filters]
    if not configs:
        raise ConfigError(f"{where}.filters: at least one is needed")
    *before, last = configs
    at = f"{where}.filters[{len(before)}]"
    rules = [_network_rules(config, f"{where}.filters[{number}]") for number, config in enumerate(before)]
    http = tcp = None
    if isinstance(last, _Hcm) and not rules:
        http = _http(last, direction, at)
    elif isinstance(last, tcp_proxy_pb2.TcpProxy):
        tcp = _tcp(last, rules, at)
    else:
        raise ConfigError(f"{at}: {last.DESCRIPTOR.full_name} is not supported here")
    return ChainSpec(
        chain.name,
        ChainMatch(
            match.transport_protocol,
            match.application_protocols,
            match.server_names,
            match.destination_port.value,
            [
                access.network(each, f"{where}.filter_chain_match.prefix_ranges")
                for each in match.prefix_ranges
            ],
        ),
        tls,
        http,
        tcp,
        door=match.SerializeToString(deterministic=True)
        + chain.transport_socket.SerializeToString(deterministic=True),
    )


def _network_rules(config: AnyType, where: str) -> Rules:
    if not isinstance(config, network_rbac_pb2.RBAC):
        raise ConfigError(f"{where}: {config.DESCRIPTOR.full_name} is not supported")
    return access.rules(config.rules, f"{where}.rules")


def _tcp(config: tcp_proxy_pb2.TcpProxy, rules: list[Rules], where: str) -> TcpSpec:
    if config.WhichOneof("cluster_specifier") == "weighted_clusters":
        clusters = [(c.name, c.weight) for c in config.weighted_clusters.clusters]
    else:
        clusters = [(config.cluster, 1)]
    if sum(weight for _, weight in clusters) <= 0:
        raise ConfigError(f"{where}.weighted_clusters: the weights' sum must be positive")
    idle = values.seconds(config.idle_timeout) if config.HasField("idle_timeout") else 3600.0
    logs = [_access_log(log, f"{where}.access_log", is_tcp=True) for log in config.access_log]
    return TcpSpec(config.stat_prefix, clusters, idle, rules, logs)


def _http(config: AnyType, direction: str, where: str) -> HttpSpec:
    filters = []
    for number, message in enumerate(config.http_filters):
        found = chain_filter(message, f"{where}.http_filters[{number}]")
        if found is not None:
            filters.append(found)
        elif number != len(config.http_filters) - 1:
            raise ConfigError(f"{where}.http_filters[{number}]: the router must be the last filter")
    for upgrade in config.upgrade_configs:
        if not upgrade.HasField("enabled") or upgrade.enabled.value:
            raise ConfigError(f"{where}.upgrade_configs: {upgrade.upgrade_type} is not supported")
    if _Hcm.CodecType.Name(config.codec_type) == "HTTP2":
        raise ConfigError(f"{where}.codec_type: HTTP2 is not supported")
    kind = config.WhichOneof("route_specifier")
    if kind not in ("rds", "route_config"):
        raise ConfigError(f"{where}: one of rds, route_config is needed")
    return HttpSpec(
        config.stat_prefix,
        _settings(config, direction),
        filters,
        route_name=config.rds.route_config_name if kind == "rds" else "",
        routes=route_table(config.route_config) if kind == "route_config" else None,
        direction=direction,
        access_logs=[_access_log(log, f"{where}.access_log") for log in config.access_log],
    )


_ESCAPED_SLASHES = {
    "IMPLEMENTATION_SPECIFIC_DEFAULT": "keep",
    "KEEP_UNCHANGED": "keep",
    "REJECT_REQUEST": "reject",
    "UNESCAPE_AND_REDIRECT": "unescape",
    "UNESCAPE_AND_FORWARD": "unescape",
}
_SERVER_HEADER = {"OVERWRITE": "overwrite", "APPEND_IF_ABSENT": "add", "PASS_THROUGH": "pass"}
_CERTIFICATE_HEADER = {
    "SANITIZE": "sanitize",
    "FORWARD_ONLY": "forward",
    "APPEND_FORWARD": "append",
    "SANITIZE_SET": "set",
    "ALWAYS_FORWARD_ONLY": "pass",
}


def _settings(config: AnyType, direction: str) -> Settings:
    details = config.set_current_client_cert_details
    named = {"subject": details.subject.value, "uri": details.uri, "dns": details.dns}
    common = config.common_http_protocol_options
    use_remote_address = config.use_remote_address.value
    return Settings(
        use_remote_address=use_remote_address,
        trusted_hops=config.xff_num_trusted_hops,
        generate_request_id=config.generate_request_id.value
        if config.HasField("generate_request_id")
        else True,
        keep_request_id=config.preserve_external_request_id,
        normalize_path=config.normalize_path.value,
        merge_slashes=config.merge_slashes,
        escaped_slashes=_ESCAPED_SLASHES[
            _Hcm.PathWithEscapedSlashesAction.Name(config.path_with_escaped_slashes_action)
        ],
        accept_http10=config.http_protocol_options.accept_http_10,
        server_name=config.server_name or "envoy",
        server_header=_SERVER_HEADER[
            _Hcm.ServerHeaderTransformation.Name(config.server_header_transformation)
        ],
        certificate_header=_CERTIFICATE_HEADER[
            _Hcm.ForwardClientCertDetails.Name(config.forward_client_cert_details)
        ],
        certificate_details=frozenset(name for name, wanted in named.items() if wanted),
        max_head=(config.max_request_headers_kb.value or 60) * 1024,
        max_requests=common.max_requests_per_connection.value,
        idle_timeout=values.seconds(common.idle_timeout) if common.HasField("idle_timeout") else 3600.0,
        stream_idle_timeout=values.seconds(config.stream_idle_timeout)
        if config.HasField("stream_idle_timeout")
        else 300.0,
        peer_claims="drop" if use_remote_address else _PEER_CLAIMS[direction],
    )


def _access_log(message: AnyType, where: str, is_tcp: bool = False) -> AccessLogSpec:
    config = unpack(message.typed_config, where)
    wanted = als_pb2.TcpGrpcAccessLogConfig if is_tcp else als_pb2.HttpGrpcAccessLogConfig
    if not isinstance(config, wanted):
        raise ConfigError(f"{where}: {message.name} is not supported, only {wanted.DESCRIPTOR.full_name}")
    common = config.common_config
    cluster = common.grpc_service.envoy_grpc.cluster_name
    if not cluster:
        raise ConfigError(f"{where}.common_config.grpc_service: only envoy_grpc is supported")
    interval = (
        values.seconds(common.buffer_flush_interval) if common.HasField("buffer_flush_interval") else 1.0
    )
    size = common.buffer_size_bytes.value if common.HasField("buffer_size_bytes") else 16384
    headers = () if is_tcp else config.additional_request_headers_to_log
    return AccessLogSpec(
        common.log_name, cluster, interval, size, [name.lower().encode() for name in headers]
    )
