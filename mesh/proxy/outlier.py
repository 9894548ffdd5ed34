"""Endpoints that fail too often in a row rest for a while (Envoy's `outlier_detection`, the passive kind).

Counted as answers come (`Endpoint.note_status`); an ejected endpoint is left out by the balancer until its
time is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Endpoint


class OutlierSpec:
    """Limits; times in seconds. 0 errors means: that kind is not counted."""

    __slots__ = (
        "base_ejection",
        "consecutive_5xx",
        "consecutive_gateway",
        "consecutive_local",
        "error_statuses",
        "max_ejected_percent",
        "split_local",
    )

    def __init__(
        self,
        consecutive_5xx: int = 5,
        consecutive_gateway: int = 0,
        base_ejection: float = 30.0,
        max_ejected_percent: int = 10,
        *,
        split_local: bool = False,
        consecutive_local: int = 5,
        error_statuses: frozenset[int] | None = None,
    ) -> None:
        self.split_local = split_local
        """Count failures to connect apart from bad answers."""
        self.consecutive_local = consecutive_local
        self.error_statuses = error_statuses
        """Which answers are errors; None: every 5xx."""
        self.consecutive_5xx = consecutive_5xx
        self.consecutive_gateway = consecutive_gateway
        self.base_ejection = base_ejection
        self.max_ejected_percent = max_ejected_percent


class Outliers:
    """Watches the endpoints of one cluster."""

    __slots__ = ("_cluster", "_spec", "_timers", "_times")

    def __init__(self, cluster: Cluster, spec: OutlierSpec) -> None:
        self._cluster = cluster
        self._spec = spec
        self._times: dict[Endpoint, int] = {}
        self._timers: dict[Endpoint, asyncio.TimerHandle] = {}

    def status(self, endpoint: Endpoint, status: int) -> None:
        """One answer (or failure, as 503) of an endpoint."""
        spec = self._spec
        endpoint.local_errors_in_row = 0
        if status < 500 if spec.error_statuses is None else status not in spec.error_statuses:
            endpoint.errors_in_row = 0
            return
        endpoint.errors_in_row += 1
        limit = spec.consecutive_5xx
        if status in (502, 503, 504) and spec.consecutive_gateway:
            limit = min(limit or spec.consecutive_gateway, spec.consecutive_gateway)
        self._judge(endpoint, endpoint.errors_in_row, limit)

    def failure(self, endpoint: Endpoint, local: bool) -> None:
        """No answer: the connection could not be made (`local`), or broke."""
        spec = self._spec
        if not (local and spec.split_local):
            endpoint.errors_in_row += 1
            limits = [limit for limit in (spec.consecutive_5xx, spec.consecutive_gateway) if limit]
            self._judge(endpoint, endpoint.errors_in_row, min(limits, default=0))
            return
        endpoint.local_errors_in_row += 1
        self._judge(endpoint, endpoint.local_errors_in_row, spec.consecutive_local)

    def _judge(self, endpoint: Endpoint, errors: int, limit: int) -> None:
        if limit and errors >= limit and not endpoint.ejected and self._may_eject():
            self._eject(endpoint)

    def _may_eject(self) -> bool:
        """Envoy always lets one go, and then no more than the percentage."""
        endpoints = self._cluster.endpoints.values()
        ejected = sum(endpoint.ejected for endpoint in endpoints)
        return ejected == 0 or (ejected + 1) * 100 <= self._spec.max_ejected_percent * len(endpoints)

    def _eject(self, endpoint: Endpoint) -> None:
        times = self._times[endpoint] = self._times.get(endpoint, 0) + 1
        endpoint.ejected = True
        endpoint.errors_in_row = 0
        self._cluster.rebalance()
        loop = asyncio.get_running_loop()
        seconds = self._spec.base_ejection * times
        self._timers[endpoint] = loop.call_later(seconds, self._restore, endpoint)

    def _restore(self, endpoint: Endpoint) -> None:
        endpoint.ejected = False
        self._timers.pop(endpoint, None)
        self._cluster.rebalance()

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
