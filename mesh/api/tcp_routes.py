"""Routes for connections that are not HTTP, as VirtualService writes them: by SNI (`tls`), by port (`tcp`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from mesh.api.model import Model, not_empty
from mesh.api.problems import Problem
from mesh.api.routing import Destination
from mesh.api.scalars import Natural, PortNumber, host_problem, is_dns_label, labels_problem


class RouteDestination(Model):
    """One version to send connections to, and its share."""

    destination: Destination
    weight: Natural | None = None


class L4MatchAttributes(Model):
    """All conditions given must hold."""

    unsupported: ClassVar[Mapping[str, str]] = {"sourceSubnet": "Istio does not honour it either"}

    destination_subnets: tuple[str, ...] = ()
    port: PortNumber | None = None
    source_labels: dict[str, str] = Field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""

    def check(self) -> Iterator[Problem]:
        for index, block in enumerate(self.destination_subnets):
            try:
                ipaddress.ip_network(block, strict=False)
            except ValueError:
                said = f"must be an IP address or a block such as 10.1.0.0/16, not {block!r}"
                yield Problem(f"destinationSubnets[{index}]", said)
        if wrong := labels_problem(self.source_labels):
            yield Problem("sourceLabels", wrong)
        if self.source_namespace and not is_dns_label(self.source_namespace):
            yield Problem("sourceNamespace", f"{self.source_namespace!r} is not the name of a namespace")


class TLSMatchAttributes(L4MatchAttributes):
    """As for TCP, and the server name the client asks for (SNI)."""

    unsupported: ClassVar[Mapping[str, str]] = {}

    sni_hosts: tuple[str, ...]

    def check(self) -> Iterator[Problem]:
        yield from super().check()
        yield from not_empty(self, "sni_hosts")
        for index, host in enumerate(self.sni_hosts):
            if wrong := host_problem(host):
                yield Problem(f"sniHosts[{index}]", wrong)


def _weights(route: tuple[RouteDestination, ...]) -> Iterator[Problem]:
    weights = [target.weight or 0 for target in route]
    if len(weights) > 1 and sum(weights) == 0:
        yield Problem("route", "all weights are 0, so no destination would get a connection")
    if sum(weights) > 2**32 - 1:
        yield Problem("route", "the weights sum up to more than 4294967295")


class TCPRoute(Model):
    """If any of `match` holds (or there is none), connections go there. The first route that fits decides."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "route")
        yield from _weights(self.route)


class TLSRoute(Model):
    """TLS connections that are passed on as they are, told apart by the server name."""

    match: tuple[TLSMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "match", "route")
        yield from _weights(self.route)
