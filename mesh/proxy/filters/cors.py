"""Cross-origin requests (Envoy's `envoy.filters.http.cors`; Fetch standard, section 3.2).

Answers a browser's preflight for the route's `cors` policy and marks the answer of a request whose origin is
allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mesh.proxy.filters import Filter, Verdict
from mesh.proxy.match import StringMatch
from mesh.proxy.reply import LocalReply

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.wire import Headers


class CorsPolicy:
    """Which origins may do what. Header values as they go out; empty ones do not."""

    __slots__ = ("credentials", "expose", "forward_others", "headers", "max_age", "methods", "origins")

    def __init__(
        self,
        origins: Sequence[StringMatch],
        methods: bytes = b"",
        headers: bytes = b"",
        expose: bytes = b"",
        max_age: bytes = b"",
        credentials: bool = False,
        forward_others: bool = True,
    ) -> None:
        self.forward_others = forward_others
        """Whether a preflight from an origin that is not allowed goes on to the app."""
        self.origins = tuple(origins)
        self.methods = methods
        self.headers = headers
        self.expose = expose
        self.max_age = max_age
        self.credentials = credentials

    def _allowed(self, origin: bytes) -> Headers:
        fields = [(b"access-control-allow-origin", origin)]
        if self.credentials:
            fields.append((b"access-control-allow-credentials", b"true"))
        return fields

    def answer_fields(self, origin: bytes) -> Headers:
        """Headers on the answer of a plain cross-origin request."""
        fields = self._allowed(origin)
        if self.expose:
            fields.append((b"access-control-expose-headers", self.expose))
        return fields

    def preflight_fields(self, origin: bytes) -> Headers:
        """Headers on the answer of a preflight."""
        fields = self._allowed(origin)
        named = (
            (b"access-control-allow-methods", self.methods),
            (b"access-control-allow-headers", self.headers),
            (b"access-control-max-age", self.max_age),
        )
        return fields + [pair for pair in named if pair[1]]


class Cors(Filter):
    """Does nothing on routes without a policy."""

    __slots__ = ()

    def on_request(self, exchange: Exchange) -> Verdict:
        route = exchange.route
        policy = route.filter_config.get(self.name) if route is not None and route.filter_config else None
        origin = exchange.header(b"origin")
        if not isinstance(policy, CorsPolicy) or origin is None:
            return None
        preflight = exchange.method == b"OPTIONS" and exchange.header(b"access-control-request-method")
        if not any(matches(origin) for matches in policy.origins):
            return (
                None if policy.forward_others or not preflight else LocalReply(200, details="cors_response")
            )
        if preflight:
            return LocalReply(
                200, b"", headers=tuple(policy.preflight_fields(origin)), details="cors_response"
            )
        exchange.on_answer = (exchange.on_answer or []) + policy.answer_fields(origin)
        return None
