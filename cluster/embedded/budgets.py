"""May this pod be evicted? What PodDisruptionBudgets say at the moment somebody asks.

Kubernetes has a controller that keeps `status.disruptionsAllowed`; here the number is made when it is needed, from the
same facts. (kubernetes `pkg/controller/disruption`, `pkg/registry/core/pod/storage/eviction.go`.)
"""

import math
from collections.abc import Iterable
from typing import Any

from cluster.embedded.selectors import labels_of, selector_object
from cluster.embedded.status import ApiError, Object


def is_ready(pod: Object) -> bool:
    """Does the pod serve, and is it not about to end?"""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def share_of(value: Any, total: int) -> int:
    """A number, or a percentage of `total` rounded up."""
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(total * int(value[:-1]) / 100)
    return int(value)


def wanted(budget: Object, total: int) -> int:
    """How many of `total` pods the budget wants to be ready."""
    spec = budget.get("spec") or {}
    if "maxUnavailable" in spec:
        return max(0, total - share_of(spec["maxUnavailable"], total))
    return share_of(spec.get("minAvailable", 1), total)


def check(pod: Object, budgets: Iterable[Object], pods: Iterable[Object]) -> None:
    """Raises TooManyRequests (429) if evicting the pod would break a budget of its namespace.

    A pod that does not run anyway, and one that is not ready while the budget is kept without it, may always go.
    """
    if (pod.get("status") or {}).get("phase", "Pending") != "Running" or pod["metadata"].get(
        "deletionTimestamp"
    ):
        return
    pods = list(pods)
    for budget in budgets:
        chosen = selector_object((budget.get("spec") or {}).get("selector"))
        if not chosen(labels_of(pod)):
            continue
        covered = [other for other in pods if chosen(labels_of(other))]
        spare = sum(map(is_ready, covered)) - wanted(budget, len(covered))
        if spare < (1 if is_ready(pod) else 0):
            raise _refusal(budget, spare)


def _refusal(budget: Object, spare: int) -> ApiError:
    name = budget["metadata"]["name"]
    why = f"The disruption budget {name} needs {1 - spare} more ready pods before one may go."
    details = {"causes": [{"reason": "DisruptionBudget", "message": why, "field": ""}]}
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(429, "TooManyRequests", message, details)
