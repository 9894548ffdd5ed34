"""Short makers of xDS resources for tests, from Envoy's own JSON forms."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.proxy_protocol.v3 import upstream_proxy_protocol_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import json_format

#: Imported so that protobuf knows the types that stand in `Any`.
KNOWN = (
    als_pb2,
    fault_pb2,
    http_connection_manager_pb2,
    network_rbac_pb2,
    rbac_pb2,
    router_pb2,
    tcp_proxy_pb2,
    tls_inspector_pb2,
    tls_pb2,
    upstream_proxy_protocol_pb2,
    http_protocol_options_pb2,
)
TYPE = "type.googleapis.com/"
HCM = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = TYPE + "envoy.extensions.filters.http.router.v3.Router"
RBAC = TYPE + "envoy.extensions.filters.http.rbac.v3.RBAC"
FAULT = TYPE + "envoy.extensions.filters.http.fault.v3.HTTPFault"
TCP_PROXY = TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
TLS_INSPECTOR = TYPE + "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
DOWNSTREAM_TLS = TYPE + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
UPSTREAM_TLS = TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
ADS = {"ads": {}, "resource_api_version": "V3"}


def address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def cluster(name: str, **fields: Any) -> cluster_pb2.Cluster:
    """An EDS cluster, unless `fields` says otherwise."""
    base: dict[str, Any] = {"name": name, "connect_timeout": "2s", "type": "EDS"}
    if fields.get("type", "EDS") == "EDS":
        base["eds_cluster_config"] = {"eds_config": ADS, "service_name": name}
    return json_format.ParseDict({**base, **fields}, cluster_pb2.Cluster())


def endpoints(name: str, *places: tuple[str, int], **each: Any) -> endpoint_pb2.ClusterLoadAssignment:
    """Endpoints of a cluster; `each` goes into every one of them."""
    found = [{"endpoint": {"address": address(*place)}, **each} for place in places]
    message = {"cluster_name": name, "endpoints": [{"lb_endpoints": found}]}
    return json_format.ParseDict(message, endpoint_pb2.ClusterLoadAssignment())


def hcm(route_name: str = "", **fields: Any) -> dict[str, Any]:
    """A connection manager filter with the router; routes by RDS if named."""
    config: dict[str, Any] = {
        "@type": HCM,
        "stat_prefix": "test",
        "http_filters": [*fields.pop("filters", []), router()],
        **fields,
    }
    if route_name:
        config["rds"] = {"route_config_name": route_name, "config_source": ADS}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def router() -> dict[str, Any]:
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}


def listener(
    name: str, host: str, port: int, *chains: dict[str, Any], **fields: Any
) -> listener_pb2.Listener:
    """A listener; a chain may be given as its only filter."""
    full = [chain if "filters" in chain else {"filters": [chain]} for chain in chains]
    message = {"name": name, "address": address(host, port), "filter_chains": full, **fields}
    return json_format.ParseDict(message, listener_pb2.Listener())


def routes(name: str, *hosts: dict[str, Any], **fields: Any) -> route_pb2.RouteConfiguration:
    """A route configuration."""
    message = {"name": name, "virtual_hosts": list(hosts), **fields}
    return json_format.ParseDict(message, route_pb2.RouteConfiguration())


def host(
    *rules: dict[str, Any], domains: tuple[str, ...] = ("*",), name: str = "", **more: Any
) -> dict[str, Any]:
    """A virtual host."""
    return {"name": name or "|".join(domains), "domains": list(domains), "routes": list(rules), **more}


def rule(cluster_name: str = "", match: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A route; to a cluster if one is named (fields of the action go into `route`)."""
    found: dict[str, Any] = {"match": match or {"prefix": "/"}, **fields}
    if cluster_name:
        found["route"] = {"cluster": cluster_name, **fields.get("route", {})}
    return found


def any_of(message: Any, type_name: str) -> dict[str, Any]:
    return {"@type": TYPE + type_name, **message}


def access_log(name: str, to_cluster: str, **more: Any) -> dict[str, Any]:
    """An HTTP access log over gRPC."""
    common = {
        "log_name": name,
        "grpc_service": {"envoy_grpc": {"cluster_name": to_cluster}},
        "transport_api_version": "V3",
        "buffer_flush_interval": "0.02s",
    }
    kind = TYPE + "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    config = {"@type": kind, "common_config": common, **more}
    return {"name": "envoy.access_loggers.http_grpc", "typed_config": config}


def mutual_tls(
    kind: str, names: tuple[str, ...] = ("spiffe://cluster.local/",), **fields: Any
) -> dict[str, Any]:
    """A transport socket with Istio's two secrets; `names` are prefixes of accepted SPIFFE IDs."""
    sans = [{"san_type": "URI", "matcher": {"prefix": name}} for name in names]
    common = {
        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": ADS}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": sans},
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": ADS},
        },
        "alpn_protocols": ["istio-peer-exchange", "istio"],
    }
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": kind, "common_tls_context": common, **fields},
    }


def tls_inspector() -> dict[str, Any]:
    return {"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": TLS_INSPECTOR}}


def tcp_proxy(to_cluster: str, **fields: Any) -> dict[str, Any]:
    config = {"@type": TCP_PROXY, "stat_prefix": "tcp", "cluster": to_cluster, **fields}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}
