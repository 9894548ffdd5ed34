"""The renewal schedule."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from mesh.ca.rotate import renew_at, retry_after

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_half_life() -> None:
    assert renew_at(NOW, NOW + timedelta(hours=24), 0.0) == NOW + timedelta(hours=12)
    assert renew_at(NOW, NOW - timedelta(hours=1), 0.0) == NOW


@given(st.integers(1, 10**8), st.floats(0, 1, exclude_max=True))
def test_renewal_leaves_at_least_half_of_the_life(seconds: int, draw: float) -> None:
    moment = renew_at(NOW, NOW + timedelta(seconds=seconds), draw)
    assert NOW + timedelta(seconds=seconds) * 0.44 < moment <= NOW + timedelta(seconds=seconds) * 0.5


@given(st.integers(1, 10**6), st.floats(0, 10**6))
def test_retries_back_off_but_fit_into_what_is_left(failures: int, left: float) -> None:
    pause = retry_after(failures, timedelta(seconds=left))
    assert 0.05 <= pause <= 15.0
    assert pause <= max(left / 10, 0.05) + 1e-6  # a timedelta counts whole microseconds
