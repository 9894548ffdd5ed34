"""What has been compiled once is not compiled again: the memory that a `world` shares with all that follow it."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_not
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Memo:
    """What was computed from which inputs; one, shared by a world and all that follow it.

    An entry is valid as long as each input is the very same object (`is`), which holds because records are immutable.
    What belongs to deleted objects must not pile up, but what stands behind an entry that is still good is not asked
    for either. So there are two generations, as in a copying garbage collector: `rest`, between two worlds, ages all
    entries once as many have been computed as there are, and what nobody asked for since the last time goes. Not
    thread-safe.
    """

    _SMALLEST_GENERATION = 4096

    def __init__(self) -> None:
        self._old: dict[Any, tuple[tuple[Any, ...], Any]] = {}
        self._new: dict[Any, tuple[tuple[Any, ...], Any]] = {}
        self._rested_at = 0
        self.misses = 0

    def get(self, key: Any, inputs: tuple[Any, ...], build: Callable[[], T]) -> T:
        """The value under `key` made from `inputs`; calls `build` only when one of them is another object."""
        known = self._new.get(key)
        if known is not None and self._same(known[0], inputs):
            return cast(T, known[1])
        known = self._old.get(key)
        if known is None or not self._same(known[0], inputs):
            known = (inputs, build())
            self.misses += 1
        self._new[key] = known
        return cast(T, known[1])

    @staticmethod
    def _same(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
        return len(old) == len(new) and not any(map(is_not, old, new))

    def rest(self) -> None:
        """To be called when nothing is being computed: forget what has become useless, if it is time."""
        if self.misses - self._rested_at > max(self._SMALLEST_GENERATION, len(self._old)):
            self._old, self._new = self._new, {}
            self._rested_at = self.misses
