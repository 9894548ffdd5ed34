"""Latencies in little memory: counts in buckets that grow by 6 %, so any percentile is right to about 3 %.

One byte names a bucket. Histograms of the same buckets add up, which is what both users need: visitors add
seconds to a window, telemetry adds series to whatever was asked for.
"""

import math
from collections.abc import Iterable, Mapping

BUCKETS = 256
LOWEST_MS = 0.05
HIGHEST_MS = 120_000.0

_GROWTH = math.log(HIGHEST_MS / LOWEST_MS) / (BUCKETS - 1)


def bucket_of(ms: float) -> int:
    """The bucket, 0 to 255, of a latency in milliseconds. What lies outside falls into the first or last
    one.
    """
    if ms <= LOWEST_MS:
        return 0
    return min(BUCKETS - 1, round(math.log(ms / LOWEST_MS) / _GROWTH))


def milliseconds(bucket: int) -> float:
    """The latency a bucket stands for, in milliseconds, to three significant digits."""
    return float(f"{LOWEST_MS * math.exp(bucket * _GROWTH):.3g}")


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The smallest latency (ms) that at least `share` (0..1) of the requests did not exceed; None without
    requests.
    """
    total = sum(counts.values())
    if not total:
        return None
    wanted = max(1, math.ceil(share * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            return milliseconds(bucket)
    raise AssertionError("the counts of a histogram add up to its total")


def percentiles(counts: Mapping[int, int], percents: Iterable[int] = (50, 90, 99)) -> dict[str, float | None]:
    """Several percentiles by name: {"p50": 1.2, "p90": ..., "p99": ...}, in milliseconds."""
    return {f"p{percent}": percentile(counts, percent / 100) for percent in percents}
