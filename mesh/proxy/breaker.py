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
        "retry_budget",
    )

    def __init__(
        self,
        max_connections: int = 1024,
        max_pending: int = 1024,
        max_requests: int = 1024,
        max_retries: int = 3,
        retry_budget: tuple[float, int] | None = None,
    ) -> None:
        self.retry_budget = retry_budget
        self.max_connections = max_connections
        self.max_pending = max_pending
        self.max_requests = max_requests
        self.max_retries = max_retries
        self.connections = 0
        self.pending = 0
        self.requests = 0
        self.retries = 0
        self.overflows = 0

    @property
    def may_retry(self) -> bool:
        """Whether one more retry is allowed: below the fixed limit, or within the budget
        (`retry_budget`: a share of what is under way, and a number that is always allowed).
        """
        if self.retry_budget is None:
            return self.retries < self.max_retries
        share, least = self.retry_budget
        return self.retries < max(least, share * (self.requests + self.pending))
