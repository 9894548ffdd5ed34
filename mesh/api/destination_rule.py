"""DestinationRule: how to talk to a service once it is chosen. Source: istio.io, Reference, Destination
Rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.client_tls import ClientTLSSettings
from mesh.api.connection_pool import ConnectionPoolSettings, HTTPSettings, OutlierDetection, RetryBudget
from mesh.api.load_balancing import LoadBalancerSettings
from mesh.api.model import Model, WorkloadSelector, export_to_problems
from mesh.api.problems import Problem
from mesh.api.routing import PortSelector
from mesh.api.scalars import host_problem, is_dns_label, labels_problem


class PortTrafficPolicy(Model):
    """What differs on one port; for that port it replaces the whole policy above it, as Istio documents."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class ProxyProtocol(Model):
    """Tell the server the client's address in a PROXY protocol header before the first byte."""

    version: Literal["V1", "V2"] = "V1"


class TrafficPolicy(Model):
    unsupported: ClassVar[Mapping[str, str]] = {
        "tunnel": "TCP through an HTTP CONNECT proxy is not built; use a ServiceEntry for the proxy itself",
    }

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None

    def check(self) -> Iterator[Problem]:
        ports = [setting.port.number for setting in self.port_level_settings]
        for index, number in enumerate(ports):
            if number in ports[:index]:
                yield Problem(f"portLevelSettings[{index}].port.number", f"port {number} is there twice")

    @property
    def levels(self) -> tuple[TrafficPolicy | PortTrafficPolicy, ...]:
        """The policy itself and its settings for ports."""
        return (self, *self.port_level_settings)


class Subset(Model):
    """A named part of the service's endpoints: those whose pods carry these labels."""

    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None

    def check(self) -> Iterator[Problem]:
        if not is_dns_label(self.name):
            yield Problem("name", f"{self.name!r} is not a name of lower-case letters, digits and dashes")
        if wrong := labels_problem(self.labels):
            yield Problem("labels", wrong)


class DestinationRuleSpec(Model):
    """`workloadSelector` says for which clients of its own namespace it holds; without one, for all."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None

    def check(self) -> Iterator[Problem]:
        if wrong := host_problem(self.host):
            yield Problem("host", wrong)
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(f"subsets[{index}].name", f"the subset {name!r} is defined twice")
        yield from export_to_problems(self.export_to)
        if self.workload_selector and self.export_to not in ((), (".",)):
            yield Problem("exportTo", 'a rule with a workloadSelector holds in its own namespace only (".")')

    @property
    def client_labels(self) -> Mapping[str, str]:
        """Labels a client must have for the rule to hold; empty: any client."""
        return self.workload_selector.match_labels if self.workload_selector else {}

    @property
    def policies(self) -> Iterator[TrafficPolicy]:
        """The rule's own policy and those of its subsets."""
        if self.traffic_policy:
            yield self.traffic_policy
        yield from (subset.traffic_policy for subset in self.subsets if subset.traffic_policy)

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)


__all__ = [
    "ClientTLSSettings",
    "ConnectionPoolSettings",
    "DestinationRuleSpec",
    "HTTPSettings",
    "LoadBalancerSettings",
    "OutlierDetection",
    "PortTrafficPolicy",
    "RetryBudget",
    "Subset",
    "TrafficPolicy",
]
