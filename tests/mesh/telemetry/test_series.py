"""Series against a list of everything that was reported: no request lost, none counted twice."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.telemetry import series as module
from mesh.telemetry.attributes import Labels
from mesh.telemetry.series import TICK_S, Series, Window, window_before

KEEP_S = 30.0
T0 = 1_000_000.0
NAMES = ("destination_version", "response_code", "reporter")

WHO = [
    Labels(reporter=reporter, destination_version=version, response_code=code)
    for reporter in ("source", "destination")
    for version in ("v1", "v2", "v3")
    for code in ("200", "503")
]
# (seconds until this report comes, how long ago the request had ended, labels, latency in ms)
reports = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.25, 1.0, 6.0]),
        st.sampled_from([0.0, 0.2, 2.0, 8.0, -1.0]),
        st.sampled_from(WHO),
        st.floats(0.1, 10_000),
    ),
    min_size=1,
    max_size=60,
)


def tell(store, told):
    """Report everything; return [(tick it counts in, labels)] and the time of the last report."""
    now, counted = T0, []
    for pause, age, who, latency in told:
        now += pause
        store.add(now - age, who, latency, now)
        counted.append((int(min(now - age, now) / TICK_S), who))
    return counted, now


@settings(max_examples=100)
@given(
    reports,
    st.sets(st.sampled_from(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), st.just(None)),
    st.data(),
)
def test_lines_are_what_was_reported(told, by, filtered, data):
    store = Series(KEEP_S)
    counted, now = tell(store, told)
    by = sorted(by)
    where = {
        name: data.draw(st.lists(st.sampled_from(["v1", "v2", "200", "503", "source", "other"]), max_size=3))
        for name in filtered
    }
    window = window_before(
        now, data.draw(st.sampled_from([1.0, 5.0, KEEP_S])), data.draw(st.sampled_from([0.25, 1.0, 2.5]))
    )
    first_kept = int(now / TICK_S) - round(KEEP_S / TICK_S) + 1

    expected = Counter()
    for tick, who in counted:
        inside = window.start <= tick * TICK_S < window.end and tick >= first_kept
        if inside and all(getattr(who, name) in values for name, values in where.items()):
            step = int((tick * TICK_S - window.start) / window.step)
            expected[tuple(getattr(who, name) for name in by), step] += 1

    lines = store.query(by, where, window)
    found = Counter()
    for line in lines:
        assert len(line.counts) == window.steps
        assert sum(line.counts) == line.latency.total() > 0
        for step, count in enumerate(line.counts):
            found[tuple(line.labels[name] for name in by), step] += count
    assert +found == expected
    assert len({tuple(line.labels.values()) for line in lines}) == len(lines)


@given(reports)
def test_lines_by_any_label_add_up_to_the_same(told):
    store = Series(KEEP_S)
    _, now = tell(store, told)
    window = window_before(now + 0.01, KEEP_S, 1.0)
    (total,) = store.query((), {}, window)
    for name in Labels._fields:
        lines = store.query((name,), {}, window)
        assert [sum(step) for step in zip(*(line.counts for line in lines), strict=True)] == total.counts


@given(
    st.floats(1e9, 2e9), st.sampled_from([0.5, 1.0, 7.3, 30.0, 600.0]), st.sampled_from([0.25, 0.5, 1.0, 5.0])
)
def test_windows_are_the_steps_touched_and_move_on_in_whole_steps(end, length, step):
    window = window_before(end, length, step)
    assert window.start % step == 0
    assert window.start <= end - length + 1e-3 and end <= window.end + 1e-3
    assert window.start + step > end - length - 1e-3 and window.end - step < end + 1e-3  # no step too many
    assert window_before(window.end, window.end - window.start, step) == window
    later = window_before(end + step, length, step)
    assert later.start == pytest.approx(window.start + step) and later.steps == window.steps


def test_what_is_older_than_kept_is_dropped_and_its_series_forgotten():
    store = Series(KEEP_S)
    store.add(T0, Labels(response_code="404"), 1, T0)
    later = T0 + KEEP_S + 20
    store.add(later, Labels(), 1, later)
    assert store.query(("response_code",), {}, Window(T0 - 1, 1.0, 100))[0].labels == {"response_code": "0"}
    later += 20
    store.add(later, Labels(), 1, later)
    assert Labels(response_code="404") not in store._ids
    assert store.kept_from(later) >= later - KEEP_S


def test_memory_is_bounded_by_dropping_the_oldest():
    store = Series(KEEP_S, most_cells=100)
    now = T0
    for number in range(2000):
        now += 0.05
        store.add(now, Labels(response_code=str(number % 7)), number % 50 + 1, now)
    assert store._cells <= 100
    assert now - KEEP_S < store.kept_from(now) < now
    since = store.kept_from(now)
    (line,) = store.query((), {}, window_before(now, now - since, TICK_S))
    assert abs(sum(line.counts) - (now - since) / 0.05) <= 10  # complete since then


def test_a_series_too_many_still_counts(monkeypatch):
    monkeypatch.setattr(module, "MOST_SERIES", 3)
    store = Series(KEEP_S)
    for number in range(10):
        store.add(T0, Labels(reporter="source", response_code=str(200 + number)), 1, T0)
    lines = store.query(("response_code",), {}, window_before(T0 + 0.1, 1, 1))
    assert sum(sum(line.counts) for line in lines) == 10 and len(lines) == 4


def test_a_late_report_of_a_packed_tick_counts_where_it_belongs():
    store = Series(KEEP_S)
    for now, ended in ((T0, T0), (T0 + 10, T0 + 10), (T0 + 10, T0), (T0 + 10, T0 - 1), (T0 + 20, T0 - 1)):
        store.add(ended, Labels(), 1, now)
    (line,) = store.query((), {}, Window(T0 - 2, 1.0, 24))
    assert {i: n for i, n in enumerate(line.counts) if n} == {1: 2, 2: 2, 12: 1}
    assert all(a <= b for a, b in pairwise(sorted(store._packed)))
