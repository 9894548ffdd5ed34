"""What both proxies are told: one listener and its clusters, with what a sidecar does for each request.

Three routes by path, header and method, a weighted split, header changes, an access rule, a request id; Istio's
metrics are counted by ours, Envoy's own statistics by Envoy. With mutual TLS on both sides in case `mtls`.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import json_format

KNOWN = (rbac_pb2, router_pb2, http_connection_manager_pb2, tls_pb2)
"""Imported so that protobuf knows the types that stand in `Any` below."""

CASES = ("http", "mtls")
"""Names of what is compared: HTTP/1.1 in plain text, and with mutual TLS from the client and to the upstream."""

_TYPE = "type.googleapis.com/envoy."
_HCM = "envoy.filters.network.http_connection_manager"
_SPIFFE = "spiffe://cluster.local/"


def listener(address: tuple[str, int], case: str) -> listener_pb2.Listener:
    """The listener of a case."""
    chain: dict[str, Any] = {"filters": [{"name": _HCM, "typed_config": _manager()}]}
    if case == "mtls":
        chain["transport_socket"] = _tls("DownstreamTlsContext", require_client_certificate=True)
    message = {
        "name": "bench",
        "address": _address(address),
        "filter_chains": [chain],
        "traffic_direction": "INBOUND",
    }
    return json_format.ParseDict(message, listener_pb2.Listener())


def clusters(upstream: tuple[str, int], case: str) -> list[cluster_pb2.Cluster]:
    """Two versions of a service; here both are the same upstream."""
    found = []
    for name in ("v1", "v2"):
        message: dict[str, Any] = {
            "name": f"outbound|80|{name}|bench.default.svc.cluster.local",
            "type": "STATIC",
            "lb_policy": "LEAST_REQUEST",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
            },
        }
        if case == "mtls":
            message["transport_socket"] = _tls("UpstreamTlsContext", sni="bench")
        found.append(json_format.ParseDict(message, cluster_pb2.Cluster()))
    return found


def _manager() -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"name": "bench", "virtual_hosts": [_virtual_host()]},
        "normalize_path": True,
        "http_filters": [
            {"name": "envoy.filters.http.rbac", "typed_config": _access_rule()},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"},
            },
        ],
    }


def _virtual_host() -> dict[str, Any]:
    name = "outbound|80|{}|bench.default.svc.cluster.local".format
    split = {"clusters": [{"name": name("v1"), "weight": 80}, {"name": name("v2"), "weight": 20}]}
    return {
        "name": "bench",
        "domains": ["*"],
        "request_headers_to_add": [{"header": {"key": "x-bench", "value": "1"}}],
        "response_headers_to_remove": ["x-internal"],
        "routes": [
            {
                "match": {
                    "prefix": "/reviews",
                    "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}],
                },
                "route": {"cluster": name("v2"), "timeout": "0s"},
            },
            {
                "match": {
                    "prefix": "/",
                    "headers": [{"name": "user-agent", "string_match": {"contains": "iPhone"}}],
                },
                "route": {"cluster": name("v2"), "timeout": "0s"},
            },
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": split, "timeout": "0s"}},
        ],
    }


def _access_rule() -> dict[str, Any]:
    """Deny DELETE on /admin."""
    rules = [
        {"header": {"name": ":method", "string_match": {"exact": "DELETE"}}},
        {"url_path": {"path": {"prefix": "/admin"}}},
    ]
    policy = {"permissions": [{"and_rules": {"rules": rules}}], "principals": [{"any": True}]}
    return {
        "@type": f"{_TYPE}extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "DENY", "policies": {"no-admin": policy}},
    }


def _tls(kind: str, **fields: Any) -> dict[str, Any]:
    """A TLS context as Istio's: own certificate and root by name, the peer's name by SPIFFE prefix."""
    names = [{"san_type": "URI", "matcher": {"prefix": _SPIFFE}}]
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["http/1.1"],
        "tls_certificate_sds_secret_configs": [{"name": "default"}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": {"name": "ROOTCA"},
        },
    }
    config = {"@type": f"{_TYPE}extensions.transport_sockets.tls.v3.{kind}", "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {**config, **fields}}


def _address(address: tuple[str, int]) -> dict[str, Any]:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}
