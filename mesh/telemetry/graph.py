"""Who calls whom: the edges between workloads, put together from both ends' reports. Pure.

The caller's end knows of every call, also of one that nobody answered; the callee's end knows how it was
secured. So an edge counts what the caller's proxy reported and takes security from the callee's. Calls from
clients without a sidecar are known at the callee's end only.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mesh.histogram import percentiles
from mesh.telemetry.series import Line

BY = (
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_version",
    "destination_service",
    "destination_workload",
    "destination_workload_namespace",
    "destination_version",
    "response_code",
    "response_flags",
    "connection_security_policy",
)

_ENDS = (
    "source_workload",
    "source_workload_namespace",
    "source_version",
    "destination_service",
    "destination_workload",
    "destination_workload_namespace",
    "destination_version",
)


@dataclass
class Side:
    """What one end reported of an edge."""

    requests: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    security: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)

    def add(self, line: Line) -> None:
        """Take in one line of a query by BY."""
        count = sum(line.counts)
        self.requests += count
        self.codes[line.labels["response_code"]] += count
        self.security[line.labels["connection_security_policy"]] += count
        if line.labels["response_flags"] != "-":
            self.flags[line.labels["response_flags"]] += count
        self.latency.update(line.latency)


def edges(lines: Iterable[Line], seconds: float) -> list[dict[str, Any]]:
    """The edges in a query by BY over `seconds`, as the query API tells them."""
    sides: dict[tuple[str, ...], dict[str, Side]] = {}
    for line in lines:
        ends = tuple(line.labels[name] for name in _ENDS)
        sides.setdefault(ends, {}).setdefault(line.labels["reporter"], Side()).add(line)
    return [_edge(dict(zip(_ENDS, ends, strict=True)), sides[ends], seconds) for ends in sorted(sides)]


def _edge(ends: dict[str, str], sides: dict[str, Side], seconds: float) -> dict[str, Any]:
    destination = sides.get("destination")
    shown = sides.get("source") or destination or Side()
    return {
        "source": {
            "workload": ends["source_workload"],
            "namespace": ends["source_workload_namespace"],
            "version": ends["source_version"],
        },
        "destination": {
            "workload": ends["destination_workload"],
            "namespace": ends["destination_workload_namespace"],
            "version": ends["destination_version"],
            "service": ends["destination_service"],
        },
        "requests": shown.requests,
        "rate": round(shown.requests / seconds, 3),
        "codes": dict(shown.codes),
        "flags": dict(shown.flags),
        "security": dict(destination.security if destination else shown.security),
        "latency_ms": percentiles(shown.latency),
    }
