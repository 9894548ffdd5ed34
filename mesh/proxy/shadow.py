"""Copies of requests for another cluster, whose answers nobody waits for (`request_mirror_policies`).

A copy is an exchange like any other from the moment it is sent on, only that its client is a `_Nobody`. It starts
when the original has been received whole; a body too large to hold is not mirrored.
"""

from __future__ import annotations

import asyncio
from random import random
from typing import TYPE_CHECKING, Any, cast

from mesh.proxy import router

if TYPE_CHECKING:
    from mesh.proxy.actions import Forward
    from mesh.proxy.codec import ServerConnection
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.hcm import HttpChain
    from mesh.proxy.routes import Route


class _Sink:
    """A transport that forgets what is written."""

    __slots__ = ()

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class _NobodysChain:
    """What an exchange asks of its filter chain, without records: a copy is no request of a client."""

    __slots__ = ("clusters", "draining", "on_finish", "settings", "upstream_lines")

    def __init__(self, chain: HttpChain) -> None:
        self.clusters = chain.clusters
        self.settings = chain.settings
        self.upstream_lines = chain.upstream_lines
        self.draining = False
        self.on_finish = ()


class _Nobody:
    """The client of a copy."""

    __slots__ = (
        "closing",
        "current",
        "feeding",
        "http",
        "local",
        "peer",
        "remote",
        "tls",
        "transport",
        "write_paused",
    )

    def __init__(self, original: ServerConnection) -> None:
        self.http = _NobodysChain(original.http)
        self.transport = _Sink()
        self.remote, self.local = original.remote, original.local
        self.peer, self.tls = original.peer, original.tls
        self.closing = self.feeding = self.write_paused = False
        self.current: Any = None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def exchange_done(self, reusable: bool) -> None: ...


def mirror(original: Exchange, action: Forward) -> None:
    """Send the copies that the route's policies want. The original has its final head and its whole body."""
    loop = asyncio.get_running_loop()
    for policy in action.mirrors:
        if random() < policy.share:
            loop.call_soon(_send, _copy(original), policy.route)


def _copy(original: Exchange) -> Exchange:
    copy = type(original)(cast("ServerConnection", _Nobody(original.conn)))
    copy.method, copy.target = original.method, original.target
    copy.authority = shadow_host(original.authority)
    copy.headers = list(original.headers)
    copy.http11 = copy.complete = True
    copy.has_body, copy.chunked = original.has_body, original.chunked
    copy.body = list(original.body)
    return copy


def _send(copy: Exchange, route: Route) -> None:
    share = cast("Forward", route.action).choose(0.0)
    cluster = copy.http.clusters.get(share.cluster)
    if cluster is None or cluster.spec.http2:
        return
    copy.route, copy.cluster = route, cluster
    router.start_timers(copy)
    router.attempt(copy)


def shadow_host(authority: bytes) -> bytes:
    """The host of a copy, so that the other side can tell: `-shadow` after the name, as Envoy writes it."""
    name, colon, port = authority.rpartition(b":")
    if colon and port.isdigit():
        return name + b"-shadow:" + port
    return authority + b"-shadow"
