"""From a request to its route: virtual hosts by name, then the first route whose conditions all hold.

Second step of a request, after its head is read. A `RouteTable` is compiled from one `RouteConfiguration`
(by `config.routes`) and never changes; new configuration is a new table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mesh.proxy.headers import HeaderEdits

if TYPE_CHECKING:
    from re import Pattern

    from mesh.proxy.actions import Action
    from mesh.proxy.exchange import Exchange

Condition = Callable[["Exchange"], bool]
"""One thing a route asks of a request."""


class RouteTable:
    """All virtual hosts of one listener."""

    __slots__ = ("_exact", "_found", "_prefixes", "_suffixes", "_wildcard", "ignore_port", "name", "version")

    def __init__(self, name: str, hosts: Sequence[VirtualHost], ignore_port: bool = False) -> None:
        self.name = name
        self.version = ""
        self.ignore_port = ignore_port
        self._exact: dict[bytes, VirtualHost] = {}
        self._wildcard: VirtualHost | None = None
        suffixes: list[tuple[bytes, VirtualHost]] = []
        prefixes: list[tuple[bytes, VirtualHost]] = []
        for host in hosts:
            for domain in host.domains:
                if domain == b"*":
                    self._wildcard = host
                elif domain.startswith(b"*"):
                    suffixes.append((domain[1:], host))
                elif domain.endswith(b"*"):
                    prefixes.append((domain[:-1], host))
                else:
                    self._exact[domain] = host
        self._suffixes = sorted(suffixes, key=lambda pair: -len(pair[0]))
        self._prefixes = sorted(prefixes, key=lambda pair: -len(pair[0]))
        self._found: dict[bytes, VirtualHost | None] = {}

    def find(self, exchange: Exchange) -> Route | None:
        """The route for this request, or None."""
        authority = exchange.authority
        try:
            host = self._found[authority]
        except KeyError:
            host = self.host(authority)
            if len(self._found) < 4096:
                self._found[authority] = host
        if host is None:
            return None
        if host.require_tls is not None and exchange.forwarded_proto != b"https":
            return host.require_tls
        for route in host.routes:
            if route.matches(exchange):
                return route
        return None

    def host(self, authority: bytes) -> VirtualHost | None:
        """The virtual host for a Host header: exact, longest suffix, longest prefix, `*`
        (Envoy's `VirtualHost.domains`).
        """
        name = authority.lower()
        if self.ignore_port:
            name = without_port(name)
        if name in self._exact:
            return self._exact[name]
        for suffix, host in self._suffixes:
            if name.endswith(suffix) and len(name) > len(suffix):
                return host
        for prefix, host in self._prefixes:
            if name.startswith(prefix) and len(name) > len(prefix):
                return host
        return self._wildcard


def without_port(authority: bytes) -> bytes:
    name, colon, port = authority.rpartition(b":")
    return name if colon and port.isdigit() and not name.endswith(b":") else authority


class VirtualHost:
    """Domains and their routes, in order."""

    __slots__ = ("domains", "name", "require_tls", "routes")

    def __init__(
        self, name: str, domains: Sequence[bytes], routes: Sequence[Route], require_tls: Route | None = None
    ) -> None:
        self.name = name
        self.require_tls = require_tls
        """The route, a redirect, for requests that came without TLS; None if they are welcome."""
        self.domains = tuple(domain.lower() for domain in domains)
        self.routes = tuple(routes)


class Path:
    """The path condition of a route, one of Envoy's `prefix`, `path`, `safe_regex`,
    `path_separated_prefix`. The query string never counts."""

    __slots__ = ("ignore_case", "kind", "pattern", "value")

    def __init__(
        self, kind: str, value: bytes, ignore_case: bool = False, pattern: Pattern[bytes] | None = None
    ) -> None:
        self.kind = kind
        self.value = value.lower() if ignore_case else value
        self.ignore_case = ignore_case
        self.pattern = pattern

    def compile(self) -> Callable[[bytes], bool] | None:
        """A test of the path, or None if every path passes."""
        value, kind = self.value, self.kind
        if kind == "regex":
            assert self.pattern is not None
            full = self.pattern.fullmatch
            return lambda path: full(path) is not None
        if kind == "prefix":
            if not value:
                return None
            test: Callable[[bytes], bool] = lambda path: path.startswith(value)  # noqa: E731
        elif kind == "exact":
            test = lambda path: path == value  # noqa: E731
        else:
            start = value + b"/"
            test = lambda path: path == value or path.startswith(start)  # noqa: E731
        if self.ignore_case:
            return lambda path: test(path.lower())
        return test

    def replace(self, path: bytes, by: bytes) -> bytes:
        """`prefix_rewrite`: the part of the path that matched gives way."""
        return by if self.kind == "exact" else by + path[len(self.value) :]


class Route:
    """Conditions, and what to do when they hold."""

    __slots__ = (
        "_conditions",
        "_path",
        "action",
        "edits",
        "filter_config",
        "name",
        "path",
        "virtual_host",
    )

    def __init__(
        self,
        name: str,
        path: Path,
        conditions: Sequence[Condition],
        action: Action,
        edits: HeaderEdits,
        filter_config: dict[str, object] | None = None,
        virtual_host: str = "",
    ) -> None:
        self.name = name
        self.path = path
        self.action = action
        self.edits = edits
        self.filter_config = filter_config or {}
        self.virtual_host = virtual_host
        self._path = path.compile()
        self._conditions = tuple(conditions)

    def matches(self, exchange: Exchange) -> bool:
        """Whether path and all conditions hold."""
        test = self._path
        if test is not None and not test(exchange.path):
            return False
        for condition in self._conditions:  # noqa: SIM110 a generator costs more than the loop
            if not condition(exchange):
                return False
        return True
