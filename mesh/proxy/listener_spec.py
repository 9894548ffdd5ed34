"""A listener as LDS tells it: where it listens, and which filter chain takes which connection. Immutable.

Made by `config.listeners`, run by `listener`.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from mesh.proxy.hello import ClientHello

if TYPE_CHECKING:
    from mesh.proxy.hcm import HttpSpec
    from mesh.proxy.tcp import TcpSpec
    from mesh.proxy.tls import DownstreamTls

Network = IPv4Network | IPv6Network

INSPECT_SECONDS = 15.0
"""Time a client has for its first bytes (Envoy's `listener_filters_timeout`)."""


class ChainMatch:
    """Which connections a filter chain takes (Envoy's `FilterChainMatch`). Empty fields take all."""

    __slots__ = ("alpn", "networks", "port", "server_names", "transport")

    def __init__(
        self,
        transport: str = "",
        alpn: Sequence[str] = (),
        server_names: Sequence[str] = (),
        port: int = 0,
        networks: Sequence[Network] = (),
    ) -> None:
        self.port = port
        self.networks = tuple(networks)
        self.transport = transport
        self.alpn = tuple(alpn)
        self.server_names = tuple(name.lower() for name in server_names)

    def score(self, hello: ClientHello | None) -> tuple[int, int, int] | None:
        """How closely it fits: server name, then transport, then ALPN, Envoy's order. None: not at all."""
        name = self._name_score(hello.server_name if hello else "")
        if name is None:
            return None
        transport = "tls" if hello else "raw_buffer"
        if self.transport and self.transport != transport:
            return None
        if self.alpn and not (hello and set(self.alpn) & set(hello.alpn)):
            return None
        return (name, 1 if self.transport else 0, 1 if self.alpn else 0)

    def network_score(self, address: str) -> int | None:
        """The length of the longest of its prefixes around the address, 0 without any, None if none fits."""
        if not self.networks:
            return 0
        own = ip_address(address)
        return max((1 + net.prefixlen for net in self.networks if own in net), default=None)

    def _name_score(self, server_name: str) -> int | None:
        if not self.server_names:
            return 0
        scores = [len(own) for own in self.server_names if _name_fits(own, server_name)]
        return max(scores, default=None)


def _name_fits(own: str, server_name: str) -> bool:
    return own == server_name or (own.startswith("*.") and server_name.endswith(own[1:]))


class ChainSpec:
    """One filter chain as LDS tells it: a match, TLS or none, HTTP or TCP. Immutable."""

    __slots__ = ("door", "http", "match", "name", "tcp", "tls")

    def __init__(
        self,
        name: str,
        match: ChainMatch,
        tls: DownstreamTls | None,
        http: HttpSpec | None,
        tcp: TcpSpec | None,
        *,
        door: bytes = b"",
    ) -> None:
        self.name = name
        self.match = match
        self.tls = tls
        self.http = http
        self.tcp = tcp
        self.door = door
        """Match and TLS as served: chains with the same door let the same clients in, on the same terms."""


class ListenerSpec:
    """One listener as LDS tells it. Immutable."""

    __slots__ = (
        "address",
        "bound",
        "chains",
        "default_chain",
        "direction",
        "hands_off",
        "inspect_seconds",
        "inspect_tls",
        "name",
        "original_destination",
        "version",
        "waits_for_hello",
    )

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        chains: Sequence[ChainSpec],
        *,
        default_chain: ChainSpec | None = None,
        inspect_tls: bool = False,
        inspect_seconds: float = INSPECT_SECONDS,
        waits_for_hello: bool = True,
        direction: str = "UNSPECIFIED",
        bound: bool = True,
        original_destination: bool = False,
        hands_off: bool = False,
    ) -> None:
        self.name = name
        self.address = address
        self.chains = tuple(chains)
        self.default_chain = default_chain
        self.inspect_tls = inspect_tls
        self.inspect_seconds = inspect_seconds
        self.waits_for_hello = waits_for_hello
        """False: who says nothing for `inspect_seconds` is served as plaintext (a protocol whose server speaks
        first), Envoy's `continue_on_listener_filters_timeout`."""
        self.direction = direction
        self.bound = bound
        """False: no socket of its own; another listener hands over what was meant for its address."""
        self.original_destination = original_destination
        """Connections come redirected: ask the kernel whom the client meant."""
        self.hands_off = hands_off
        """Give a connection to the unbound listener of its destination, where there is one."""
        self.version = ""

    @property
    def all_chains(self) -> tuple[ChainSpec, ...]:
        return self.chains if self.default_chain is None else (*self.chains, self.default_chain)
