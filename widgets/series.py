"""What telemetry answers, as lines a figure can draw. Pure: no request is made here.

Telemetry counts requests in steps (a quarter of a second for the live charts). A chart wants a rate that
does not jitter, so a rate is a trailing second of steps; and it wants no dip at its right edge, so the newest
steps, which some sidecar may still have to report, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from cluster.traffic import Window

UNKNOWN = "unknown"
"""Istio's label value where there is nothing to say: the version of a request that no workload answered."""

TICK = 0.25
"""Seconds: the finest step that telemetry keeps."""

SETTLE = 0.35
"""Seconds after which a step is complete: the sidecars' access log flush (0.2 s) and its way to telemetry."""


@dataclass(frozen=True)
class Query:
    """A question to telemetry: the labels to tell apart, how far back and how fine (seconds), and a filter.

    The default covers the 30 seconds of a live chart, the oldest of which need a second before them.
    Hashable, so that two widgets with the same question share one request.
    """

    by: tuple[str, ...]
    window: float = 32.0
    step: float = TICK
    where: tuple[tuple[str, str], ...] = ()


def empty(query: Query) -> Window:
    """The answer before there is one."""
    return Window(0.0, -query.window, query.step, [])


def steps(window: Window) -> int:
    """How many steps are complete, counted from the first."""
    longest = max((len(line.counts) for line in window.series), default=0)
    settled = int((window.now - SETTLE - window.start) / window.step + 1e-6)
    return max(0, min(longest, settled))


def seconds_ago(window: Window) -> list[float]:
    """The end of each complete step, as seconds before now: -30.0 … -0.4."""
    return [round(window.start + (i + 1) * window.step - window.now, 3) for i in range(steps(window))]


def counts(window: Window, label: str) -> dict[str, list[int]]:
    """Requests per complete step for each value of one label, the other labels summed up."""
    complete = steps(window)
    found: dict[str, list[int]] = {}
    for line in window.series:
        sums = found.setdefault(line.labels.get(label) or UNKNOWN, [0] * complete)
        for i, count in enumerate(line.counts[:complete]):
            sums[i] += count
    return found


def rates(window: Window, label: str, over: float = 1.0) -> dict[str, list[float]]:
    """Requests a second for each value of a label, each over the `over` seconds before the step's end."""
    width = max(1, round(over / window.step))
    return {value: _trailing(line, width, window.step) for value, line in counts(window, label).items()}


def totals(window: Window, label: str, since: float | None = None) -> dict[str, int]:
    """Requests for each value of a label, in the complete steps that began at or after `since` (epoch)."""
    first = 0
    if since is not None:
        first = max(0, -int(-(since - window.start) // window.step))  # rounded up
    return {value: sum(line[first:]) for value, line in counts(window, label).items()}


def _trailing(line: list[int], width: int, step: float) -> list[float]:
    """Sums of `width` steps ending at each step, per second; the first ones over as many as there are."""
    sums = [0, *accumulate(line)]
    return [
        (sums[i + 1] - sums[max(0, i + 1 - width)]) / (min(i + 1, width) * step) for i in range(len(line))
    ]
