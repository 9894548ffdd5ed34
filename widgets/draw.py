"""How every figure of the lab looks, and how a new figure moves into a chart that is already on the page.

Backgrounds are transparent and text takes the page's own colour, so that a chart belongs to a light page as
to a dark one. Type is large: the last row of a class reads it too.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import plotly.io
from IPython.display import HTML
from ipywidgets import HTML as HTMLWidget

from widgets.palette import NEUTRAL, VERSIONS

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

STYLE = f"""<style>
.mesh-lab {{ --mesh-text: var(--jp-content-font-color1, var(--vscode-foreground, {NEUTRAL})); }}
.mesh-lab .js-plotly-plot text {{ fill: var(--mesh-text) !important; }}
.mesh-lab .js-plotly-plot .error_bar path, .mesh-lab .js-plotly-plot path.yerror,
.mesh-lab .js-plotly-plot path.xerror {{ stroke: var(--mesh-text) !important; }}
.mesh-lab .scatterlayer .points path, .mesh-lab .legendpoints path {{ stroke: var(--mesh-text) !important; }}
.mesh-lab .widget-label, .mesh-lab .widget-readout, .mesh-lab .widget-html-content {{
  font: 500 18px {FONT}; color: var(--mesh-text); line-height: 1.45; }}
.mesh-lab .widget-readout {{ font-weight: 700; font-size: 20px; min-width: 3.2em; }}
.mesh-lab .noUi-handle {{ width: 28px !important; height: 28px !important; top: -12px !important;
  right: -14px !important; border-radius: 14px !important; border: none !important;
  background: {VERSIONS["v3"]} !important; }}
.mesh-lab .noUi-horizontal {{ height: 6px !important; }}
.mesh-lab .widget-slider {{ height: 44px; }}
</style>"""


def style() -> HTMLWidget:
    """The style sheet, as a part of a widget's box (whose class is `mesh-lab`)."""
    return HTMLWidget(STYLE, layout={"display": "none"})


def layout(**more: Any) -> dict[str, Any]:
    """The layout all figures start from."""
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 16, "color": NEUTRAL},
        "hovermode": "x unified",
        "autosize": True,
        "uirevision": "keep",  # a person's zoom survives the next update
        **more,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with a quiet grid."""
    return {
        "title": {"text": title, "font": {"size": 16}},
        "gridcolor": "rgba(127,127,127,0.25)",
        "zeroline": False,
        "showline": False,
        "fixedrange": True,
        **more,
    }


def live(figure: go.Figure) -> go.FigureWidget:
    """The figure as a widget that can be redrawn in place."""
    widget = go.FigureWidget(figure)
    widget._config = {"displayModeBar": False, "responsive": True}
    return widget


def redraw(widget: go.FigureWidget, figure: go.Figure) -> None:
    """Make the widget show `figure`, sending only what changed, in one message."""
    new = [trace.to_plotly_json() for trace in figure.data]
    old = [trace.to_plotly_json() for trace in widget.data]
    if [(t["type"], t.get("name")) for t in old] != [(t["type"], t.get("name")) for t in new]:
        with widget.batch_update():
            widget.data = []
            widget.add_traces(list(figure.data))
            widget.layout = figure.layout
        return
    with widget.batch_update():
        for trace, before, after in zip(widget.data, old, new, strict=True):
            for key, value in after.items():
                if key not in ("type", "uid") and before.get(key) != value:
                    trace[key] = value
        before, after = widget.layout.to_plotly_json(), figure.layout.to_plotly_json()
        for key, value in after.items():
            if before.get(key) != value:
                widget.layout[key] = value


def static(figure: go.Figure) -> HTML:
    """The figure as HTML that needs neither kernel nor network."""
    html = plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=_library(), config={"displayModeBar": False}
    )
    return HTML(f'<div class="mesh-lab">{STYLE}{html}</div>')  # type: ignore[no-untyped-call]


_sent: set[str] = set()


def _library() -> bool:
    """Whether plotly.js (4 MB) has to come with this figure: only with the first one of a notebook."""
    first = not _sent
    _sent.add("plotly.js")
    return first
