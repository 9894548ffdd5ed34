"""When to act on a stream of changes: soon after they stop, and not later than a limit while they do not.

Between `ingest` and `compile`. One `kubectl apply` of ten objects should lead to one push, a lone change
should not wait, and a cluster that never rests must not starve its proxies (istiod: PILOT_DEBOUNCE_AFTER,
PILOT_DEBOUNCE_MAX).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Debounce:
    """The decision, without a clock: times are given in seconds of any monotonic clock."""

    quiet: float = 0.01
    """Act when nothing has come for this long..."""
    longest: float = 0.2
    """...or when the first change has waited for this long."""
    _first: float | None = None
    _last: float = 0.0

    def change(self, now: float) -> None:
        """Something has changed."""
        self._first = now if self._first is None else self._first
        self._last = now

    def due(self) -> float | None:
        """When to act; None when there is nothing to act on."""
        return None if self._first is None else min(self._last + self.quiet, self._first + self.longest)

    def acted(self) -> None:
        """All changes so far are taken care of."""
        self._first = None


class Debouncer:
    """Calls `act` on the event loop as a Debounce decides."""

    def __init__(self, act: Callable[[], None], debounce: Debounce | None = None) -> None:
        self._act = act
        self._debounce = debounce or Debounce()
        self._timer: asyncio.TimerHandle | None = None

    def change(self) -> None:
        """Something has changed: `act` will be called."""
        loop = asyncio.get_running_loop()
        self._debounce.change(loop.time())
        if self._timer is None:
            self._arm(loop)

    def close(self) -> None:
        """Never call `act` again."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self._debounce.due()
        assert due is not None
        self._timer = loop.call_at(due, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self._debounce.due()
        if due is not None and loop.time() < due:
            self._arm(loop)
            return
        self._timer = None
        self._debounce.acted()
        self._act()
