"""Traces: Envoy's tracing settings, with spans sent as OpenTelemetry over gRPC."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import grpc_service_pb2
from envoy.config.trace.v3 import http_tracer_pb2, opentelemetry_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm
from envoy.type.tracing.v3 import custom_tag_pb2

from mesh.api.telemetry import CustomTag
from mesh.control.compile import pb
from mesh.control.compile.naming import outbound
from mesh.control.world import MeshConfig

_TRACER = "envoy.tracers.opentelemetry"


def settings(mesh: MeshConfig, service_name: str) -> Any:
    """What of the requests is traced. A trace that somebody before us has begun goes on in any case."""
    assert mesh.trace_service is not None
    host, port = mesh.trace_service
    envoy = grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=outbound(port, "", host), authority=host)
    config = opentelemetry_pb2.OpenTelemetryConfig(
        grpc_service=grpc_service_pb2.GrpcService(envoy_grpc=envoy), service_name=service_name
    )
    tracing = hcm.HttpConnectionManager.Tracing(
        provider=http_tracer_pb2.Tracing.Http(name=_TRACER, typed_config=pb.pack(config)),
        custom_tags=[_tag(name, tag) for name, tag in dict(mesh.trace_tags).items()],
    )
    tracing.client_sampling.value = tracing.overall_sampling.value = 100.0
    tracing.random_sampling.value = mesh.trace_sampling
    return tracing


def _tag(name: str, tag: CustomTag) -> Any:
    result = custom_tag_pb2.CustomTag(tag=name)
    if tag.literal:
        result.literal.value = tag.literal.value
    elif tag.environment:
        result.environment.name = tag.environment.name
        result.environment.default_value = tag.environment.default_value
    elif tag.header:
        result.request_header.name = tag.header.name
        result.request_header.default_value = tag.header.default_value
    return result
