"""DestinationRule: how to talk to a service once it is chosen. Source: istio.io, Reference, Destination
Rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.model import Model, export_to_problems
from mesh.api.problems import Problem
from mesh.api.routing import PortSelector
from mesh.api.scalars import (
    Bool,
    Duration,
    Natural,
    PercentInt,
    UInt32,
    host_problem,
    is_dns_label,
    labels_problem,
)


class LoadBalancerSettings(Model):
    """How to choose among endpoints. LEAST_REQUEST is what Istio does when nothing is said."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "consistentHash": "",
        "localityLbSetting": "",
        "zoneAwareLbSetting": "",
        "warmupDurationSecs": "",
        "warmup": "",
    }
    simple: Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "ROUND_ROBIN", "LEAST_REQUEST"] = "UNSPECIFIED"


class TCPSettings(Model):
    unsupported: ClassVar[Mapping[str, str]] = {
        "tcpKeepalive": "",
        "maxConnectionDuration": "",
        "idleTimeout": "",
    }
    max_connections: Natural | None = None
    connect_timeout: Duration | None = None


class HTTPSettings(Model):
    unsupported: ClassVar[Mapping[str, str]] = {
        "h2UpgradePolicy": "",
        "useClientProtocol": "",
        "maxConcurrentStreams": "",
        "http2KeepAlive": "",
    }
    http1_max_pending_requests: Natural | None = None
    http2_max_requests: Natural | None = None
    max_requests_per_connection: Natural | None = None
    max_retries: Natural | None = None
    idle_timeout: Duration | None = None


class ConnectionPoolSettings(Model):
    """Limits towards one service, for each client proxy; what is beyond is refused at once with 503 (flag
    UO).
    """

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Model):
    """When to put an endpoint aside because it keeps failing, and for how long."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "consecutiveErrors": "Istio deprecates it too: use consecutive5xxErrors",
        "splitExternalLocalOriginErrors": "",
        "consecutiveLocalOriginFailures": "",
        "outlierDetectionHttpErrorCodes": "",
    }
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = Field(default=None, alias="consecutive5xxErrors")
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: PercentInt | None = None
    min_health_percent: PercentInt | None = None


class ClientTLSSettings(Model):
    """TLS towards the service. ISTIO_MUTUAL uses the workload's own certificate."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "clientCertificate": "",
        "privateKey": "",
        "caCertificates": "",
        "credentialName": "",
        "caCrl": "",
    }
    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: Bool | None = None

    def check(self) -> Iterator[Problem]:
        if self.mode == "MUTUAL":
            yield Problem("mode", "MUTUAL (with own certificates) is not supported yet; use ISTIO_MUTUAL")
        if self.insecure_skip_verify and self.subject_alt_names:
            yield Problem("subjectAltNames", "would not be checked, since insecureSkipVerify is true")
        if self.sni and (wrong := host_problem(self.sni, wildcard=False)):
            yield Problem("sni", wrong)


class PortTrafficPolicy(Model):
    """What differs on one port; for that port it replaces the whole policy above it, as Istio documents."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TrafficPolicy(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"tunnel": "", "proxyProtocol": "", "retryBudget": ""}

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()

    def check(self) -> Iterator[Problem]:
        ports = [setting.port.number for setting in self.port_level_settings]
        for index, number in enumerate(ports):
            if number in ports[:index]:
                yield Problem(f"portLevelSettings[{index}].port.number", f"port {number} is there twice")


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
    unsupported: ClassVar[Mapping[str, str]] = {"workloadSelector": ""}

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()

    def check(self) -> Iterator[Problem]:
        if wrong := host_problem(self.host):
            yield Problem("host", wrong)
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(f"subsets[{index}].name", f"the subset {name!r} is defined twice")
        yield from export_to_problems(self.export_to)

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)
