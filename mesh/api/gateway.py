"""Gateway: the ports and hosts at the edge of the mesh. Source: istio.io, Reference, Gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from mesh.api.model import Model, not_empty
from mesh.api.problems import Problem
from mesh.api.scalars import PortNumber, host_problem, is_dns_label, labels_problem

_PLAIN_HTTP = ("HTTP", "HTTP2", "GRPC")
_OTHER = ("HTTPS", "TLS", "TCP", "MONGO", "GRPC-WEB")


class Port(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"targetPort": "Istio deprecates it: the Service maps ports"}

    number: PortNumber
    protocol: str
    name: str = Field(min_length=1)

    def check(self) -> Iterator[Problem]:
        protocol = self.protocol.upper()
        if protocol in _OTHER:
            yield Problem("protocol", f"{protocol} is not supported yet; HTTP, HTTP2 and GRPC are")
        elif protocol not in _PLAIN_HTTP:
            yield Problem("protocol", f"must be one of {', '.join(_PLAIN_HTTP)}, not {self.protocol!r}")


class Server(Model):
    """One port of the gateway and the hosts it answers for (`*` for any, `namespace/host` to restrict
    routes).
    """

    unsupported: ClassVar[Mapping[str, str]] = {"tls": "", "bind": "", "defaultEndpoint": ""}

    port: Port
    hosts: tuple[str, ...]
    name: str = ""

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "hosts")
        for index, entry in enumerate(self.hosts):
            namespace, slash, host = entry.rpartition("/")
            if wrong := host_problem(host):
                yield Problem(f"hosts[{index}]", wrong)
            elif slash and namespace not in ("*", ".") and not is_dns_label(namespace):
                yield Problem(f"hosts[{index}]", f"{namespace!r} is not the name of a namespace")


class GatewaySpec(Model):
    servers: tuple[Server, ...]
    selector: dict[str, str] = Field(default_factory=dict)

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "servers")
        if wrong := labels_problem(self.selector):
            yield Problem("selector", wrong)
        names = [server.port.name for server in self.servers]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(f"servers[{index}].port.name", f"the port name {name!r} is used twice")
