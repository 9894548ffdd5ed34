"""AuthorizationPolicy with action CUSTOM: Envoy's ext_authz filter, which asks another service (such as Open Policy
Agent) about the requests that the RBAC filter before it has noted.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2, grpc_service_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as http_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as tcp_pb2
from envoy.type.matcher.v3 import metadata_pb2, string_pb2, value_pb2

from mesh.control.compile import naming, pb
from mesh.control.compile.authz import EXT_AUTHZ, EXT_AUTHZ_SHADOW
from mesh.control.world import ExtAuthz

HTTP_RBAC = "envoy.filters.http.rbac"
TCP_RBAC = "envoy.filters.network.rbac"


def http_filter(provider: ExtAuthz) -> Any:
    """For HTTP requests."""
    config = http_pb2.ExtAuthz(
        failure_mode_allow=provider.fail_open,
        transport_api_version=pb.V3,
        filter_enabled_metadata=_noted(HTTP_RBAC, provider.name),
    )
    config.status_on_error.code = provider.status_on_error
    if provider.body_bytes:
        config.with_request_body.max_request_bytes = provider.body_bytes
        config.with_request_body.allow_partial_message = provider.partial_body
    if not provider.http:
        config.grpc_service.CopyFrom(_grpc(provider))
        return config
    service = config.http_service
    service.path_prefix = provider.path_prefix
    service.server_uri.uri = f"http://{provider.service}"
    service.server_uri.cluster = naming.outbound(provider.port, "", provider.service)
    service.server_uri.timeout.CopyFrom(pb.duration(provider.timeout))
    for key, value in provider.extra_headers:
        service.authorization_request.headers_to_add.append(base_pb2.HeaderValue(key=key, value=value))
    answer = service.authorization_response
    for target, names in (
        (answer.allowed_upstream_headers, provider.to_upstream),
        (answer.allowed_client_headers, provider.to_client_on_deny),
        (answer.allowed_client_headers_on_success, provider.to_client_on_allow),
        (config.allowed_headers, provider.request_headers),
    ):
        for name in names:
            target.patterns.append(_pattern(name))
    return config


def tcp_filter(provider: ExtAuthz) -> Any:
    """For connections that are not HTTP."""
    return tcp_pb2.ExtAuthz(
        stat_prefix="tcp.",
        grpc_service=_grpc(provider),
        failure_mode_allow=provider.fail_open,
        transport_api_version=pb.V3,
        filter_enabled_metadata=_noted(TCP_RBAC, provider.name),
    )


def _grpc(provider: ExtAuthz) -> Any:
    cluster = naming.outbound(provider.port, "", provider.service)
    envoy = grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=cluster, authority=provider.service)
    return grpc_service_pb2.GrpcService(envoy_grpc=envoy, timeout=pb.duration(provider.timeout))


def _pattern(name: str) -> Any:
    """A header's name, with `*` at either end."""
    if name.startswith("*"):
        return string_pb2.StringMatcher(suffix=name[1:], ignore_case=True)
    if name.endswith("*"):
        return string_pb2.StringMatcher(prefix=name[:-1], ignore_case=True)
    return string_pb2.StringMatcher(exact=name, ignore_case=True)


def _noted(rbac_filter: str, provider: str) -> Any:
    """Holds when the RBAC filter's shadow rules have noted a policy of this provider."""
    key = f"{EXT_AUTHZ_SHADOW}shadow_effective_policy_id"
    return metadata_pb2.MetadataMatcher(
        filter=rbac_filter,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=key)],
        value=value_pb2.ValueMatcher(string_match=pb.prefix(f"{EXT_AUTHZ}-{provider}-")),
    )
