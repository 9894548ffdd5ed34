"""The confidence interval keeps its promise: it holds the true share as often as it says."""

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.stats import CERTAIN, enough_for, share


def test_known_values_of_the_wilson_interval() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
    found = share(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    none = share(0, 20)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    one = share(1, 29)
    assert (round(one.low, 4), round(one.high, 4)) == (0.0061, 0.1718)


@given(st.integers(0, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_lies_in_0_to_1_around_what_was_observed(counted: tuple[int, int]) -> None:
    found = share(*counted)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert found.holds(found.value)
    wider = share(*counted, confidence=CERTAIN)
    assert wider.low <= found.low and found.high <= wider.high


@pytest.mark.parametrize("truth", [0.05, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("total", [50, 200])
def test_it_holds_the_truth_in_about_95_of_100_cases(truth: float, total: int) -> None:
    held = sum(
        comb(total, k) * truth**k * (1 - truth) ** (total - k)
        for k in range(total + 1)
        if share(k, total).holds(truth)
    )
    assert 0.92 <= held <= 0.99


def test_a_check_is_all_but_never_wrong_by_bad_luck() -> None:
    draw = random.Random(7)
    for _ in range(300):
        count = sum(draw.random() < 0.2 for _ in range(300))
        assert share(count, 300, CERTAIN).holds(0.2)
        assert not share(count, 300, CERTAIN).holds(0.5)


def test_nothing_counted_says_nothing() -> None:
    found = share(0, 0)
    assert (found.low, found.high, str(found)) == (0.0, 1.0, "nothing counted yet")


def test_it_reads_as_a_sentence() -> None:
    assert str(share(10, 100)) == "10.0 % (5.5 to 17.4 %)"


@pytest.mark.parametrize(
    ("count", "total", "spread"),
    [(500, 1000, "47 to 53 %"), (0, 1470, "0 to 0.3 %"), (1470, 1470, "99.7 to 100 %"), (0, 0, "0 to 100 %")],
)
def test_the_spread_is_as_exact_as_its_ends_need(count: int, total: int, spread: str) -> None:
    assert share(count, total).spread == spread


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5)])
def test_a_count_that_is_no_share_is_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        share(count, total)


@given(st.floats(0.005, 0.3))
def test_enough_requests_are_enough_and_not_too_many(margin: float) -> None:
    total = enough_for(margin)
    reach = share(total // 2, total).high - 0.5
    assert reach <= margin + 0.5 / total + 1e-9
    if total > 40:
        fewer = int(total * 0.9)
        assert share(fewer // 2, fewer).high - 0.5 > margin - 1 / fewer
