"""What a route does with a request: a fixed answer, a redirect, or on to a cluster (Envoy's `Route.action`).

Compiled by `config.routes`; `router` asks when all filters have let the request pass.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import random
from typing import TYPE_CHECKING

from mesh.proxy.hashing import key_of
from mesh.proxy.headers import HeaderEdits
from mesh.proxy.reply import LocalReply
from mesh.proxy.retry import RetryPolicy
from mesh.proxy.routes import Path, Route, without_port

if TYPE_CHECKING:
    from re import Pattern

    from mesh.proxy.exchange import Exchange
    from mesh.proxy.hashing import HashPolicy


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
