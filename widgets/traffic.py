"""The live chart of requests a second, one band a version (or any other label of telemetry)."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go
from IPython.display import display
from ipywidgets import HTML

from cluster.traffic import Window
from widgets import draw, series
from widgets.base import Mesh
from widgets.frontend import has_person
from widgets.live import Feed
from widgets.palette import colours, patterns
from widgets.series import UNKNOWN, Query

SECONDS = 30.0


def bands(window: Window, label: str) -> list[go.Scatter]:
    """A stacked band for each value of `label`, in requests a second over the last complete steps."""
    rates = {name: rate for name, rate in series.rates(window, label).items() if any(rate)}
    names = sorted(rates, key=lambda name: (name == UNKNOWN, name))
    colour, pattern = colours(names), patterns(names)
    return [
        go.Scatter(
            x=series.seconds_ago(window),
            y=[round(rate, 2) for rate in rates[name]],
            name=spoken(name),
            stackgroup="versions",
            mode="lines",
            line={"color": colour[name], "width": 2},
            fillpattern={"shape": pattern[name], "fgcolor": colour[name], "fillmode": "overlay", "size": 12},
            hovertemplate="%{y:.1f}/s",
        )
        for name in names
    ]


def spoken(name: str) -> str:
    """A version as the legend says it; a request that no version answered has failed."""
    return "failed" if name == UNKNOWN else name


def time_axis(**more: Any) -> dict[str, Any]:
    """Seconds before now, the newest at the right."""
    ticks = list(range(10 - int(SECONDS), 1, 10))
    return draw.axis(
        range=[-SECONDS, 0],
        tickvals=ticks,
        ticktext=[f"{tick} s" if tick else "now" for tick in ticks],
        **more,
    )


def figure(window: Window, label: str = "destination_version") -> go.Figure:
    """Requests a second by `label`. Pure: the same window gives the same figure."""
    return go.Figure(
        bands(window, label),
        draw.layout(
            height=360,
            margin={"l": 64, "r": 32, "t": 40, "b": 40},
            xaxis=time_axis(),
            yaxis=draw.axis("requests a second", rangemode="tozero"),
            legend={"orientation": "h", "x": 0, "y": 1.14, "traceorder": "normal", "font": {"size": 18}},
            showlegend=True,
        ),
    )


class Traffic:
    """Shows `figure` and keeps it up to date; where nobody looks, the figure as it is now."""

    def __init__(self, mesh: Mesh, query: Query) -> None:
        self._mesh = mesh
        self._query = query
        self._feed: Feed | None = None

    def figure(self) -> go.Figure:
        """The figure of this moment. Raises LabError when telemetry gives no answer."""
        return figure(self._mesh.ask(self._query), self._query.by[0])

    def close(self) -> None:
        """Stop following the traffic; the chart stays as it is."""
        if self._feed:
            self._mesh.live.leave(self._feed)
            self._feed = None

    def _ipython_display_(self) -> None:
        if not has_person():
            draw.show_static(self.figure(), f"requests a second by {self._query.by[0]}")
            return
        self.close()
        label = self._query.by[0]
        chart, trouble = draw.live(figure(series.empty(self._query), label)), HTML()

        def show(window: Window) -> None:
            draw.redraw(chart, figure(window, label))

        def fail(sentence: str) -> None:
            trouble.value = f"⚠ {escape(sentence)}" if sentence else ""

        self._feed = Feed(self._query, show, fail)
        self._mesh.live.follow(self._feed)
        display(draw.box(chart, trouble))  # type: ignore[no-untyped-call]
