"""Sidecar: what the proxies of a namespace (or of some workloads) see of the mesh. Source: istio.io, Reference,
Sidecar.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from mesh.api.connection_pool import ConnectionPoolSettings
from mesh.api.model import Model, not_empty
from mesh.api.problems import Problem
from mesh.api.routing import Destination
from mesh.api.scalars import PortNumber, host_problem, is_dns_label
from mesh.api.service_entry import PROTOCOLS, LabelSelector, is_address

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"targetPort": "Istio refuses it too: it has no effect here"}

    number: PortNumber
    protocol: str
    name: str = ""

    def check(self) -> Iterator[Problem]:
        if self.protocol.upper() not in PROTOCOLS - {"UDP"}:
            yield Problem("protocol", f"{self.protocol!r} is no protocol such as HTTP, GRPC, TLS or TCP")
        if self.name and not is_dns_label(self.name):
            yield Problem("name", f"{self.name!r} is not a name of lower-case letters, digits and dashes")


class IngressListener(Model):
    """A port of the workload, and where behind the proxy the app listens (`defaultEndpoint`)."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "tls": "inbound TLS is the mesh's own",
        "bind": "the proxy listens on the pod's address",
        "captureMode": "the mesh's interception holds for all of a pod's ports",
    }

    port: SidecarPort
    default_endpoint: str = ""
    connection_pool: ConnectionPoolSettings | None = None

    def check(self) -> Iterator[Problem]:
        if self.default_endpoint and self.target is None:
            said = f"must be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or :PORT, not {self.default_endpoint!r}"
            yield Problem("defaultEndpoint", said)

    @property
    def target(self) -> tuple[str, int] | None:
        """Address ("" for the app's own) and port of `defaultEndpoint`."""
        host, _, port = self.default_endpoint.rpartition(":")
        if host not in ("", "127.0.0.1", "0.0.0.0", "[::1]", "[::]") or not port.isdigit():
            return None
        return ("", int(port)) if 1 <= int(port) <= 65535 else None


class EgressListener(Model):
    """Which services (`namespace/host`) the app may call; with `port`, on that port only."""

    hosts: tuple[str, ...]
    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "hosts")
        yield from _bind_problem(self.bind)
        if self.bind and self.port is None:
            yield Problem("bind", "needs a port")
        for index, entry in enumerate(self.hosts):
            namespace, slash, host = entry.partition("/")
            if not slash:
                yield Problem(f"hosts[{index}]", f"must be NAMESPACE/HOST, not {entry!r}")
            elif namespace not in ("*", ".", "~") and not is_dns_label(namespace):
                yield Problem(f"hosts[{index}]", f"{namespace!r} is not the name of a namespace, *, . or ~")
            elif wrong := host_problem(host):
                yield Problem(f"hosts[{index}]", wrong)


def _bind_problem(bind: str) -> Iterator[Problem]:
    if bind and not is_address(bind):
        yield Problem("bind", f"must be an IP address, not {bind!r}")


class OutboundTrafficPolicy(Model):
    """What happens to requests to hosts nobody knows: passed on (perhaps by way of `egressProxy`), or refused."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None

    def check(self) -> Iterator[Problem]:
        if self.egress_proxy and self.mode != "ALLOW_ANY":
            yield Problem("egressProxy", "needs mode ALLOW_ANY")
        if self.egress_proxy and self.egress_proxy.port is None:
            yield Problem("egressProxy.port", "is required")


class SidecarSpec(Model):
    workload_selector: LabelSelector | None = None
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None

    def check(self) -> Iterator[Problem]:
        said = (self.ingress, self.egress, self.inbound_connection_pool, self.outbound_traffic_policy)
        if not any(said):
            yield Problem("", "needs at least one of ingress, egress and outboundTrafficPolicy")
        if self.ingress and not (self.workload_selector and self.workload_selector.labels):
            yield Problem("ingress", "needs a workloadSelector: ports belong to workloads")
        for name, ports in (
            ("ingress", [listener.port.number for listener in self.ingress]),
            ("egress", [listener.port.number if listener.port else 0 for listener in self.egress]),
        ):
            for index, port in enumerate(ports):
                if port in ports[:index]:
                    yield Problem(
                        f"{name}[{index}].port", f"port {port} is there twice" if port else "is required"
                    )
        for index, listener in enumerate(self.egress[:-1]):
            if listener.port is None:
                yield Problem(f"egress[{index}]", "has no port, so it must be the last one")
