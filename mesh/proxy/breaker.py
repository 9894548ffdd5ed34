"""How much a cluster may have under way at once (Envoy's `circuit_breakers.thresholds`).

Plain counters beside their limits: `pool` and `router` count and compare. Shared by all endpoints of the
cluster, and kept when its endpoints change.
"""

from __future__ import annotations


class Breaker:
    """Limits and what is used of them. The defaults are Envoy's."""

    __slots__ = (
        "connections",
        "max_connections",
        "max_pending",
        "max_requests",
        "max_retries",
        "overflows",
        "pending",
        "requests",
        "retries",
    )

    def __init__(
        self,
        max_connections: int = 1024,
        max_pending: int = 1024,
        max_requests: int = 1024,
        max_retries: int = 3,
    ) -> None:
        self.max_connections = max_connections
        self.max_pending = max_pending
        self.max_requests = max_requests
        self.max_retries = max_retries
        self.connections = 0
        self.pending = 0
        self.requests = 0
        self.retries = 0
        self.overflows = 0
