"""One colour a version, the same in every widget, and a mark beside it for whoever cannot tell colours.

The colours are those of Okabe and Ito ("Color Universal Design", 2008), moved to a lightness that keeps a
contrast of 3 : 1 on JupyterLab's white and on its dark page (WCAG 2.2, criterion 1.4.11).
"""

from __future__ import annotations

from collections.abc import Iterable

from widgets.series import UNKNOWN

VERSIONS = {"v1": "#2B83C6", "v2": "#A848F0", "v3": "#D55E00"}
OTHERS = ("#0F9A72", "#C2619A", "#8A7400")
FAILED = "#767676"
"""Requests that no version answered."""

NEUTRAL = "#7F7F7F"
"""Text, axes and outlines where the page's own colour cannot be asked for."""

PATTERNS = {"v1": "", "v2": "/", "v3": ".", UNKNOWN: "x"}


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: the versions have their own, others take the next free one in sorted order."""
    names = sorted(set(names))
    others = [name for name in names if name not in VERSIONS and name != UNKNOWN]
    chosen = {name: VERSIONS[name] for name in names if name in VERSIONS}
    chosen |= {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(others)}
    if UNKNOWN in names:
        chosen[UNKNOWN] = FAILED
    return chosen


def patterns(names: Iterable[str]) -> dict[str, str]:
    """A fill pattern for each name, so that the chart reads in black and white too."""
    others = [name for name in sorted(set(names)) if name not in PATTERNS]
    free = ("\\", "+", "-", "|")
    return {name: PATTERNS[name] for name in names if name in PATTERNS} | {
        name: free[i % len(free)] for i, name in enumerate(others)
    }
