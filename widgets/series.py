"""What telemetry answers, as values the figures can compute with. Pure: no request is made here.

Telemetry counts requests in steps (a quarter of a second for the live charts). A chart wants a rate that
does not jitter, so a rate is a trailing second of steps; and it wants no dip at its right edge, so the newest
steps, which some sidecar may still have to report, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

UNKNOWN = "unknown"
"""Istio's label value where there is nothing to say: the version of a request that no workload answered."""

SETTLE = 0.35
"""Seconds after which a step is complete: the sidecars' access log flush (0.2 s) and its way to telemetry."""

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Query:
    """A question to `GET /api/series`: the labels to tell apart, how far back and how fine, and a filter.

    `window` and `step` are seconds. Hashable, so that two widgets with the same question share one request.
    """

    by: tuple[str, ...]
    window: float = 30.0
    step: float = 0.25
    where: tuple[tuple[str, str], ...] = ()
    end: float | None = None

    def parameters(self) -> dict[str, str]:
        """The query string's fields."""
        asked = {"by": ",".join(self.by), "window": f"{self.window:g}", "step": f"{self.step:g}"}
        if self.end is not None:
            asked["end"] = f"{self.end:.3f}"
        return asked | dict(self.where)


@dataclass(frozen=True)
class Series:
    """One line: its labels, its requests per step, and its latency percentiles in milliseconds."""

    labels: Labels
    counts: tuple[int, ...]
    latency_ms: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Window:
    """All lines from `start` to `now` (epoch seconds by telemetry's clock), in steps of `step` seconds."""

    now: float
    start: float
    step: float
    series: tuple[Series, ...] = ()

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Window:
        """The answer of `GET /api/series`. Raises KeyError or TypeError when it is none."""
        return cls(
            float(answer["now"]),
            float(answer["start"]),
            float(answer["step"]),
            tuple(
                Series(dict(s["labels"]), tuple(map(int, s["counts"])), dict(s.get("latency_ms") or {}))
                for s in answer["series"]
            ),
        )

    @property
    def steps(self) -> int:
        """How many steps are complete, counted from the first."""
        longest = max((len(series.counts) for series in self.series), default=0)
        settled = int((self.now - SETTLE - self.start) / self.step + 1e-6)
        return max(0, min(longest, settled))

    def seconds_ago(self) -> list[float]:
        """The end of each complete step, as seconds before now: -30.0 … -0.4."""
        return [round(self.start + (i + 1) * self.step - self.now, 3) for i in range(self.steps)]

    def counts(self, label: str) -> dict[str, list[int]]:
        """Requests per complete step for each value of one label, the other labels summed up."""
        found: dict[str, list[int]] = {}
        for series in self.series:
            line = found.setdefault(series.labels.get(label, UNKNOWN), [0] * self.steps)
            for i, count in enumerate(series.counts[: self.steps]):
                line[i] += count
        return found

    def rates(self, label: str, over: float = 1.0) -> dict[str, list[float]]:
        """Requests a second for each value of a label, each over the `over` seconds before the step's end."""
        width = max(1, round(over / self.step))
        return {value: _trailing(line, width, self.step) for value, line in self.counts(label).items()}

    def totals(self, label: str, since: float | None = None) -> dict[str, int]:
        """Requests for each value of a label, in the complete steps that began at or after `since`."""
        first = 0
        if since is not None:
            first = max(0, -int(-(since - self.start) // self.step))  # rounded up
        return {value: sum(line[first:]) for value, line in self.counts(label).items()}


def _trailing(line: list[int], width: int, step: float) -> list[float]:
    """Sums of `width` steps ending at each step, per second; the first ones over as many as there are."""
    sums = [0, *accumulate(line)]
    return [
        (sums[i + 1] - sums[max(0, i + 1 - width)]) / (min(i + 1, width) * step) for i in range(len(line))
    ]
