"""Who may do what: the access decision (Envoy's `envoy.filters.http.rbac`).

Istio's AuthorizationPolicies arrive as one filter with action DENY and one with ALLOW, at the inbound side of
the workload they protect. Conditions are compiled by `config.access`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mesh.proxy.filters import Filter, Verdict
from mesh.proxy.reply import RBAC_DENIED

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

Condition = Callable[["Exchange"], bool]


class Policy:
    """One named policy: it matches when a permission (what) and a principal (who) match."""

    __slots__ = ("name", "permission", "principal")

    def __init__(self, name: str, permission: Condition, principal: Condition) -> None:
        self.name = name
        self.permission = permission
        self.principal = principal


class Rules:
    """All policies of one filter and what a match means."""

    __slots__ = ("action", "policies")

    def __init__(self, action: str, policies: Sequence[Policy]) -> None:
        """`action` is ALLOW, DENY or LOG, which decides nothing."""
        self.action = action
        self.policies = tuple(policies)

    def permits(self, exchange: Exchange) -> bool:
        """Whether this request may pass."""
        if self.action == "LOG":
            return True
        return (self.matched(exchange) is not None) == (self.action == "ALLOW")

    def matched(self, exchange: Exchange) -> str | None:
        """The name of the first policy that matches, or None."""
        for policy in self.policies:
            if policy.permission(exchange) and policy.principal(exchange):
                return policy.name
        return None


class Rbac(Filter):
    """DENY refuses what a policy matches; ALLOW refuses what none matches; LOG lets all pass."""

    __slots__ = ("rules",)

    def __init__(self, name: str, rules: Rules | None) -> None:
        super().__init__(name)
        self.rules = rules

    def on_request(self, exchange: Exchange) -> Verdict:
        rules = self.rules
        if exchange.route is not None and exchange.route.filter_config:
            rules = exchange.route.filter_config.get(self.name, rules)  # type: ignore[assignment]
        if rules is None or rules.permits(exchange):
            return None
        return RBAC_DENIED
