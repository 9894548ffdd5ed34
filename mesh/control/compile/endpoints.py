"""EDS: the addresses behind every cluster, with what a client needs to know of each.

An endpoint set depends on the service alone (and on the subset's labels), so it is computed once for all
proxies.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from mesh.api.destination_rule import Subset
from mesh.control import registry
from mesh.control.compile import pb
from mesh.control.compile.authn import anything_disabled, mutual_tls
from mesh.control.compile.locality import Group, Preference, groups
from mesh.control.compile.naming import outbound, spiffe
from mesh.control.world import Endpoint, Service, ServicePort, World


def load_assignment(
    world: World,
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    preference: Preference | None = None,
) -> Any:
    """The endpoints of one port of a service, or of one subset of it: those ready now, the preferred ones first."""
    endpoints = registry.endpoints_of(world, service)
    policies = world.peer_authentications if anything_disabled(world) else None
    name = outbound(port.port, subset.name if subset else "", service.hostname)

    def build() -> Any:
        chosen = [e for e in endpoints if e.port_name == port.name and e.ready and _in_subset(e, subset)]
        return endpoint_pb2.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[_locality(world, group) for group in groups(chosen, preference)],
        )

    key = ("endpoints", name, preference.key if preference else None)
    setting = preference.setting if preference else None
    inputs = (endpoints, port, subset, policies, world.mesh, setting, preference and preference.failover)
    return world.memo.get(key, inputs, build)


def identities(world: World, service: Service) -> tuple[str, ...]:
    """The identities a server of this service may prove: those of the pods behind it, sorted."""
    endpoints = registry.endpoints_of(world, service)
    if service.identities:
        return service.identities

    def build() -> tuple[str, ...]:
        domain = world.mesh.trust_domain
        accounts = {(e.namespace, e.service_account) for e in endpoints if e.service_account}
        return tuple(sorted(spiffe(domain, namespace, account) for namespace, account in accounts))

    return world.memo.get(("identities", service.key), (endpoints, world.mesh), build)


def _in_subset(endpoint: Endpoint, subset: Subset | None) -> bool:
    wanted = subset.labels if subset else {}
    return all(endpoint.labels.get(key) == value for key, value in wanted.items())


def _locality(world: World, group: Group) -> Any:
    region, zone, subzone = group.locality
    known = any(group.locality)
    result = endpoint_components_pb2.LocalityLbEndpoints(
        locality=base_pb2.Locality(region=region, zone=zone, sub_zone=subzone) if known else None,
        lb_endpoints=[_lb_endpoint(world, endpoint) for endpoint in group.endpoints],
        priority=group.priority,
    )
    if group.weight:
        result.load_balancing_weight.value = group.weight
    return result


def _lb_endpoint(world: World, endpoint: Endpoint) -> Any:
    result = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=pb.address(endpoint.address, endpoint.port)),
        health_status=health_check_pb2.HEALTHY,
        load_balancing_weight=pb.uint32(endpoint.weight),
    )
    if endpoint.tls_mode == "istio" and not _disabled(world, endpoint):
        result.metadata.filter_metadata["envoy.transport_socket_match"].update({"tlsMode": "istio"})
    if endpoint.workload_name:
        labels = endpoint.labels
        said = (endpoint.workload_name, endpoint.namespace, labels.get("app", ""), labels.get("version", ""))
        result.metadata.filter_metadata["istio"].update({"workload": ";".join((*said, "Kubernetes"))})
    return result


def _disabled(world: World, endpoint: Endpoint) -> bool:
    if not anything_disabled(world):
        return False
    return mutual_tls(world, endpoint.namespace, endpoint.labels).on(endpoint.port) == "DISABLE"
