"""Names: of clusters, listeners and routes as Istio gives them, and of hosts as people write them.

Istio's tools and dashboards read these names, so they are part of the contract.
"""

from __future__ import annotations

from collections.abc import Iterable

HTTP_PROXY = "http_proxy"
PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
SDS_CLUSTER = "sds-grpc"
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006


def outbound(port: int, subset: str, hostname: str) -> str:
    """Cluster of a service's port (and subset, or "")."""
    return f"outbound|{port}|{subset}|{hostname}"


def inbound(port: int) -> str:
    """Cluster of the app behind a sidecar."""
    return f"inbound|{port}||"


def sni(port: int, subset: str, hostname: str) -> str:
    """Server name a sidecar asks for in TLS: the cluster name with `_.` for `|`, which no host name may hold."""
    return f"outbound_.{port}_.{subset}_.{hostname}"


def listener(address: str, port: int) -> str:
    return f"{address}_{port}"


def gateway_route(port: int) -> str:
    """Route configuration of a gateway's plain HTTP port."""
    return f"http.{port}"


def spiffe(trust_domain: str, namespace: str, service_account: str) -> str:
    """Identity of a workload (SPIFFE ID, as Istio forms it)."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"


def resolve(host: str, namespace: str, domain: str) -> str:
    """The full name of a host in a config object: a name without dot is a service of the object's own namespace."""
    lowered = host.lower()
    if "." in lowered or lowered == "*":
        return lowered
    return f"{lowered}.{namespace}.svc.{domain}"


def short_names(hostname: str, client_namespace: str, domain: str) -> list[str]:
    """How a client in `client_namespace` may call a service: its full name first, then the shorter forms."""
    suffix = f".svc.{domain}"
    if not hostname.endswith(suffix):
        return [hostname]
    name, _, namespace = hostname.removesuffix(suffix).rpartition(".")
    forms = [hostname, f"{name}.{namespace}.svc", f"{name}.{namespace}"]
    return [*forms, name] if namespace == client_namespace else forms


def host_matches(pattern: str, host: str) -> bool:
    """Does a host pattern (`*`, `*.example.com`, or a plain name) cover a host (or a narrower pattern)?"""
    if pattern == "*" or pattern == host:
        return True
    return pattern.startswith("*") and host.removeprefix("*").endswith(pattern[1:]) and host != pattern[1:]


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """Of the patterns that cover a host, the longest; an exact name wins over any wildcard."""
    covering = [pattern for pattern in patterns if host_matches(pattern, host)]
    return max(covering, key=lambda pattern: (not pattern.startswith("*"), len(pattern)), default=None)
