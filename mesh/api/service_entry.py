"""ServiceEntry and WorkloadEntry: services and workloads that Kubernetes does not know of. Source: istio.io,
Reference, Service Entry and Workload Entry.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.model import Model, export_to_problems, not_empty
from mesh.api.problems import Problem
from mesh.api.scalars import PortNumber, UInt32, host_problem, is_dns_label, labels_problem

PROTOCOLS = frozenset(
    {"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "MYSQL", "REDIS", "UDP"}
)
_BY_NAME = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS"})


class LabelSelector(Model):
    """The older form of a workload selector: `labels` instead of `matchLabels`."""

    labels: dict[str, str] = Field(default_factory=dict)

    def check(self) -> Iterator[Problem]:
        if wrong := labels_problem(self.labels):
            yield Problem("labels", wrong)

    def selects(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels.items())


class ServiceEntryPort(Model):
    number: PortNumber
    name: str
    protocol: str = "TCP"
    target_port: PortNumber | None = None

    def check(self) -> Iterator[Problem]:
        if not is_dns_label(self.name):
            yield Problem("name", f"{self.name!r} is not a name of lower-case letters, digits and dashes")
        if self.protocol.upper() not in PROTOCOLS:
            yield Problem("protocol", f"must be one of {', '.join(sorted(PROTOCOLS))}, not {self.protocol!r}")


class WorkloadEntrySpec(Model):
    """One address that serves, as a pod would: its ports by name, its labels, its place, its identity."""

    unsupported: ClassVar[Mapping[str, str]] = {"network": "all workloads must reach one another directly"}

    address: str
    ports: dict[str, PortNumber] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""

    def check(self) -> Iterator[Problem]:
        if self.address.startswith("unix://"):
            yield Problem("address", "a Unix socket is not supported: pods do not share a file system")
        elif not is_address(self.address) and (wrong := host_problem(self.address, wildcard=False)):
            yield Problem("address", wrong)
        for name in self.ports:
            if not is_dns_label(name):
                yield Problem(f"ports[{name}]", "is not a name of lower-case letters, digits and dashes")
        if wrong := labels_problem(self.labels):
            yield Problem("labels", wrong)
        if self.locality.count("/") > 2:
            yield Problem("locality", f"must be REGION/ZONE/SUBZONE, not {self.locality!r}")


class ServiceEntrySpec(Model):
    """A service by its hosts. `resolution` says how its addresses are found: given here (STATIC), by DNS, or not at
    all, so that connections go where the client meant them to (NONE).
    """

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServiceEntryPort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: LabelSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "hosts")
        yield from self._host_problems()
        yield from self._address_problems()
        yield from self._port_problems()
        yield from self._endpoint_problems()
        yield from export_to_problems(self.export_to)
        if self.resolution == "DYNAMIC_DNS":
            yield Problem("resolution", "DYNAMIC_DNS is not supported yet; name the hosts and use DNS")

    def _host_problems(self) -> Iterator[Problem]:
        for index, host in enumerate(self.hosts):
            if host == "*":
                yield Problem(f"hosts[{index}]", "must name a domain, not everything")
            elif wrong := host_problem(host):
                yield Problem(f"hosts[{index}]", wrong)
            elif self.resolution.startswith("DNS") and host.startswith("*") and not self.endpoints:
                yield Problem(f"hosts[{index}]", f"DNS cannot look {host!r} up; name endpoints, or the hosts")
        if len(set(self.hosts)) < len(self.hosts):
            yield Problem("hosts", "names a host twice")

    def _address_problems(self) -> Iterator[Problem]:
        for index, address in enumerate(self.addresses):
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                said = f"must be an IP address or a block such as 10.1.0.0/16, not {address!r}"
                yield Problem(f"addresses[{index}]", said)
            if "/" in address:
                yield Problem(f"addresses[{index}]", "a block of addresses is not supported yet; list them")

    def _port_problems(self) -> Iterator[Problem]:
        yield from not_empty(self, "ports")
        names = [port.name for port in self.ports]
        numbers = [port.number for port in self.ports]
        for index, port in enumerate(self.ports):
            if port.name in names[:index]:
                yield Problem(f"ports[{index}].name", f"the name {port.name!r} is used twice")
            if port.number in numbers[:index]:
                yield Problem(f"ports[{index}].number", f"port {port.number} is there twice")
            if len(self.hosts) > 1 and self.resolution != "NONE" and port.protocol.upper() not in _BY_NAME:
                said = f"several hosts cannot be told apart on a {port.protocol} port"
                yield Problem(f"ports[{index}].protocol", said)

    def _endpoint_problems(self) -> Iterator[Problem]:
        if self.endpoints and self.workload_selector:
            yield Problem("endpoints", "cannot stand beside workloadSelector")
        if self.endpoints and self.resolution == "NONE":
            yield Problem("endpoints", "have no effect with resolution NONE")
        if self.workload_selector and self.resolution == "NONE":
            yield Problem("workloadSelector", "has no effect with resolution NONE")
        if self.resolution == "DNS_ROUND_ROBIN" and len(self.endpoints) > 1:
            yield Problem("endpoints", "must be at most one with resolution DNS_ROUND_ROBIN")
        names = {port.name for port in self.ports}
        for index, endpoint in enumerate(self.endpoints):
            if self.resolution == "STATIC" and not is_address(endpoint.address):
                said = f"must be an IP address with resolution STATIC, not {endpoint.address!r}"
                yield Problem(f"endpoints[{index}].address", said)
            for name in endpoint.ports:
                if name not in names:
                    yield Problem(f"endpoints[{index}].ports[{name}]", "is no port of this service")


def is_address(text: str) -> bool:
    """Is it an IP address (and not a name)?"""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
