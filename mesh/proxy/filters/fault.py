"""Faults on purpose: delays and errors for a share of the requests (Envoy's `envoy.filters.http.fault`).

Istio puts a VirtualService's `fault` into the route's own configuration of this filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import random
from typing import TYPE_CHECKING

from mesh.proxy.filters import Filter, Step, Verdict, Wait
from mesh.proxy.match import HeaderMatch
from mesh.proxy.reply import Flag, LocalReply

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange


class Fault:
    """What to inject: shares in [0, 1], the delay in seconds. Immutable."""

    __slots__ = ("abort_share", "abort_status", "conditions", "delay", "delay_share")

    def __init__(
        self,
        delay: float = 0.0,
        delay_share: float = 0.0,
        abort_status: int = 0,
        abort_share: float = 0.0,
        conditions: Sequence[HeaderMatch] = (),
    ) -> None:
        self.delay = delay
        self.delay_share = delay_share
        self.abort_status = abort_status
        self.abort_share = abort_share
        self.conditions = tuple(conditions)

    def concerns(self, exchange: Exchange) -> bool:
        """`headers`: only requests with all of them."""
        return all(condition(exchange) for condition in self.conditions)


class FaultFilter(Filter):
    """First the delay, then the abort; each by a draw of its own."""

    __slots__ = ("fault",)

    def __init__(self, name: str, fault: Fault | None) -> None:
        super().__init__(name)
        self.fault = fault

    @property
    def steps(self) -> tuple[Step, ...]:
        return (self.on_request, self.abort)

    def _fault(self, exchange: Exchange) -> Fault | None:
        route = exchange.route
        if route is not None and route.filter_config:
            return route.filter_config.get(self.name, self.fault)  # type: ignore[return-value]
        return self.fault

    def on_request(self, exchange: Exchange) -> Verdict:
        fault = self._fault(exchange)
        if fault is None or not fault.delay or random() >= fault.delay_share or not fault.concerns(exchange):
            return None
        return Wait(fault.delay, Flag.DELAY_INJECTED)

    def abort(self, exchange: Exchange) -> Verdict:
        """The second step."""
        fault = self._fault(exchange)
        if fault is None or not fault.abort_status or random() >= fault.abort_share:
            return None
        if not fault.concerns(exchange):
            return None
        return LocalReply(
            fault.abort_status, b"fault filter abort", Flag.FAULT_INJECTED, details="fault_filter_abort"
        )
