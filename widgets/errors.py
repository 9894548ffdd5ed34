"""The lab's own error: one sentence for a person, in a notebook without the traceback nobody asked for."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab was asked for and could not do; str() names what and, where there is one, the fix."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback (IPython, "Custom exception tracebacks")."""
        return [f"⚠ {self}"]
