"""What a count can and cannot say: the confidence interval that stands beside every share the lab shows.

Twelve of a hundred requests is not "12 %": it is "between 7 and 20 %". A canary that is judged by the bare
number is judged by luck, so no widget and no check of the course shows a share without its interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
"""How often the interval holds the true share, over many repetitions."""

CERTAIN = 0.9999
"""For the checks: a correct answer fails by bad luck once in ten thousand runs."""


@dataclass(frozen=True)
class Share:
    """A part of a whole as it was counted, with the interval of true shares that it is evidence for.

    All three shares are fractions, 0 to 1. With nothing counted nothing is known: the interval is 0 to 1.
    """

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The observed fraction; 0 when nothing was counted."""
        return self.count / self.total if self.total else 0.0

    def holds(self, intended: float) -> bool:
        """Whether a true share of `intended` is compatible with what was counted."""
        return self.low <= intended <= self.high

    @property
    def spread(self) -> str:
        """The interval in per cent, as exact as its ends need: `45 to 51 %`, `0 to 0.3 %`."""
        return f"{_per_cent(self.low)} to {_per_cent(self.high)} %"

    def __str__(self) -> str:
        if not self.total:
            return "nothing counted yet"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %)"


def _per_cent(fraction: float) -> str:
    per_cent = 100 * fraction
    near_an_end = 0 < per_cent < 2 or 98 < per_cent < 100
    return f"{per_cent:.1f}" if near_an_end else f"{per_cent:.0f}"


def share(count: int, total: int, confidence: float = CONFIDENCE) -> Share:
    """`count` of `total` with its Wilson score interval; raises ValueError unless 0 <= count <= total.

    Wilson and not the textbook's p ± z·s: that one is empty at 0 and at all, where a canary begins and ends.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share")
    if not total:
        return Share(0, 0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    observed = count / total
    scale = 1 + z * z / total
    centre = (observed + z * z / (2 * total)) / scale
    reach = z / scale * sqrt(observed * (1 - observed) / total + z * z / (4 * total * total))
    # At the ends the formula gives 0 and 1 up to rounding; exactly those are meant.
    low = 0.0 if count == 0 else max(0.0, centre - reach)
    high = 1.0 if count == total else min(1.0, centre + reach)
    return Share(count, total, low, high)


def enough_for(margin: float, confidence: float = CONFIDENCE) -> int:
    """How many requests it takes until the interval reaches no further than ± `margin` (a fraction, > 0).

    For the worst case, a share of one half: four times the requests for half the margin.
    """
    if not 0 < margin < 0.5:
        raise ValueError(f"a margin of {margin} is not between 0 and 0.5")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    total = int(z * z * (0.25 / (margin * margin) - 1)) + 1
    return max(total, 1)
