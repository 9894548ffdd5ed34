"""CDS and EDS: a `Cluster` becomes a `ClusterSpec`, a `ClusterLoadAssignment` its endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any as AnyType

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2

from mesh.proxy.cluster_spec import ClusterSpec, EndpointSpec
from mesh.proxy.config import ConfigError, balancing, values
from mesh.proxy.config.fields import unpack
from mesh.proxy.identity import Secrets

_TRANSPORT_MATCH = "envoy.transport_socket_match"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PROXY_PROTOCOL = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
_HEALTHY = ("UNKNOWN", "HEALTHY", "DEGRADED")
_KINDS = ("EDS", "STATIC", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST")


def cluster(message: cluster_pb2.Cluster, secrets: Secrets) -> ClusterSpec:
    """Translate a checked Cluster. Raises ConfigError."""
    kind = cluster_pb2.Cluster.DiscoveryType.Name(message.type)
    if kind not in _KINDS:
        raise ConfigError(f"type: {kind} is not supported")
    if kind == "ORIGINAL_DST":
        _check_original_destination(message)
    policy, make = balancing.balancer(message, kind)
    http_options = _http_options(message)
    options = http_options.common_http_protocol_options if http_options is not None else None
    requests = options.max_requests_per_connection.value if options else 0
    idle = values.seconds(options.idle_timeout) if options and options.HasField("idle_timeout") else 3600.0
    panic = message.common_lb_config.healthy_panic_threshold
    socket, proxy_protocol = _proxy_protocol(message.transport_socket)
    tls = values.upstream_tls(socket, secrets, "transport_socket")
    return ClusterSpec(
        message.name,
        kind=kind,
        policy=policy,
        service_name=message.eds_cluster_config.service_name,
        endpoints=assignment(message.load_assignment) if message.HasField("load_assignment") else (),
        http2=_is_http2(message),
        connect_timeout=values.seconds(message.connect_timeout) or 5.0,
        idle_timeout=idle,
        max_requests_per_connection=requests or message.max_requests_per_connection.value,
        breaker=_breaker(message),
        tls=tls,
        tls_matches=[
            (
                _plain(match.match),
                values.upstream_tls(match.transport_socket, secrets, f"transport_socket_matches[{number}]"),
            )
            for number, match in enumerate(message.transport_socket_matches)
        ],
        panic_threshold=panic.value if message.common_lb_config.HasField("healthy_panic_threshold") else 50.0,
        outliers=balancing.outliers(message, http_options),
        make_balancer=make,
        slow_start=balancing.slow_start(message),
        locality_weighted=message.common_lb_config.HasField("locality_weighted_lb_config"),
        retry_budget=balancing.retry_budget(message),
        keepalive=_keepalive(message),
        max_connection_seconds=values.seconds(options.max_connection_duration) if options else 0.0,
        proxy_protocol=proxy_protocol,
        service=_service(message),
        by_authority=message.original_dst_lb_config.use_http_header,
        source=_source(message),
    )


def _check_original_destination(message: cluster_pb2.Cluster) -> None:
    """ORIGINAL_DST: the connection's destination; without interception the request's authority says it."""
    config = message.original_dst_lb_config
    if config.use_http_header and config.http_header_name.lower() not in (":authority", "host"):
        raise ConfigError("original_dst_lb_config.http_header_name: only :authority is supported")


def _proxy_protocol(socket: AnyType) -> tuple[AnyType, int]:
    """The transport socket without the PROXY protocol around it, and that protocol's version (0: none)."""
    if not socket.HasField("typed_config") or socket.typed_config.TypeName() != _PROXY_PROTOCOL:
        return socket, 0
    config: AnyType = unpack(socket.typed_config, "transport_socket")
    return config.transport_socket, 2 if config.config.version == 1 else 1


def _keepalive(message: cluster_pb2.Cluster) -> tuple[int, int, int] | None:
    """TCP keep-alive: probes, seconds until the first, seconds between them; 0 is the system's choice."""
    if not message.upstream_connection_options.HasField("tcp_keepalive"):
        return None
    found = message.upstream_connection_options.tcp_keepalive
    return (found.keepalive_probes.value, found.keepalive_time.value, found.keepalive_interval.value)


def _source(message: cluster_pb2.Cluster) -> tuple[str, int] | None:
    """The own address of connections to this cluster, where it says one."""
    if not message.HasField("upstream_bind_config"):
        return None
    source = message.upstream_bind_config.source_address
    return (source.address, source.port_value)


def assignment(message: endpoint_pb2.ClusterLoadAssignment) -> tuple[EndpointSpec, ...]:
    """The endpoints of a ClusterLoadAssignment."""
    found = []
    for locality in message.endpoints:
        for number, entry in enumerate(locality.lb_endpoints):
            where = f"endpoints[].lb_endpoints[{number}]"
            status = health_check_pb2.HealthStatus.Name(entry.health_status)
            metadata = entry.metadata.filter_metadata
            found.append(
                EndpointSpec(
                    values.address(entry.endpoint.address, f"{where}.endpoint.address"),
                    entry.load_balancing_weight.value or 1,
                    healthy=status in _HEALTHY,
                    priority=locality.priority,
                    match=_plain(metadata[_TRANSPORT_MATCH]) if _TRANSPORT_MATCH in metadata else None,
                    locality=(locality.locality.region, locality.locality.zone, locality.locality.sub_zone),
                    locality_weight=locality.load_balancing_weight.value or 1,
                    workload=_plain(metadata["istio"]).get("workload", "") if "istio" in metadata else "",
                )
            )
    return tuple(found)


def _plain(struct: AnyType) -> Mapping[str, str]:
    """The text fields of a Struct."""
    return {key: value.string_value for key, value in struct.fields.items()}


def _http_options(message: AnyType) -> AnyType:
    """Envoy's HttpProtocolOptions of a cluster, or None."""
    if _HTTP_OPTIONS not in message.typed_extension_protocol_options:
        return None
    options: AnyType = unpack(
        message.typed_extension_protocol_options[_HTTP_OPTIONS], "typed_extension_protocol_options"
    )
    return options


def _is_http2(message: AnyType) -> bool:
    if _HTTP_OPTIONS not in message.typed_extension_protocol_options:
        return False
    options: AnyType = unpack(message.typed_extension_protocol_options[_HTTP_OPTIONS], "")
    return bool(options.explicit_http_config.HasField("http2_protocol_options"))


def _breaker(message: AnyType) -> tuple[int, int, int, int]:
    for thresholds in message.circuit_breakers.thresholds:
        if thresholds.priority == 0:
            return (
                _limit(thresholds, "max_connections", 1024),
                _limit(thresholds, "max_pending_requests", 1024),
                _limit(thresholds, "max_requests", 1024),
                _limit(thresholds, "max_retries", 3),
            )
    return (1024, 1024, 1024, 3)


def _limit(message: AnyType, field: str, default: int) -> int:
    return int(getattr(message, field).value) if message.HasField(field) else default


def _service(message: AnyType) -> tuple[str, str, str]:
    """(host, name, namespace) for metric labels: from Istio's metadata, else from the cluster's name."""
    metadata = message.metadata.filter_metadata
    if "istio" in metadata and "services" in metadata["istio"].fields:
        for value in metadata["istio"].fields["services"].list_value.values:
            service = _plain(value.struct_value)
            return (service.get("host", ""), service.get("name", ""), service.get("namespace", ""))
    parts = message.name.split("|")
    host = parts[3] if len(parts) == 4 else ""
    if not host:
        return ("", "", "")
    labels = host.split(".")
    in_cluster = len(labels) > 2 and labels[2] == "svc"
    return (host, labels[0] if in_cluster else host, labels[1] if in_cluster else "")
