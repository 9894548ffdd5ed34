"""Percentiles out of buckets, against percentiles out of the numbers themselves."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mesh.histogram import BUCKETS, bucket_of, milliseconds, percentile, percentiles

LATENCIES = st.floats(min_value=0.05, max_value=120_000)


@given(LATENCIES)
def test_a_bucket_is_right_to_three_percent(ms):
    assert abs(milliseconds(bucket_of(ms)) / ms - 1) < 0.036


@given(st.floats(min_value=0, max_value=1e12))
def test_every_latency_has_a_bucket(ms):
    assert 0 <= bucket_of(ms) < BUCKETS


@given(st.lists(LATENCIES, min_size=1, max_size=200), st.integers(1, 100))
def test_percentiles_are_those_of_the_sorted_list(latencies, percent):
    exact = sorted(latencies)[math.ceil(percent / 100 * len(latencies)) - 1]
    found = percentile(Counter(map(bucket_of, latencies)), percent / 100)
    assert found is not None and abs(found / exact - 1) < 0.036


def test_no_requests_no_percentiles():
    assert percentiles({}) == {"p50": None, "p90": None, "p99": None}
