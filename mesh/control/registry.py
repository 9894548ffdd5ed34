"""All services there are: those of Kubernetes, and those that ServiceEntries add; and who is behind each.

Beside `world`, before `compile`, which asks here and does not care where a service comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from mesh.api.objects import ConfigObject
from mesh.api.service_entry import ServiceEntryPort, ServiceEntrySpec, WorkloadEntrySpec, is_address
from mesh.control.world import Endpoint, Protocol, Service, ServiceKey, ServicePort, Workload, World

ServiceEntry = ConfigObject[ServiceEntrySpec]
WorkloadEntry = ConfigObject[WorkloadEntrySpec]
TLS_MODE_LABEL = "security.istio.io/tlsMode"
_PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {"GRPC-WEB": "HTTP", "MONGO": "TCP", "MYSQL": "TCP", "REDIS": "TCP"}
)


def services(world: World) -> Mapping[ServiceKey, Service]:
    """Every service by (namespace, name); a ServiceEntry's name is its host."""
    entries = world.objects("ServiceEntry")
    known = world.services

    def build() -> Mapping[ServiceKey, Service]:
        added = (service for entry in entries for service in _from_entry(world, entry))
        found = dict(known)
        for service in added:
            found.setdefault(service.key, service)
        return found

    return world.memo.get("registry", (known, entries), build) if entries else known


def _from_entry(world: World, entry: ServiceEntry) -> tuple[Service, ...]:
    """A service for each host. They are kept, so that each stays the same object while the entry does."""

    def build() -> tuple[Service, ...]:
        spec = entry.spec
        return tuple(
            Service(
                namespace=entry.namespace,
                name=host.lower(),
                hostname=host.lower(),
                ports=tuple(_port(port) for port in spec.ports),
                labels=entry.labels,
                annotations={"networking.istio.io/exportTo": ",".join(spec.export_to)}
                if spec.export_to
                else {},
                created=entry.created,
                resolution=spec.resolution,
                external=spec.location == "MESH_EXTERNAL",
                addresses=spec.addresses,
                identities=spec.subject_alt_names,
                entry=entry,
            )
            for host in spec.hosts
        )

    return world.memo.get(("entry", entry.namespace, entry.name), (entry,), build)


def _port(port: ServiceEntryPort) -> ServicePort:
    said = port.protocol.upper()
    protocol: Any = _PROTOCOLS.get(said, said)
    return ServicePort(port.name, port.number, port.target_port or port.number, protocol)


def by_hostname(world: World) -> Mapping[str, Service]:
    """Services by full host name; of several for one host Kubernetes' own comes first, then the oldest."""
    found = services(world)

    def build() -> Mapping[str, Service]:
        ordered = sorted(
            found.values(), key=lambda s: (s.entry is not None, s.created, s.namespace), reverse=True
        )
        return {service.hostname: service for service in ordered}

    return world.memo.get("by hostname", (found,), build)


def endpoints_of(world: World, service: Service) -> tuple[Endpoint, ...]:
    """Who is behind a service, ready or not; for a service found by DNS, the names to look up."""
    if service.type == "ExternalName":
        return _external_name(world, service)
    entries = world.objects("WorkloadEntry")
    if service.entry is None:
        known = world.endpoints.get(service.key, ())
        if not entries or not service.selector:
            return known
        return world.memo.get(
            ("endpoints and entries", service.key),
            (service, known, entries),
            lambda: (*known, *_selected_entries(service, entries, service.selector)),
        )
    selector = service.entry.spec.workload_selector
    inputs = (service, entries, world.workloads) if selector else (service,)
    return world.memo.get(
        ("endpoints of entry", service.key), inputs, lambda: tuple(_of_entry(world, service, entries))
    )


def _external_name(world: World, service: Service) -> tuple[Endpoint, ...]:
    """An ExternalName service is another name for a host: found by DNS."""

    def build() -> tuple[Endpoint, ...]:
        return tuple(
            Endpoint(service.external_name, port.port, port.name, namespace=service.namespace)
            for port in service.ports
        )

    return world.memo.get(("external name", service.key), (service,), build)


def _of_entry(world: World, service: Service, entries: Iterable[WorkloadEntry]) -> Iterator[Endpoint]:
    spec = service.entry.spec if service.entry else None
    if spec is None or spec.resolution == "NONE":
        return
    if spec.workload_selector:
        pods = (p for p in world.workloads.values() if p.namespace == service.namespace)
        chosen = (pod for pod in pods if spec.workload_selector.selects(pod.labels))
        yield from (_of_pod(pod, port) for pod in chosen for port in service.ports)
        yield from _selected_entries(service, entries, spec.workload_selector.labels)
        return
    given = spec.endpoints
    if not given and spec.resolution.startswith("DNS"):
        given = (WorkloadEntrySpec(address=service.hostname),)
    for index, workload in enumerate(given):
        yield from _of_workload(service, workload, f"{service.name}-{index}", service.namespace)


def _selected_entries(
    service: Service, entries: Iterable[WorkloadEntry], selector: Mapping[str, str]
) -> Iterator[Endpoint]:
    """WorkloadEntries of the service's namespace that carry the labels. Names need DNS, which EDS cannot do."""
    by_dns = service.resolution.startswith("DNS")
    for entry in entries:
        labels = {**entry.labels, **entry.spec.labels}
        fits = all(labels.get(key) == value for key, value in selector.items())
        if entry.namespace == service.namespace and fits and (by_dns or is_address(entry.spec.address)):
            spec = entry.spec.model_copy(update={"labels": labels})
            yield from _of_workload(service, spec, entry.name, entry.namespace)


def _of_workload(service: Service, spec: WorkloadEntrySpec, name: str, namespace: str) -> Iterator[Endpoint]:
    """An endpoint for each port. It speaks the mesh's TLS when its label or a service account says so."""
    secure = spec.labels.get(TLS_MODE_LABEL, "istio" if spec.service_account else "") == "istio"
    region, zone, subzone = (*spec.locality.split("/"), "", "")[:3]
    for port in service.ports:
        yield Endpoint(
            address=spec.address,
            port=spec.ports.get(port.name) or _number(port),
            port_name=port.name,
            tls_mode="istio" if secure and not service.external else "disabled",
            labels=spec.labels,
            namespace=namespace,
            service_account=spec.service_account,
            workload_name=name,
            region=region,
            zone=zone,
            subzone=subzone,
            weight=spec.weight or 1,
        )


def _of_pod(pod: Workload, port: ServicePort) -> Endpoint:
    return Endpoint(
        address=pod.ip,
        port=_number(port),
        port_name=port.name,
        ready=pod.ready,
        tls_mode="istio" if pod.labels.get(TLS_MODE_LABEL) == "istio" or pod.injected else "disabled",
        labels=pod.labels,
        namespace=pod.namespace,
        service_account=pod.service_account,
        workload_name=pod.workload_name,
        pod_name=pod.name,
        region=pod.region,
        zone=pod.zone,
        subzone=pod.subzone,
    )


def _number(port: ServicePort) -> int:
    return port.target_port if isinstance(port.target_port, int) else port.port


__all__ = ["by_hostname", "endpoints_of", "services"]
