"""From a request to its route: virtual hosts by name, then the first route whose conditions all hold.

Second step of a request, after its head is read. A `RouteTable` is compiled from one `RouteConfiguration`
(by `config.routes`) and never changes; new configuration is a new table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import random
from typing import TYPE_CHECKING

from mesh.proxy.hashing import key_of
from mesh.proxy.headers import HeaderEdits
from mesh.proxy.reply import LocalReply
from mesh.proxy.retry import RetryPolicy

if TYPE_CHECKING:
    from re import Pattern

    from mesh.proxy.exchange import Exchange
    from mesh.proxy.hashing import HashPolicy

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

    __slots__ = ("domains", "name", "routes")

    def __init__(self, name: str, domains: Sequence[bytes], routes: Sequence[Route]) -> None:
        self.name = name
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


class Action:
    """What a route does with a request."""

    __slots__ = ()
    timeout = 0.0
    hash_policies: tuple[HashPolicy, ...] = ()

    def answer(self, exchange: Exchange) -> LocalReply | None:
        """The answer, if it is given here; None if the request goes on to a cluster."""
        raise NotImplementedError


class Direct(Action):
    """`direct_response`: a fixed answer."""

    __slots__ = ("_reply",)

    def __init__(self, status: int, body: bytes) -> None:
        self._reply = LocalReply(status, body, details="direct_response")

    def answer(self, exchange: Exchange) -> LocalReply | None:
        return self._reply


class Redirect(Action):
    """`redirect`: go and ask elsewhere."""

    __slots__ = ("host", "path", "port", "prefix_rewrite", "scheme", "status", "strip_query")

    def __init__(
        self,
        status: int,
        *,
        scheme: bytes = b"",
        host: bytes = b"",
        port: int = 0,
        path: bytes = b"",
        prefix_rewrite: bytes | None = None,
        strip_query: bool = False,
    ) -> None:
        self.status = status
        self.scheme = scheme
        self.host = host
        self.port = port
        self.path = path
        self.prefix_rewrite = prefix_rewrite
        self.strip_query = strip_query

    def answer(self, exchange: Exchange) -> LocalReply | None:
        headers = ((b"location", self.location(exchange)),)
        return LocalReply(self.status, b"", headers=headers, details="direct_response")

    def location(self, exchange: Exchange) -> bytes:
        """Where to: what the redirect does not name stays as the client asked."""
        scheme = self.scheme or exchange.forwarded_proto or b"http"
        host = exchange.authority
        if self.host or self.port or self.scheme:
            host = self.host or without_port(host)
            if self.port:
                host += b":%d" % self.port
        path, mark, query = exchange.target.partition(b"?")
        if self.path:
            path = self.path
        elif self.prefix_rewrite is not None and exchange.route is not None:
            path = exchange.route.path.replace(path, self.prefix_rewrite)
        if self.strip_query or b"?" in self.path:
            mark = query = b""
        return scheme + b"://" + host + path + mark + query


class Share:
    """One of the clusters a route sends to: its name and weight, and what changes for its requests.

    `edits` are all header changes: its own, then those of route, virtual host and table.
    """

    __slots__ = ("cluster", "edits", "host_rewrite", "weight")

    def __init__(
        self, cluster: str, weight: int, edits: HeaderEdits, host_rewrite: bytes | None = None
    ) -> None:
        self.cluster = cluster
        self.weight = weight
        self.edits = edits
        self.host_rewrite = host_rewrite


class Mirror:
    """Where copies of a share of the requests go (`request_mirror_policies`)."""

    __slots__ = ("route", "share")

    def __init__(self, cluster: str, share: float, timeout: float = 15.0) -> None:
        self.share = share
        forward = Forward([Share(cluster, 1, HeaderEdits())], timeout=timeout)
        self.route = Route("shadow", Path("prefix", b""), (), forward, HeaderEdits())


class Forward(Action):
    """`route`: on to a cluster, or to one of several by weight."""

    __slots__ = (
        "_bounds",
        "_only",
        "_shares",
        "_total",
        "cluster_not_found",
        "count_attempts",
        "expected_timeout",
        "hash_policies",
        "mirrors",
        "prefix_rewrite",
        "regex_rewrite",
        "retry",
        "sticky",
        "timeout",
    )

    def __init__(
        self,
        shares: Sequence[Share],
        *,
        timeout: float = 15.0,
        retry: RetryPolicy | None = None,
        prefix_rewrite: bytes | None = None,
        regex_rewrite: tuple[Pattern[bytes], bytes] | None = None,
        mirrors: Sequence[Mirror] = (),
        hash_policies: Sequence[HashPolicy] = (),
        sticky: bool = False,
        count_attempts: bool = False,
        cluster_not_found: int = 503,
    ) -> None:
        self._shares = [share for share in shares if share.weight > 0]
        self._only = self._shares[0] if len(self._shares) == 1 else None
        self._bounds = list(accumulate(share.weight for share in self._shares))
        self._total = self._bounds[-1]
        self.timeout = timeout
        self.retry = retry
        self.prefix_rewrite = prefix_rewrite
        self.regex_rewrite = regex_rewrite
        self.mirrors = tuple(mirrors)
        self.hash_policies = tuple(hash_policies)
        self.sticky = sticky
        self.count_attempts = count_attempts
        self.cluster_not_found = cluster_not_found
        self.expected_timeout = (
            b"x-envoy-expected-rq-timeout-ms: %d" % (timeout * 1000) if timeout > 0 else None
        )

    def answer(self, exchange: Exchange) -> LocalReply | None:
        return None

    def draw(self, exchange: Exchange) -> float:
        """A number in [0, 1): the user's own where the split is sticky (`use_hash_policy`), else a random one."""
        if self.sticky:
            key = key_of(exchange, self.hash_policies)
            if key is not None:
                return (key % self._total + 0.5) / self._total  # the middle, so that no rounding leaves it
        return random()

    def choose(self, draw: float) -> Share:
        """The cluster: the request's draw in [0, 1) falls into one of the weights' intervals."""
        if self._only is not None:
            return self._only
        return self._shares[bisect_right(self._bounds, draw * self._total)]

    def rewrite(self, exchange: Exchange) -> None:
        """`prefix_rewrite`, `regex_rewrite`."""
        if self.prefix_rewrite is None and self.regex_rewrite is None:
            return
        path, mark, query = exchange.target.partition(b"?")
        if self.prefix_rewrite is not None and exchange.route is not None:
            path = exchange.route.path.replace(path, self.prefix_rewrite)
        elif self.regex_rewrite is not None:
            pattern, by = self.regex_rewrite
            path = pattern.sub(by, path)
        exchange.headers.append((b"x-envoy-original-path", exchange.target))
        exchange.target = path + mark + query
