"""Steer the visitors and read what the mesh saw, through the API server's service proxy: the same everywhere.

What a widget, a lab's check and `mesh demo` share. Nothing here knows how the mesh works inside.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.api import Answer, Api, ApiError

SYSTEM = "mesh-system"
VISITORS = ("visitors", "visitors", 9090)
TELEMETRY = (SYSTEM, "mesh-telemetry", 15013)


@dataclass(frozen=True)
class Series:
    """One line of a chart: its labels, requests in each step of the window, and their latency in ms."""

    labels: dict[str, str]
    counts: list[int]
    total: int
    latency_ms: dict[str, float]


@dataclass(frozen=True)
class Window:
    """An answer of the telemetry query: `start` and `now` in seconds since the epoch, `step` in seconds."""

    now: float
    start: float
    step: float
    series: list[Series]

    def totals(self, label: str) -> dict[str, int]:
        """Requests by the values of one label."""
        sums: dict[str, int] = {}
        for line in self.series:
            key = line.labels.get(label, "")
            sums[key] = sums.get(key, 0) + line.total
        return sums

    @property
    def total(self) -> int:
        return sum(line.total for line in self.series)


def requests(
    api: Api,
    by: tuple[str, ...],
    window: float,
    step: float = 1.0,
    end: float | None = None,
    where: Mapping[str, str] | None = None,
) -> Window:
    """Requests by Istio's metric labels over the last `window` seconds. Raises ApiError.

    `where` filters by label, such as {"reporter": "destination"}.
    """
    query = {"by": ",".join(by), "window": f"{window:g}", "step": f"{step:g}", **(where or {})}
    if end is not None:
        query["end"] = f"{end:.3f}"
    answer = _checked(api.service(*TELEMETRY, "/api/series", query=query), "telemetry").json()
    lines = [
        Series(s["labels"], s["counts"], s["total"], s.get("latency_ms") or {}) for s in answer["series"]
    ]
    return Window(answer["now"], answer["start"], answer["step"], lines)


def plan(api: Api, change: Mapping[str, Any]) -> dict[str, Any]:
    """Change the visitors' plan; the plan as it stands now. Raises ApiError with the field that is wrong."""
    answer = _checked(api.service(*VISITORS, "/api/plan", "PUT", body=dict(change)), "the visitors")
    return dict(answer.json())


def stats(api: Api) -> dict[str, Any]:
    """What the visitors did since their plan last changed. Raises ApiError."""
    return dict(_checked(api.service(*VISITORS, "/api/stats"), "the visitors").json())


def visit(
    api: Api,
    count: int,
    rate: float = 200.0,
    headers: Mapping[str, str] | None = None,
    patience: float = 30.0,
    mix: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Let the visitors make `count` requests at `rate` a second, then rest; their stats when all are answered.

    `mix` are kinds of visitors, each with name, weight and headers, of whom the stats tell apart what they got.
    Raises ApiError, also when they have not come back `patience` seconds after the last should have left.
    """
    # Evenly spaced, so that it is exactly `count`.
    change = {"rate": rate, "duration": count / rate, "arrivals": "even", "headers": dict(headers or {})}
    plan(api, {**change, "mix": [dict(kind) for kind in mix]})
    deadline = time.monotonic() + count / rate + patience
    while True:
        seen = stats(api)
        if seen["done"]:
            return seen
        if time.monotonic() > deadline:
            raise ApiError(0, f"the visitors have answers to {seen['ok']} of {count} requests only")
        time.sleep(0.05)


def _checked(answer: Answer, who: str) -> Answer:
    if answer.status != 200:
        raise ApiError(answer.status, f"{who}: {_reason(answer)}")
    return answer


def _reason(answer: Answer) -> str:
    """The sentence in a refusal: our services answer {"error": sentence}."""
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.body[:500].decode(errors="replace").strip()
