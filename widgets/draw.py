"""How every figure of the lab looks, and how a new figure moves into a chart that is already on the page.

Backgrounds are transparent and text takes the page's own colour, so that a chart belongs to a light page as
to a dark one. Type is large: the last row of a class reads it too.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import anywidget
import plotly.graph_objects as go
import plotly.io
from IPython.display import display
from ipywidgets import VBox

from widgets.palette import NEUTRAL, VERSIONS

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

STYLE = f"""
.mesh-lab {{ --mesh-text: var(--jp-content-font-color1, var(--vscode-foreground, {NEUTRAL})); }}
.mesh-lab .js-plotly-plot text {{ fill: var(--mesh-text) !important; }}
.mesh-lab .js-plotly-plot .error_bar path, .mesh-lab .js-plotly-plot path.yerror,
.mesh-lab .js-plotly-plot path.xerror {{ stroke: var(--mesh-text) !important; }}
.mesh-lab .scatterlayer .points path, .mesh-lab .legendpoints path {{ stroke: var(--mesh-text) !important; }}
.mesh-lab .widget-label, .mesh-lab .widget-readout, .mesh-lab .widget-html-content {{
  font: 500 18px {FONT}; color: var(--mesh-text); line-height: 1.45; }}
.mesh-lab .widget-slider .widget-label {{ margin-right: 24px; }}
.mesh-lab .widget-readout {{ font-weight: 700; font-size: 20px; min-width: 3.2em; }}
.mesh-lab .noUi-handle {{ width: 28px !important; height: 28px !important; top: -12px !important;
  right: -14px !important; border-radius: 14px !important; border: none !important;
  background: {VERSIONS["v3"]} !important; }}
.mesh-lab .noUi-horizontal {{ height: 6px !important; }}
.mesh-lab .widget-slider {{ height: 44px; }}
"""


class Stage(anywidget.AnyWidget):
    """Part of every widget's box (whose class is `mesh-lab`): brings the style sheet, and tells the charts when
    the box changes its size. Plotly listens to the window only, and draws before the box has a size.
    """

    _css = STYLE
    _esm = """
    export default {
      render({ el }) {
        el.style.width = "100%";
        const tell = () => requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
        const observer = new ResizeObserver(tell);
        observer.observe(el);
        document.addEventListener("plotlywidget-after-render", tell);
        return () => {
          observer.disconnect();
          document.removeEventListener("plotlywidget-after-render", tell);
        };
      },
    };
    """


def box(*parts: Any) -> VBox:
    """The parts one below the other, in the lab's style."""
    made = VBox([Stage(), *parts])
    made.add_class("mesh-lab")
    return made


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
    with widget.batch_update():
        if [(t["type"], t.get("name")) for t in old] == [(t["type"], t.get("name")) for t in new]:
            for trace, before, after in zip(widget.data, old, new, strict=True):
                _change(trace, before, after)
        else:
            widget.data = []
            widget.add_traces(list(figure.data))
        # By key, never as a whole: to plotly.js a height that is sent again means "and keep this width".
        _change(widget.layout, widget.layout.to_plotly_json(), figure.layout.to_plotly_json())
    _remember(widget)


def _remember(widget: go.FigureWidget) -> None:
    """Keep the widget's state what is shown, for a page that is reloaded and asks the kernel for it.

    plotly sends changes and leaves the state as it was at the start; set in place, it is not sent again.
    """
    widget._trait_values.update(_widget_data=deepcopy(widget._data), _widget_layout=deepcopy(widget._layout))


def _change(part: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in after.items():
        if key not in ("type", "uid") and before.get(key) != value:
            part[key] = value


def static(figure: go.Figure) -> str:
    """The figure as HTML that needs neither kernel nor network."""
    html = plotly.io.to_html(
        figure, full_html=False, include_plotlyjs=_library(), config={"displayModeBar": False}
    )
    return f'<div class="mesh-lab"><style>{STYLE}</style>{html}</div>'


def show_static(figure: go.Figure, text: str) -> None:
    """Put the figure as it is into the notebook, and `text` where no HTML can be shown."""
    display({"text/html": static(figure), "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


_sent: set[str] = set()


def _library() -> bool:
    """Whether plotly.js (4 MB) has to come with this figure: only with the first one of a notebook."""
    first = not _sent
    _sent.add("plotly.js")
    return first
