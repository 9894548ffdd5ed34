"""Notebook widgets that drive the mesh and show the traffic that really flows.

A lesson needs `Lab` (lab.py), which brings everything up; it hands out the widgets, one file each (canary.py,
traffic.py), and live.py keeps them moving. Figures are pure functions of what telemetry said (series.py,
stats.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widgets.answers import compare
    from widgets.errors import LabError
    from widgets.lab import Lab
    from widgets.stats import enough_for

__all__ = ["Lab", "LabError", "compare", "enough_for"]

_HOMES = {"Lab": "lab", "LabError": "errors", "compare": "answers", "enough_for": "stats"}


def __getattr__(name: str) -> Any:
    """Import on first use: `mesh lab` needs widgets.jupyter only, and plotly takes a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"widgets.{_HOMES[name]}"), name)
