"""When a measured split counts as the one that was asked for."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from mesh.cli.demo_steps import fits, in_words


@given(st.floats(0.05, 0.95), st.integers(200, 1500), st.randoms(use_true_random=False))
def test_a_right_split_fits(share: float, total: int, draw: random.Random) -> None:
    count = sum(draw.random() < share for _ in range(total))
    if 0 < count < total:
        assert (
            fits({"v1": total - count, "v3": count}, {"v1": 1 - share, "v3": share})
            or abs(count / total - share) > 3.5 * (share * (1 - share) / total) ** 0.5
        )


def test_a_wrong_split_does_not_fit() -> None:
    assert not fits({"v1": 500, "v3": 500}, {"v1": 0.8, "v3": 0.2})
    assert not fits({"v1": 1000}, {"v1": 0.8, "v3": 0.2})
    assert not fits({"v1": 795, "v2": 5, "v3": 200}, {"v1": 0.8, "v3": 0.2})
    assert not fits({}, {"v1": 1.0})


def test_counts_are_told_as_shares() -> None:
    assert in_words({"v3": 198, "v1": 802}) == "v1 80.2 %, v3 19.8 %"
    assert in_words({}) == "nothing"
