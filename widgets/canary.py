"""The canary slider: it patches a VirtualService, and beside it the chart shows what the visitors really got.

Left, requests a second by version. Right, for each version the share it was meant to get (◇) and the one
observed since the weights last changed (bar), with the interval of shares that this evidence allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from threading import get_ident
from typing import Any

import plotly.graph_objects as go
from IPython.display import display
from ipywidgets import HTML, IntSlider

from cluster.api import ApiError
from cluster.traffic import Window
from widgets import draw, objects, series, split, traffic
from widgets.base import Mesh
from widgets.errors import LabError
from widgets.frontend import has_person
from widgets.live import Feed
from widgets.palette import NEUTRAL, colours
from widgets.series import UNKNOWN, Query
from widgets.stats import Share, share

LABEL = "destination_version"


@dataclass(frozen=True)
class Data:
    """What the figure shows: the intended shares (0 to 1), the requests, and since when they count."""

    intended: Mapping[str, float]
    window: Window
    since: float | None = None

    def observed(self) -> dict[str, Share]:
        """Each version's share of the requests counted since the change."""
        counts = series.totals(self.window, LABEL, self.since)
        total = sum(counts.values())
        names = {*self.intended, *counts}
        return {name: share(counts.get(name, 0), total) for name in sorted(names)}


def figure(data: Data) -> go.Figure:
    """Traffic over time and the split, intended and observed. Pure: the same data gives the same figure."""
    observed = data.observed()
    names = sorted(observed, key=lambda name: (name == UNKNOWN, name), reverse=True)
    return go.Figure(
        [*traffic.bands(data.window, LABEL), _bars(names, observed), _meant(names, data.intended)],
        draw.layout(
            height=400,
            margin={"l": 64, "r": 150, "t": 64, "b": 44},
            bargap=0.45,
            showlegend=True,
            legend={"orientation": "h", "x": 0, "y": 1.2, "traceorder": "normal", "font": {"size": 18}},
            xaxis=traffic.time_axis(domain=[0, 0.54]),
            yaxis=draw.axis("requests a second", rangemode="tozero"),
            xaxis2=draw.axis(
                domain=[0.64, 1],
                anchor="y2",
                range=[-2, 102],
                tickvals=[0, 25, 50, 75, 100],
                tickangle=0,
                ticktext=["0", "25 %", "50 %", "75 %", "100 %"],
            ),
            yaxis2=draw.axis(
                anchor="x2",
                categoryorder="array",
                categoryarray=[traffic.spoken(name) for name in names],
                tickfont={"size": 20},
                showgrid=False,
            ),
            annotations=[_heading(observed), *(_number(name, observed[name]) for name in names)],
        ),
    )


def _bars(names: list[str], observed: Mapping[str, Share]) -> go.Bar:
    colour = colours(names)
    shares = [observed[name] for name in names]
    counted = any(s.total for s in shares)
    return go.Bar(
        x=[round(100 * s.value, 2) for s in shares],
        y=[traffic.spoken(name) for name in names],
        orientation="h",
        name="observed",
        marker={"color": [colour[name] for name in names], "opacity": 0.85},
        error_x={
            "type": "data",
            "symmetric": False,
            "visible": counted,
            "array": [round(100 * (s.high - s.value), 2) for s in shares],
            "arrayminus": [round(100 * (s.value - s.low), 2) for s in shares],
            "thickness": 3,
            "width": 9,
            "color": NEUTRAL,
        },
        xaxis="x2",
        yaxis="y2",
        showlegend=False,
        hovertemplate="observed %{x:.1f} %<extra></extra>",
    )


def _meant(names: list[str], intended: Mapping[str, float]) -> go.Scatter:
    told = [name for name in names if intended and name != UNKNOWN]
    return go.Scatter(
        x=[round(100 * intended.get(name, 0.0), 2) for name in told],
        y=[traffic.spoken(name) for name in told],
        mode="markers",
        cliponaxis=False,
        name="intended",
        marker={"symbol": "diamond-open", "size": 24, "line": {"width": 4}, "color": NEUTRAL},
        xaxis="x2",
        yaxis="y2",
        showlegend=True,
        hovertemplate="intended %{x:.0f} %<extra></extra>",
    )


def _heading(observed: Mapping[str, Share]) -> dict[str, Any]:
    total = next(iter(observed.values())).total if observed else 0
    text = f"<b>share of {total:,} requests</b> since the change" if total else "<b>no requests yet</b>"
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0.64,
        "y": 1.19,
        "xanchor": "left",
        "showarrow": False,
        "font": {"size": 17},
    }


def _number(name: str, observed: Share) -> dict[str, Any]:
    text = f"<b>{100 * observed.value:.1f} %</b><br>{observed.spread}" if observed.total else "–"
    return {
        "text": text,
        "xref": "paper",
        "yref": "y2",
        "x": 1.02,
        "y": traffic.spoken(name),
        "xanchor": "left",
        "align": "left",
        "showarrow": False,
        "font": {"size": 18},
    }


def sentence(data: Data, version: str) -> str:
    """What the chart says about one version, in words."""
    observed = data.observed().get(version, share(0, 0))
    meant = data.intended.get(version)
    if not observed.total:
        return "No requests yet. Are the visitors there?"
    told = (
        "The mesh was told nothing"
        if meant is None
        else f"The mesh was told {100 * meant:.0f} % for {version}"
    )
    return f"{told}; the visitors got {observed}, counting {observed.total:,} requests."


class Canary:
    """The slider and its chart. `host` is a Service whose DestinationRule names the two subsets."""

    def __init__(
        self, mesh: Mesh, query: Query, host: str, stable: str, canary: str, namespace: str = "default"
    ) -> None:
        self._mesh = mesh
        self._query = query
        self._host, self._stable, self._canary, self._namespace = host, stable, canary, namespace
        self._view: View | None = None
        self._feed: Feed | None = None
        service = self._service()
        self._intended = split.intended(service)
        self._since = split.changed_at(service)
        self._changed = 0.0

    # --- told ----------------------------------------------------------------------------------------------

    def set(self, percent: int) -> None:
        """Give the canary `percent` of the requests, and wait until the mesh follows. Raises LabError."""
        objects.wait_until_followed(self._mesh.api, self._tell(percent))

    def _tell(self, percent: int) -> dict[str, Any]:
        weights = {self._stable: 100 - percent, self._canary: percent}
        try:
            wanted = split.with_weights(self._service(), self._host, weights, self._namespace)
            return self._mesh.api.apply(wanted)[0]
        except ApiError as error:
            raise LabError(f"{self._canary} cannot get {percent} %: {error}") from None

    def _moved(self, percent: int) -> None:
        self._mesh.live.soon(self, lambda: self._tell(percent))

    def _service(self) -> dict[str, Any] | None:
        return self._mesh.api.get(split.API_VERSION, "VirtualService", self._host, self._namespace)

    # --- seen ----------------------------------------------------------------------------------------------

    def data(self, window: Window) -> Data:
        """What there is to show when telemetry gave `window`. Raises ApiError.

        When the weights changed, counting begins anew: as soon as every sidecar runs with them, since the
        requests before that say nothing about the new split.
        """
        service = self._service()
        intended = split.intended(service)
        if intended != self._intended:
            self._intended, self._changed, self._since = intended, window.now, None
        late = window.now - self._changed > objects.FOLLOW_SECONDS
        if self._since is None and (service is None or objects.followed(service) or late):
            self._since = window.now
        return Data(self._intended, window, window.now if self._since is None else self._since)

    def figure(self) -> go.Figure:
        """The figure of this moment. Raises LabError when telemetry gives no answer."""
        return figure(self.data(self._mesh.ask(self._query)))

    def close(self) -> None:
        """Stop following the traffic; the chart stays as it is."""
        if self._feed:
            self._mesh.live.leave(self._feed)

    def _ipython_display_(self) -> None:
        if not has_person():
            data = self.data(self._mesh.ask(self._query))
            draw.show_static(figure(data), sentence(data, self._canary))
            return
        if self._view is None:
            label = f"{self._host} {self._canary} gets"
            self._view = View(label, figure(Data({}, series.empty(self._query))), self._moved)
            self._feed = Feed(self._query, self._show, self._view.fail)
            self._mesh.live.follow(self._feed)
        display(self._view.box)  # type: ignore[no-untyped-call]

    def _show(self, window: Window) -> None:
        data = self.data(window)
        if self._view:
            self._view.show(data.intended.get(self._canary, 0.0), figure(data))


class View:
    """What is on the page: slider, chart and a line for trouble. Knows nothing of the mesh."""

    def __init__(self, label: str, empty: go.Figure, moved: Callable[[int], None]) -> None:
        self._chart = draw.live(empty)
        self._trouble = HTML()
        self._moved = moved
        self._wanted: int | None = None  # what the person set and the mesh was not told yet
        self._following: int | None = None  # the thread that moves the slider after the mesh
        self.slider = IntSlider(
            description=label,
            min=0,
            max=100,
            style={"description_width": "initial"},
            layout={"width": "96%"},
        )
        self.slider.observe(self._on_slider, "value")
        self.box = draw.box(self.slider, self._chart, self._trouble)

    def show(self, told: float, figure: go.Figure) -> None:
        """Redraw; and when somebody else changed the weight (a cell, kubectl), the slider follows."""
        percent = round(100 * told)
        if self._wanted in (None, percent):
            self._wanted = None
            self._following = get_ident()
            self.slider.value = percent
            self._following = None
        draw.redraw(self._chart, figure)

    def fail(self, sentence: str) -> None:
        """Show what is wrong; nothing is with an empty sentence."""
        if sentence:
            self._wanted = None  # refused, perhaps: the slider goes back to what holds
        self._trouble.value = f"⚠ {escape(sentence)}" if sentence else ""

    def _on_slider(self, change: Mapping[str, Any]) -> None:
        if self._following != get_ident():
            self._wanted = int(change["new"])
            self._moved(self._wanted)
