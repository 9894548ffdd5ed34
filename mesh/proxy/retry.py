"""Whether a failed attempt is worth another: the route's retry policy (`RetryPolicy` of Envoy's route API).

Pure: `router` asks and does.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING

from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.cluster import Endpoint
    from mesh.proxy.match import HeaderMatch

_CONNECTION_KINDS = {
    "connect-failure": frozenset(("connect-failure",)),
    "refused-stream": frozenset(),
    "reset": frozenset(("connect-failure", "reset", "reset-before-request", "per-try-timeout")),
    "reset-before-request": frozenset(("connect-failure", "reset-before-request")),
    "5xx": frozenset(("connect-failure", "reset", "reset-before-request", "per-try-timeout")),
    "gateway-error": frozenset(("connect-failure", "reset", "reset-before-request", "per-try-timeout")),
}
_IGNORED = frozenset(
    (
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
        "http3-post-connect-failure",
    )
)
"""gRPC's own conditions: they look at `grpc-status`, which plain HTTP answers do not have."""

CONDITIONS = frozenset(
    (*_CONNECTION_KINDS, *_IGNORED, "retriable-4xx", "retriable-status-codes", "retriable-headers")
)
"""Every word of `retry_on` this proxy knows."""


class RetryPolicy:
    """When, how often and how soon to try again. Seconds."""

    __slots__ = (
        "_kinds",
        "_statuses",
        "base_delay",
        "max_delay",
        "other_host",
        "other_priority",
        "per_try_timeout",
        "retriable_headers",
        "retries",
    )

    def __init__(
        self,
        conditions: frozenset[str],
        retries: int,
        *,
        statuses: frozenset[int] = frozenset(),
        retriable_headers: tuple[HeaderMatch, ...] = (),
        per_try_timeout: float = 0.0,
        base_delay: float = 0.025,
        max_delay: float = 0.25,
        other_host: bool = False,
        other_priority: bool = False,
    ) -> None:
        self.retries = retries
        self.per_try_timeout = per_try_timeout
        self.base_delay = base_delay
        self.max_delay = max_delay
        self.other_host = other_host
        self.other_priority = other_priority
        self.retriable_headers = retriable_headers if "retriable-headers" in conditions else ()
        kinds: set[str] = set()
        for condition in conditions:
            kinds |= _CONNECTION_KINDS.get(condition, frozenset())
        self._kinds = kinds
        self._statuses = _statuses(conditions, statuses)

    def wants(self, kind: str) -> bool:
        """Whether a failure of this kind is retried. A status has been judged by `wants_status` already."""
        return kind in self._kinds or kind.startswith("status ")

    def wants_status(self, status: int, headers: Headers) -> bool:
        """Whether an answer with this status and these headers is retried."""
        if status in self._statuses:
            return True
        return bool(self.retriable_headers) and any(m.in_headers(headers) for m in self.retriable_headers)

    def delay(self, attempts: int) -> float:
        """Seconds to wait after the `attempts`-th attempt: exponential, with full jitter, as Envoy's."""
        return random() * min(self.base_delay * (2.0**attempts - 1), self.max_delay)

    def avoid(self, tried: tuple[Endpoint, ...], candidate: Endpoint) -> bool:
        """`previous_hosts`: whether to look for another endpoint than this one."""
        return self.other_host and candidate in tried


def _statuses(conditions: frozenset[str], listed: frozenset[int]) -> frozenset[int]:
    found: set[int] = set()
    if "5xx" in conditions:
        found.update(range(500, 600))
    if "gateway-error" in conditions:
        found.update((502, 503, 504))
    if "retriable-4xx" in conditions:
        found.add(409)
    if "retriable-status-codes" in conditions:
        found.update(listed)
    return frozenset(found)
