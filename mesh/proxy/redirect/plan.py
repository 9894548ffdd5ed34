"""What is caught and what is let pass, in the words of Istio's annotations. Pure.

Source: istio.io, Reference, Resource Annotations, `traffic.sidecar.istio.io/...`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

ALL = "*"
PROXY_ID = 1337
"""User and group of the proxy: its own connections are not caught."""
OWN_PORTS = (15090, 15021, 15020)
"""Ports of the sidecar that the kubelet and Prometheus ask directly."""
LOOPED_BACK = "127.0.0.6"
"""Address from which the proxy connects to its own app; never caught."""


class PlanError(ValueError):
    """An option that cannot be; the message names it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One pod's redirection. IPv4: the mesh does not catch IPv6."""

    outbound_port: int = 15001
    inbound_port: int = 15006
    proxy_id: int = PROXY_ID
    include_outbound_ranges: tuple[IPv4Network, ...] | None = None
    """Destinations to catch; None: all."""
    exclude_outbound_ranges: tuple[IPv4Network, ...] = ()
    include_outbound_ports: tuple[int, ...] = ()
    """Ports to catch whatever the destination's range."""
    exclude_outbound_ports: tuple[int, ...] = ()
    include_inbound_ports: tuple[int, ...] | None = None
    """Ports to catch; None: all, () none."""
    exclude_inbound_ports: tuple[int, ...] = ()

    @property
    def passing_inbound_ports(self) -> tuple[int, ...]:
        """Ports that reach whoever listens there, app or sidecar."""
        return tuple(dict.fromkeys((*OWN_PORTS, *self.exclude_inbound_ports)))


def ports(text: str, what: str) -> tuple[int, ...]:
    """Comma-separated port numbers. Raises PlanError naming `what`."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not (part.isascii() and part.isdigit() and 0 < int(part) < 65536):
            raise PlanError(f"{what}: {part!r} is not a port number")
        found.append(int(part))
    return tuple(found)


def ports_or_all(text: str, what: str) -> tuple[int, ...] | None:
    """The same, or `*` for all (None). Raises PlanError."""
    return None if text.strip() == ALL else ports(text, what)


def ranges(text: str, what: str) -> tuple[IPv4Network, ...]:
    """Comma-separated address ranges (CIDR). Raises PlanError naming `what`."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            network = ip_network(part, strict=False)
        except ValueError:
            network = None
        if not isinstance(network, IPv4Network):
            raise PlanError(f"{what}: {part!r} is not an IPv4 range such as 10.0.0.0/8")
        found.append(network)
    return tuple(found)


def ranges_or_all(text: str, what: str) -> tuple[IPv4Network, ...] | None:
    """The same, or `*` for all (None). Raises PlanError."""
    return None if text.strip() == ALL else ranges(text, what)
