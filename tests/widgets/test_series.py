"""Telemetry's answer becomes rates and totals without inventing or losing a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widgets.series import SETTLE, Query, Series, Window


def window(step: float = 0.25, **lines: list[int]) -> Window:
    steps = max(map(len, lines.values()))
    series = tuple(Series({"destination_version": v}, tuple(counts)) for v, counts in lines.items())
    return Window(now=100.0 + steps * step + SETTLE, start=100.0, step=step, series=series)


def test_an_answer_is_read_as_telemetry_gives_it() -> None:
    read = Window.read(
        {
            "now": 130.0,
            "start": 100.0,
            "step": 1.0,
            "series": [
                {
                    "labels": {"destination_version": "v1"},
                    "counts": [3] * 30,
                    "total": 90,
                    "latency_ms": {"p50": 4.5, "p90": 8.0, "p99": None},
                }
            ],
        }
    )
    assert read.series[0].total == 90
    assert read.series[0].latency_ms["p50"] == 4.5
    assert read.steps == 29  # the newest is not complete yet


@pytest.mark.parametrize("answer", [{}, {"now": 1, "start": 0, "step": 1, "series": [{}]}])
def test_what_is_no_answer_is_not_read(answer: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Window.read(answer)


def test_a_query_says_what_it_asks() -> None:
    query = Query(("destination_version",), 30, 0.25, (("reporter", "source"),), end=12.5)
    assert query.parameters() == {
        "by": "destination_version",
        "window": "30",
        "step": "0.25",
        "end": "12.500",
        "reporter": "source",
    }
    assert query in {query}


def test_rates_are_requests_in_the_second_before() -> None:
    rates = window(v1=[1, 1, 1, 1, 5, 1, 1, 1]).rates("destination_version")
    assert rates["v1"] == [4.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 8.0]


def test_a_step_that_may_still_grow_is_left_out() -> None:
    full = window(v1=[2] * 8)
    early = Window(full.now - 0.25, full.start, full.step, full.series)
    assert (full.steps, early.steps) == (8, 7)
    assert full.seconds_ago()[-1] == -SETTLE


def test_totals_count_only_what_began_after_the_change() -> None:
    seen = window(v1=[10, 10, 0, 0], v3=[0, 0, 10, 10])
    assert seen.totals("destination_version") == {"v1": 20, "v3": 20}
    assert seen.totals("destination_version", since=100.5) == {"v1": 0, "v3": 20}
    assert seen.totals("destination_version", since=100.6) == {"v1": 0, "v3": 10}
    assert seen.totals("destination_version", since=200.0) == {"v1": 0, "v3": 0}
    assert seen.totals("destination_version", since=0.0) == {"v1": 20, "v3": 20}


def test_other_labels_are_summed_up_and_a_missing_one_is_unknown() -> None:
    series = (
        Series({"destination_version": "v1", "response_code": "200"}, (1, 2)),
        Series({"destination_version": "v1", "response_code": "503"}, (3, 4)),
        Series({"response_code": "503"}, (5, 6)),
    )
    seen = Window(103.0, 100.0, 1.0, series)
    assert seen.totals("destination_version") == {"v1": 10, "unknown": 11}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from([0.25, 0.5, 1.0]))
def test_no_request_is_invented(counts: list[int], step: float) -> None:
    seen = window(step, v1=counts)
    assert sum(seen.totals("destination_version").values()) == sum(counts)
    assert max(seen.rates("destination_version")["v1"]) <= max(counts) / step + 1e-9
