"""Telemetry's answer becomes rates and totals without inventing or losing a request."""

from hypothesis import given
from hypothesis import strategies as st

from cluster.traffic import Series, Window
from widgets import series
from widgets.series import SETTLE, Query

VERSION = "destination_version"


def line(counts: list[int], **labels: str) -> Series:
    return Series(labels, counts, sum(counts), {})


def window(step: float = 0.25, **lines: list[int]) -> Window:
    steps = max(map(len, lines.values()))
    seen = [line(counts, destination_version=version) for version, counts in lines.items()]
    return Window(now=100.0 + steps * step + SETTLE, start=100.0, step=step, series=seen)


def test_rates_are_requests_in_the_second_before() -> None:
    rates = series.rates(window(v1=[1, 1, 1, 1, 5, 1, 1, 1]), VERSION)
    assert rates["v1"] == [4.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 8.0]


def test_a_step_that_may_still_grow_is_left_out() -> None:
    full = window(v1=[2] * 8)
    early = Window(full.now - 0.25, full.start, full.step, full.series)
    assert (series.steps(full), series.steps(early)) == (8, 7)
    assert series.seconds_ago(full)[-1] == -SETTLE


def test_totals_count_only_what_began_after_the_change() -> None:
    seen = window(v1=[10, 10, 0, 0], v3=[0, 0, 10, 10])
    assert series.totals(seen, VERSION) == {"v1": 20, "v3": 20}
    assert series.totals(seen, VERSION, since=100.5) == {"v1": 0, "v3": 20}
    assert series.totals(seen, VERSION, since=100.6) == {"v1": 0, "v3": 10}
    assert series.totals(seen, VERSION, since=200.0) == {"v1": 0, "v3": 0}
    assert series.totals(seen, VERSION, since=0.0) == {"v1": 20, "v3": 20}


def test_other_labels_are_summed_up_and_a_missing_one_is_unknown() -> None:
    lines = [
        line([1, 2], destination_version="v1", response_code="200"),
        line([3, 4], destination_version="v1", response_code="503"),
        line([5, 6], destination_version="", response_code="503"),
        line([1, 0], response_code="503"),
    ]
    assert series.totals(Window(103.0, 100.0, 1.0, lines), VERSION) == {"v1": 10, "unknown": 12}


def test_before_the_first_answer_there_is_nothing() -> None:
    nothing = series.empty(Query((VERSION,)))
    assert series.rates(nothing, VERSION) == {}
    assert series.seconds_ago(nothing) == []


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from([0.25, 0.5, 1.0]))
def test_no_request_is_invented(counts: list[int], step: float) -> None:
    seen = window(step, v1=counts)
    assert sum(series.totals(seen, VERSION).values()) == sum(counts)
    assert max(series.rates(seen, VERSION)["v1"]) <= max(counts) / step + 1e-9
