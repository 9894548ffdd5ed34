"""Access logs: every request is told to telemetry by Envoy's gRPC access log service."""

from __future__ import annotations

from typing import Any, Literal

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import grpc_service_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2

from mesh.control.compile import pb
from mesh.control.compile.naming import outbound
from mesh.control.compile.telemetry import log_filter
from mesh.control.world import MeshConfig

LogName = Literal["inbound", "outbound", "gateway"]
#: Beyond what an entry holds anyway: who the peer says it is (pods behind a NAT have no address of their own).
_HEADERS = ("x-envoy-peer-metadata-id", "x-envoy-peer-metadata")


def http(mesh: MeshConfig, name: LogName) -> list[Any]:
    """The access logs of an HTTP connection manager; none when the mesh has no log service."""
    if mesh.access_log_service is None:
        return []
    config = als_pb2.HttpGrpcAccessLogConfig(
        common_config=_common(mesh, name), additional_request_headers_to_log=_HEADERS
    )
    log = accesslog_pb2.AccessLog(name="envoy.access_loggers.http_grpc", typed_config=pb.pack(config))
    if mesh.access_log_filter:
        log.filter.CopyFrom(log_filter(mesh.access_log_filter))
    return [log]


def tcp(mesh: MeshConfig, name: LogName) -> list[Any]:
    """The access logs of a TCP proxy."""
    if mesh.access_log_service is None:
        return []
    config = als_pb2.TcpGrpcAccessLogConfig(common_config=_common(mesh, name))
    return [accesslog_pb2.AccessLog(name="envoy.access_loggers.tcp_grpc", typed_config=pb.pack(config))]


def _common(mesh: MeshConfig, name: LogName) -> Any:
    assert mesh.access_log_service is not None
    host, port = mesh.access_log_service
    service = grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=outbound(port, "", host))
    )
    return als_pb2.CommonGrpcAccessLogConfig(
        log_name=name,
        grpc_service=service,
        transport_api_version=pb.V3,
        buffer_flush_interval=pb.duration(mesh.access_log_flush),
    )
