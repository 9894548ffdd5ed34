"""CDS: a cluster for every port of every service and each of its subsets, and those a proxy needs for itself.

The same cluster serves every proxy of a namespace, and usually all of them: it depends on the service, the
DestinationRule that holds for the client's namespace, and the identities behind the service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf.message import Message

from mesh.api.destination_rule import Subset, TrafficPolicy
from mesh.control.compile import cluster_policy, naming, pb, tls
from mesh.control.compile.endpoints import identities, load_assignment
from mesh.control.compile.locality import preference
from mesh.control.compile.view import View
from mesh.control.compile.visibility import MergedRule, destination_rule_for, services_for
from mesh.control.world import MeshConfig, Service, ServicePort, World

_BLOCKS = ("load_balancer", "connection_pool", "outlier_detection", "tls")
#: Seconds until a name is looked up again, if its DNS record does not say.
_DNS_REFRESH = 60.0
#: What a port has no setting of its own for.
_WHOLE_BLOCKS = ("proxy_protocol", "retry_budget")
_NO_POLICY = TrafficPolicy.model_construct()

Both = tuple[Mapping[str, Message], Mapping[str, Message]]


def outbound(world: World, view: View) -> Both:
    """(clusters, endpoint sets) by name: everything a proxy with this view may call."""
    services = services_for(world, view.namespace, view.sidecar)
    behind = (
        world.endpoints,
        world.objects("WorkloadEntry"),
        world.workloads if has_selectors(world) else None,
    )
    inputs = (services, *behind, world.destination_rules, world.peer_authentications, world.mesh)

    def build() -> Both:
        clusters: dict[str, Message] = {}
        endpoints: dict[str, Message] = {}
        for service in services:
            rule = destination_rule_for(world, view.namespace, service, view.labels)
            for port, subset in _parts(service, rule):
                policy = policy_for(world, rule, subset, port.port)
                wanted = preference(policy, view.locality, view.labels)
                behind = load_assignment(world, service, port, subset, wanted)
                cluster = _outbound_cluster(world, view, service, port, subset, rule, policy, behind)
                clusters[cluster.name] = cluster
                if cluster.type == cluster_pb2.Cluster.EDS:
                    endpoints[cluster.name] = behind
        return same_as_before("clusters", clusters), same_as_before("endpoint sets", endpoints)

    def same_as_before(what: str, found: dict[str, Message]) -> dict[str, Message]:
        """The mapping of the last world if every message in it is the same; so a publisher need not look inside."""
        return world.memo.get((what, view.key), tuple(found.values()), lambda: found)

    return world.memo.get(("outbound", view.key), inputs, build)


def _parts(service: Service, rule: MergedRule | None) -> Iterator[tuple[ServicePort, Subset | None]]:
    for port in service.ports:
        if port.protocol == "UDP":
            continue
        yield port, None
        for subset in rule.subsets.values() if rule else ():
            yield port, subset


def _outbound_cluster(
    world: World,
    view: View,
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    rule: MergedRule | None,
    policy: TrafficPolicy,
    behind: Any,
) -> Any:
    proven = identities(world, service)
    name = naming.outbound(port.port, subset.name if subset else "", service.hostname)
    key = ("cluster", name, proven, rule_key(rule), _distinction(view, service, policy))

    def build() -> Any:
        cluster = base(world.mesh, name, service)
        _discovery(cluster, service, port, view, behind)
        cluster_policy.apply(cluster, policy, port)
        if cluster.type == cluster_pb2.Cluster.ORIGINAL_DST:
            original_destination(cluster, view.interception)
        server_name = naming.sni(port.port, subset.name if subset else "", service.hostname)
        automatic = world.mesh.enable_auto_mtls and not service.external
        secrets = _may_read_secrets(view, rule)
        policy_tls = _with_stated_names(policy, service)
        _apply_tls(
            cluster, policy_tls, server_name, proven, port, automatic=automatic, may_read_secrets=secrets
        )
        cluster_policy.apply_proxy_protocol(cluster, policy)
        return cluster

    inline = behind if service.resolution.startswith("DNS") else None
    return world.memo.get(key, (service, rule, world.mesh, inline), build)


def _discovery(cluster: Any, service: Service, port: ServicePort, view: View, behind: Any) -> None:
    """How Envoy finds the endpoints: it is told (EDS), it asks DNS, or the client's destination says it."""
    kinds = {"DNS": cluster_pb2.Cluster.STRICT_DNS, "DNS_ROUND_ROBIN": cluster_pb2.Cluster.LOGICAL_DNS}
    if service.resolution in kinds:
        cluster.type = kinds[service.resolution]
        cluster.load_assignment.CopyFrom(behind)
        cluster.dns_lookup_family = cluster_pb2.Cluster.V4_PREFERRED
        cluster.respect_dns_ttl = True
        cluster.dns_refresh_rate.CopyFrom(pb.duration(_DNS_REFRESH))
    elif service.resolution == "NONE" and view.interception == "NONE" and "*" not in service.hostname:
        # Nobody has kept the address the client meant, only the name it asked for: so that is looked up.
        cluster.type = cluster_pb2.Cluster.STRICT_DNS
        cluster.load_assignment.CopyFrom(_one_endpoint(cluster.name, service.hostname, port.port))
        cluster.dns_lookup_family = cluster_pb2.Cluster.V4_PREFERRED
        cluster.respect_dns_ttl = True
    elif service.resolution == "NONE":
        original_destination(cluster, view.interception)
    else:
        cluster.type = cluster_pb2.Cluster.EDS
        cluster.eds_cluster_config.CopyFrom(
            cluster_pb2.Cluster.EdsClusterConfig(eds_config=pb.ads(), service_name=cluster.name)
        )


def has_selectors(world: World) -> bool:
    """Does a ServiceEntry choose pods? Nearly never; then a change of a pod alone means nothing to clusters."""
    entries = world.objects("ServiceEntry")
    return world.memo.get(
        "entries with selectors", (entries,), lambda: any(entry.spec.workload_selector for entry in entries)
    )


def _with_stated_names(policy: TrafficPolicy, service: Service) -> TrafficPolicy:
    """Names that a ServiceEntry states are those its servers' certificates must have, if the rule says no others."""
    said = policy.tls
    if said is None or said.subject_alt_names or said.insecure_skip_verify or not service.identities:
        return policy
    stated = said.model_copy(update={"subject_alt_names": service.identities})
    return policy.model_copy(update={"tls": stated})


def rule_key(rule: MergedRule | None) -> tuple[tuple[str, str], ...]:
    """Stands for a merged rule in keys of the memo."""
    return tuple((source.namespace, source.name) for source in rule.sources) if rule else ()


def _distinction(view: View, service: Service, policy: TrafficPolicy) -> tuple[Any, ...]:
    """The little that makes one client's cluster differ from another's under the same rule."""
    found: tuple[Any, ...] = ()
    if service.resolution.startswith("DNS"):
        found += (view.locality,)
    if policy.tls and policy.tls.credential_name:
        found += (view.type,)
    if service.resolution == "NONE" or (
        policy.load_balancer and policy.load_balancer.simple == "PASSTHROUGH"
    ):
        found += (view.interception,)
    return found


def _may_read_secrets(view: View, rule: MergedRule | None) -> bool:
    """Secrets go to gateways, and to sidecars that a rule's workloadSelector names (as in Istio)."""
    return view.type == "router" or bool(rule and any(source.spec.client_labels for source in rule.sources))


def policy_for(world: World, rule: MergedRule | None, subset: Subset | None, port: int) -> TrafficPolicy:
    """`effective_policy`, made once for each rule; the same object as long as the rule is the same."""
    if rule is None:
        return _NO_POLICY
    key = ("policy", rule_key(rule), subset.name if subset else None, port)
    return world.memo.get(key, (rule, subset), lambda: effective_policy(rule, subset, port))


def effective_policy(rule: MergedRule | None, subset: Subset | None, port: int) -> TrafficPolicy:
    """What holds for one port of one subset: the rule's policy, then the subset's over it, block by block.

    A port-level setting replaces every block of its own level, also those it leaves out (as Istio documents).
    """
    blocks: dict[str, Any] = {}
    for policy in (rule.traffic_policy if rule else None, subset.traffic_policy if subset else None):
        if policy is None:
            continue
        for name in (*_BLOCKS, *_WHOLE_BLOCKS):
            if getattr(policy, name) is not None:
                blocks[name] = getattr(policy, name)
        for setting in policy.port_level_settings:
            if setting.port.number == port:
                blocks |= {name: getattr(setting, name) for name in _BLOCKS}
    return TrafficPolicy.model_construct(**blocks)


def base(mesh: MeshConfig, name: str, service: Service | None = None) -> Any:
    cluster = cluster_pb2.Cluster(
        name=name,
        connect_timeout=pb.duration(mesh.connect_timeout),
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(thresholds=[cluster_policy.unlimited()]),
    )
    if service is not None:
        said = {"host": service.hostname, "name": service.name, "namespace": service.namespace}
        cluster.metadata.filter_metadata["istio"].update({"services": [said]})
    return cluster


def _apply_tls(
    cluster: Any,
    policy: TrafficPolicy,
    server_name: str,
    proven: tuple[str, ...],
    port: ServicePort,
    *,
    automatic: bool,
    may_read_secrets: bool,
) -> None:
    """The rule's TLS mode; without one, mutual TLS to endpoints with a sidecar and plaintext to the others."""
    settings, http2 = policy.tls, cluster_policy.is_http2(policy, port)
    if settings is None:
        # Without endpoints of its own a cluster cannot tell which of them has a sidecar.
        if automatic and cluster.type != cluster_pb2.Cluster.ORIGINAL_DST:
            matched = cluster.transport_socket_matches.add(name="tlsMode-istio")
            matched.match.update({"tlsMode": "istio"})
            matched.transport_socket.CopyFrom(tls.client_socket(server_name, proven, http2=http2))
            other = cluster.transport_socket_matches.add(name="tlsMode-disabled")
            other.match.SetInParent()
            other.transport_socket.CopyFrom(tls.raw_socket())
    elif settings.mode == "ISTIO_MUTUAL":
        names = settings.subject_alt_names or proven
        cluster.transport_socket.CopyFrom(tls.client_socket(settings.sni or server_name, names, http2=http2))
    elif settings.mode != "DISABLE" and (may_read_secrets or not settings.credential_name):
        host = server_name.rpartition("_.")[2]
        cluster.transport_socket.CopyFrom(tls.origination_socket(settings, host, http2=http2))


def inbound(
    mesh: MeshConfig,
    address: str,
    port: int,
    target: int,
    policy: TrafficPolicy,
    *,
    http2: bool,
    captured: bool = False,
) -> Any:
    """The app behind the sidecar: `port` as callers know it is `target` at the app's inside address (behind iptables:
    at the pod's own, see `_not_caught`).
    """
    cluster = base(mesh, naming.inbound(port))
    cluster.type = cluster_pb2.Cluster.STATIC
    cluster.load_assignment.CopyFrom(_one_endpoint(cluster.name, address, target))
    cluster_policy.limit(cluster, policy)
    cluster_policy.http_options(cluster, policy, http2)
    if captured:
        _not_caught(cluster)
    return cluster


def _one_endpoint(name: str, address: str, port: int) -> Any:
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=pb.address(address, port))
    )
    return endpoint_pb2.ClusterLoadAssignment(
        cluster_name=name, endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )


def passthrough(mesh: MeshConfig, interception: str) -> Any:
    """Where requests to hosts outside the mesh go: to the address the client had in mind.

    With interception that is the connection's original destination. Without, all there is is the authority
    of the request, so only hosts given as IP:PORT can be reached.
    """
    cluster = base(mesh, naming.PASSTHROUGH)
    original_destination(cluster, interception)
    return cluster


def original_destination(cluster: Any, interception: str) -> None:
    """Make this a cluster without endpoints of its own: the client's connection or request names the address."""
    cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    if interception == "NONE":
        cluster.original_dst_lb_config.use_http_header = True
        cluster.original_dst_lb_config.http_header_name = ":authority"


def inbound_passthrough(mesh: MeshConfig) -> Any:
    """Ports the app does not declare, behind iptables: to the original destination."""
    cluster = base(mesh, naming.INBOUND_PASSTHROUGH)
    cluster.type = cluster_pb2.Cluster.ORIGINAL_DST
    cluster.lb_policy = cluster_pb2.Cluster.CLUSTER_PROVIDED
    _not_caught(cluster)
    return cluster


def _not_caught(cluster: Any) -> None:
    """Connect from an address that iptables knows and does not catch again (127.0.0.6, as in Istio)."""
    cluster.upstream_bind_config.source_address.CopyFrom(pb.address("127.0.0.6", 0).socket_address)


def black_hole(mesh: MeshConfig) -> Any:
    """A cluster without any endpoint."""
    cluster = base(mesh, naming.BLACK_HOLE)
    cluster.type = cluster_pb2.Cluster.STATIC
    return cluster
