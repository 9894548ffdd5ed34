"""Connections that are not HTTP: filter chains from the tls and tcp routes of VirtualServices.

Envoy chooses a filter chain when a connection begins: by server name (SNI) for TLS, by destination address; what else
a route may ask for (port, source labels, gateway) the control plane decides itself. Source: istio.io, Virtual Service,
TLSRoute and TCPRoute; Envoy, listener FilterChainMatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.tcp_routes import L4MatchAttributes, RouteDestination, TLSMatchAttributes
from mesh.control.compile import access_log, pb
from mesh.control.compile.actions import Target
from mesh.control.compile.rules import Asker, target_of
from mesh.control.compile.visibility import VirtualService
from mesh.control.world import World

TCP_PROXY = "envoy.filters.network.tcp_proxy"
Side = access_log.LogName


def vs_chains(
    world: World, side: Side, services: Iterable[VirtualService], port: int, asker: Asker, *, is_tls: bool
) -> Iterator[Any]:
    """A filter chain for each tls route (on a TLS port) or tcp route that holds here, in order."""
    for vs in services:
        choose = target_of(world, vs.namespace, port, asker)
        for route in vs.spec.tls if is_tls else vs.spec.tcp:
            for match in route.match or (None,):
                if match is None or _applies(match, port, asker):
                    targets = [(choose(to.destination), to) for to in route.route]
                    filters = [proxy_filter(world, side, targets)]
                    yield listener_components_pb2.FilterChain(
                        filter_chain_match=_match(match), filters=filters
                    )


def _applies(match: L4MatchAttributes, port: int, asker: Asker) -> bool:
    if match.port not in (None, port):
        return False
    if match.gateways and not asker.gateways & set(match.gateways):
        return False
    if any(asker.labels.get(key) != value for key, value in match.source_labels.items()):
        return False
    return match.source_namespace in ("", asker.namespace)


def _match(match: L4MatchAttributes | None) -> Any:
    result = listener_components_pb2.FilterChainMatch()
    if match is None:
        return result
    if isinstance(match, TLSMatchAttributes) and "*" not in match.sni_hosts:
        result.server_names.extend(host.lower() for host in match.sni_hosts)
        result.transport_protocol = "tls"
    for block in match.destination_subnets:
        address, _, bits = block.partition("/")
        length = int(bits) if bits else 128 if ":" in address else 32
        result.prefix_ranges.append(
            address_pb2.CidrRange(address_prefix=address, prefix_len=UInt32Value(value=length))
        )
    return result


def proxy_filter(world: World, side: Side, targets: Sequence[tuple[Target, RouteDestination]]) -> Any:
    """The TCP proxy to one cluster or to several by weight."""
    first, _ = targets[0]
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=first.cluster, access_log=access_log.tcp(world.mesh, side))
    if len(targets) == 1:
        proxy.cluster = first.cluster
    for target, to in targets if len(targets) > 1 else ():
        if to.weight:
            proxy.weighted_clusters.clusters.add(name=target.cluster, weight=to.weight)
    if any(target.hashed and target.hashed.use_source_ip for target, _ in targets):
        source = hash_policy_pb2.HashPolicy.SourceIp()
        proxy.hash_policy.append(hash_policy_pb2.HashPolicy(source_ip=source))
    return listener_components_pb2.Filter(name=TCP_PROXY, typed_config=pb.pack(proxy))


def distinct(chains: Iterable[Any]) -> list[Any]:
    """Envoy refuses two chains with the same condition: the first keeps it."""
    seen: set[bytes] = set()
    kept = []
    for chain in chains:
        condition = chain.filter_chain_match.SerializeToString(deterministic=True)
        if condition not in seen:
            seen.add(condition)
            kept.append(chain)
    return kept
