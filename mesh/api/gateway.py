"""Gateway: the ports and hosts at the edge of the mesh. Source: istio.io, Reference, Gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from mesh.api.model import Model, not_empty
from mesh.api.problems import Problem
from mesh.api.scalars import PortNumber, host_problem, is_dns_label, labels_problem
from mesh.api.server_tls import ServerTLSSettings
from mesh.api.service_entry import is_address

PLAIN_HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
TLS = ("HTTPS", "TLS")
_OTHER = ("TCP", "MONGO", "MYSQL", "REDIS")


class Port(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"targetPort": "Istio deprecates it: the Service maps ports"}

    number: PortNumber
    protocol: str
    name: str = Field(min_length=1)

    @property
    def is_http(self) -> bool:
        """HTTP in the clear."""
        return self.protocol.upper() in PLAIN_HTTP

    @property
    def is_tls(self) -> bool:
        return self.protocol.upper() in TLS

    def check(self) -> Iterator[Problem]:
        known = (*PLAIN_HTTP, *TLS, *_OTHER)
        if self.protocol.upper() not in known:
            yield Problem("protocol", f"must be one of {', '.join(known)}, not {self.protocol!r}")


class Server(Model):
    """One port of the gateway and the hosts it answers for (`*` for any, `namespace/host` to restrict
    routes).
    """

    unsupported: ClassVar[Mapping[str, str]] = {"defaultEndpoint": "Istio does not honour it either"}

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    name: str = ""

    @property
    def terminates(self) -> bool:
        """Does the gateway itself speak TLS here?"""
        return self.port.is_tls and self.tls is not None and self.tls.mode != "PASSTHROUGH"

    @property
    def serves_http(self) -> bool:
        """Is what arrives (or is in the TLS that ends here) HTTP?"""
        return self.port.is_http or (self.port.protocol.upper() == "HTTPS" and self.terminates)

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "hosts")
        for index, entry in enumerate(self.hosts):
            namespace, slash, host = entry.rpartition("/")
            if wrong := host_problem(host):
                yield Problem(f"hosts[{index}]", wrong)
            elif slash and namespace not in ("*", ".") and not is_dns_label(namespace):
                yield Problem(f"hosts[{index}]", f"{namespace!r} is not the name of a namespace")
            elif self.port.is_tls and host.startswith("*") and host[1:2] not in ("", "."):
                yield Problem(f"hosts[{index}]", f"a server name can be NAME, *.NAME or *, not {host!r}")
        if self.bind and not is_address(self.bind):
            yield Problem("bind", f"must be an IP address, not {self.bind!r}")
        yield from self._tls_problems()

    def _tls_problems(self) -> Iterator[Problem]:
        if self.port.is_tls and self.tls is None:
            yield Problem("tls", f"is required for protocol {self.port.protocol}")
        if self.tls is None or self.port.is_tls:
            if self.tls and self.tls.https_redirect:
                yield Problem("tls.httpsRedirect", "is for HTTP servers: it sends their clients to HTTPS")
            return
        if not self.port.is_http:
            yield Problem("tls", f"cannot be for protocol {self.port.protocol}; use TLS or HTTPS")
        elif self.tls.mode != "PASSTHROUGH" or not self.tls.https_redirect:
            yield Problem("tls", "on an HTTP server can only be httpsRedirect; use protocol HTTPS")


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
