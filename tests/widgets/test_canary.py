"""The canary's figure says what was counted, beside what was intended, and nothing else."""

import pytest

from cluster.traffic import Series, Window
from widgets import canary, draw
from widgets.canary import Data, figure, sentence
from widgets.palette import FAILED, VERSIONS
from widgets.series import SETTLE


def window(**lines: list[int]) -> Window:
    steps = max(map(len, lines.values()), default=0)
    seen = [Series({canary.LABEL: version}, counts, sum(counts), {}) for version, counts in lines.items()]
    return Window(now=1000.0 + steps * 0.25 + SETTLE, start=1000.0, step=0.25, series=seen)


def trace(data: Data, name: str) -> dict[str, object]:
    return next(t.to_plotly_json() for t in figure(data).data if t.name == name)


CHANGED = Data({"v1": 0.75, "v3": 0.25}, window(v1=[10] * 8 + [7] * 8, v3=[0] * 8 + [3] * 8), since=1002.0)


def test_only_what_came_after_the_change_counts() -> None:
    observed = CHANGED.observed()
    assert (observed["v3"].count, observed["v3"].total) == (24, 80)
    bars = trace(CHANGED, "observed")
    assert dict(zip(bars["y"], bars["x"], strict=True)) == {"v3": 30.0, "v1": 70.0}  # type: ignore[call-overload]


def test_the_interval_reaches_from_low_to_high() -> None:
    bars = trace(CHANGED, "observed")
    v3, at = CHANGED.observed()["v3"], bars["y"].index("v3")  # type: ignore[attr-defined]
    error = bars["error_x"]
    assert bars["x"][at] - error["arrayminus"][at] == pytest.approx(100 * v3.low, abs=0.02)  # type: ignore[index]
    assert bars["x"][at] + error["array"][at] == pytest.approx(100 * v3.high, abs=0.02)  # type: ignore[index]


def test_the_diamonds_stand_where_the_mesh_was_told() -> None:
    meant = trace(CHANGED, "intended")
    assert dict(zip(meant["y"], meant["x"], strict=True)) == {"v3": 25.0, "v1": 75.0}  # type: ignore[call-overload]


def test_a_version_that_is_not_named_is_meant_to_get_nothing() -> None:
    meant = trace(Data({"v1": 1.0}, window(v1=[4] * 4, v3=[1] * 4, unknown=[1] * 4)), "intended")
    assert dict(zip(meant["y"], meant["x"], strict=True)) == {"v1": 100.0, "v3": 0.0}  # type: ignore[call-overload]
    assert not trace(Data({}, window(v1=[4] * 4)), "intended").get("x")


def test_a_version_without_requests_has_no_band() -> None:
    names = [t.name for t in figure(Data({}, window(v1=[4] * 4, v3=[0] * 4))).data]
    assert names == ["v1", "observed", "intended"]


def test_a_version_has_one_colour_in_both_charts() -> None:
    bars = trace(CHANGED, "observed")
    for version in ("v1", "v3"):
        at = bars["y"].index(version)  # type: ignore[attr-defined]
        assert bars["marker"]["color"][at] == VERSIONS[version]  # type: ignore[index]
        assert trace(CHANGED, version)["line"]["color"] == VERSIONS[version]  # type: ignore[index]


def test_what_no_version_answered_is_shown_as_failed() -> None:
    data = Data({"v1": 1.0}, window(v1=[4] * 4, unknown=[4] * 4))
    assert trace(data, "failed")["line"]["color"] == FAILED  # type: ignore[index]
    assert data.observed()["unknown"].value == 0.5


def test_before_the_first_request_there_is_an_axis_and_no_number() -> None:
    data = Data({"v1": 0.9, "v3": 0.1}, window())
    texts = [note.text for note in figure(data).layout.annotations]
    assert texts == ["<b>no requests yet</b>", "–", "–"]
    assert sentence(data, "v3") == "No requests yet. Are the visitors there?"


def test_the_sentence_says_both_numbers() -> None:
    assert sentence(CHANGED, "v3") == (
        "The mesh was told 25 % for v3; the visitors got 30.0 % (21.1 to 40.8 %), counting 80 requests."
    )
    assert sentence(Data({}, CHANGED.window), "v3").startswith("The mesh was told nothing;")


def test_the_same_data_gives_the_same_figure() -> None:
    assert figure(CHANGED) == figure(CHANGED)


def test_a_chart_on_the_page_becomes_the_new_figure() -> None:
    chart = draw.live(figure(Data({}, window())))
    for data in (CHANGED, Data({"v1": 0.5, "v3": 0.5}, window(v1=[1] * 4, v3=[1] * 4, v2=[2] * 4)), CHANGED):
        draw.redraw(chart, figure(data))
        shown = [{k: v for k, v in t.to_plotly_json().items() if k != "uid"} for t in chart.data]
        assert shown == [t.to_plotly_json() for t in figure(data).data]
        assert chart.layout == figure(data).layout
        reloaded = chart.get_state(["_widget_data", "_widget_layout"])
        assert [t["name"] for t in reloaded["_widget_data"]] == [t.name for t in figure(data).data]
        assert reloaded["_widget_layout"]["annotations"] == chart.layout.to_plotly_json()["annotations"]


def test_the_static_figure_needs_no_network() -> None:
    draw._sent.clear()
    first, second = draw.static(figure(CHANGED)), draw.static(figure(CHANGED))
    assert "Plotly.newPlot" in first and "<script src=" not in first
    assert len(second) < len(first) / 20  # the library comes once
