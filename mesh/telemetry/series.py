"""Requests over time by label, in bounded memory. Pure: no clock, no I/O.

Time is cut into ticks of a quarter of a second. A tick holds, for each series (one set of labels) and each
latency bucket, how many requests there were: while young a dict, then packed into eight bytes each. So
memory grows with the number of different things that happened in a tick, not with the number of requests;
ticks older than ten minutes are dropped, or earlier when more than 400,000 such numbers (3 MB) are kept.
"""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.histogram import bucket_of, percentiles
from mesh.telemetry.attributes import Labels

TICK_S = 0.25
KEEP_S = 600.0
MOST_CELLS = 400_000
MOST_SERIES = 20_000

# A packed cell: 24 bits series, 8 bits latency bucket, 32 bits count.
_COUNT_BITS = 32
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_BUCKET_BITS = 8
_BUCKET_MASK = (1 << _BUCKET_BITS) - 1

# Proxies send what they saw a fifth of a second late, so only ticks this old are packed.
_OPEN_S = 5.0


@dataclass(frozen=True)
class Window:
    """A stretch of time cut into steps: `start` in seconds since the epoch, `step` in seconds, and how
    many.
    """

    start: float
    step: float
    steps: int

    @property
    def end(self) -> float:
        """When the last step ends."""
        return self.start + self.step * self.steps


def window_before(end: float, length: float, step: float) -> Window:
    """The whole steps that the `length` seconds before `end` touch.

    Steps begin at multiples of `step`, so that asking again later gives the same steps, moved on; the last one
    is still under way when `end` is now.
    """
    first = math.floor(round((end - length) / step, 6))
    last = math.ceil(round(end / step, 6))
    return Window(first * step, step, last - first)


@dataclass(frozen=True)
class Line:
    """One answer: the labels asked for, requests in each step, and a histogram of their latencies."""

    labels: dict[str, str]
    counts: list[int]
    latency: Counter[int]

    def as_json(self) -> dict[str, Any]:
        """As the query API tells it."""
        return {
            "labels": self.labels,
            "counts": self.counts,
            "total": sum(self.counts),
            "latency_ms": percentiles(self.latency),
        }


class Series:
    """All requests of the last ten minutes, by label."""

    def __init__(self, keep_s: float = KEEP_S, most_cells: int = MOST_CELLS) -> None:
        self._keep = max(1, round(keep_s / TICK_S))
        self._most_cells = most_cells
        self._ids: dict[Labels, int] = {}
        self._labels: dict[int, Labels] = {}
        self._last_seen: dict[int, int] = {}
        self._next_id = 0
        self._open: dict[int, dict[int, int]] = {}  # tick -> cell key -> count
        self._packed: dict[int, array[int]] = {}  # tick -> packed cells
        self._cells = 0
        self._newest = 0
        self._oldest = 0  # first tick that is still complete

    def add(self, at: float, labels: Labels, latency_ms: float, now: float) -> None:
        """Count a request that ended `at` (seconds since the epoch). One from the future, by a proxy's clock,
        counts as ended now; one older than what is kept, as ended just then.
        """
        self._advance(int(now / TICK_S))
        tick = min(max(int(at / TICK_S), self._oldest, self._newest - self._keep + 1), self._newest)
        series = self._id(labels)
        self._last_seen[series] = max(tick, self._last_seen.get(series, 0))
        key = series << _BUCKET_BITS | bucket_of(latency_ms)
        if tick in self._packed:
            self._packed[tick].append(key << _COUNT_BITS | 1)
            self._cells += 1
            return
        cells = self._open.setdefault(tick, {})
        cells[key] = cells.get(key, 0) + 1

    def kept_from(self, now: float) -> float:
        """Since when (seconds since the epoch) everything is still known."""
        self._advance(int(now / TICK_S))
        return max(self._oldest, self._newest - self._keep + 1) * TICK_S

    def query(self, by: Sequence[str], where: Mapping[str, Sequence[str]], window: Window) -> list[Line]:
        """Requests in `window` whose labels have, for each name in `where`, one of its values; one line for
        each combination of the labels in `by`. Raises AttributeError for a name that is no label.
        """
        lines: dict[tuple[str, ...], Line] = {}
        line_of: dict[int, Line] = {}
        for series, labels in self._labels.items():
            if all(getattr(labels, name) in values for name, values in where.items()):
                values = tuple(getattr(labels, name) for name in by)
                if values not in lines:
                    lines[values] = Line(dict(zip(by, values, strict=True)), [0] * window.steps, Counter())
                line_of[series] = lines[values]
        first, last = round(window.start / TICK_S), round(window.end / TICK_S)
        ticks_a_step = window.step / TICK_S
        for tick in range(max(first, self._newest - self._keep + 1), min(last, self._newest + 1)):
            step = int((tick - first) / ticks_a_step)
            for key, count in self._cells_of(tick):
                line = line_of.get(key >> _BUCKET_BITS)
                if line is not None:
                    line.counts[step] += count
                    line.latency[key & _BUCKET_MASK] += count
        return [lines[values] for values in sorted(lines) if any(lines[values].counts)]

    def _cells_of(self, tick: int) -> Any:
        cells = self._open.get(tick)
        if cells is not None:
            return cells.items()
        packed = self._packed.get(tick, ())
        return ((cell >> _COUNT_BITS, cell & _COUNT_MASK) for cell in packed)

    def _id(self, labels: Labels) -> int:
        known = self._ids.get(labels)
        if known is not None:
            return known
        if len(self._ids) >= MOST_SERIES:
            # A series too many still counts, under nothing but who reports it.
            labels = Labels(reporter=labels.reporter)
            if labels in self._ids:
                return self._ids[labels]
        self._next_id += 1
        self._ids[labels], self._labels[self._next_id] = self._next_id, labels
        return self._next_id

    def _advance(self, tick: int) -> None:
        """Let time go on to `tick`: pack what is no longer young, drop what is too old, forget idle
        series.
        """
        if tick <= self._newest:
            return
        self._newest = tick
        for ready in [t for t in self._open if t < tick - _OPEN_S / TICK_S]:
            cells = self._open.pop(ready)
            self._packed[ready] = array("Q", (key << _COUNT_BITS | n for key, n in cells.items()))
            self._cells += len(cells)
        dropped = False
        while self._packed:
            oldest = min(self._packed)
            if oldest > tick - self._keep and self._cells <= self._most_cells:
                break
            self._cells -= len(self._packed.pop(oldest))
            self._oldest = max(self._oldest, oldest + 1)
            dropped = True
        if dropped:
            self._forget_idle()

    def _forget_idle(self) -> None:
        oldest = max(self._oldest, self._newest - self._keep + 1)
        for series in [series for series, seen in self._last_seen.items() if seen < oldest]:
            del self._ids[self._labels.pop(series)]
            del self._last_seen[series]
