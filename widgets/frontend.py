"""Who is looking: a person at a notebook, a notebook run by a program, or a plain Python session.

A live chart needs a page that draws it. papermill and nbval have none: there the same cell shows the figure
as it is at that moment, and the executed notebook is complete in itself.
"""

from __future__ import annotations

import sys
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import DisplayHandle, display


def _kernel() -> Any:
    return getattr(get_ipython(), "kernel", None)


def in_notebook() -> bool:
    """Whether outputs go to a notebook (and not to a terminal)."""
    return _kernel() is not None


def has_person() -> bool:
    """Whether the notebook is open in front of somebody.

    A front end that could ask its user for input says so with every cell (`allow_stdin`); programs that run
    notebooks say they cannot. Source: Jupyter messaging protocol, `execute_request`.
    """
    kernel = _kernel()
    if kernel is None:
        return False
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


class Board:
    """A piece of output that is rewritten in place: HTML in a notebook, new lines of text elsewhere."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._lines: list[str] = []

    def show(self, html: str, text: str) -> None:
        """Show this now; where nothing can be rewritten, print the lines of `text` that are new."""
        if not in_notebook():
            self._print(text)
            return
        bundle = {"text/html": html, "text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)  # type: ignore[no-untyped-call]

    def _print(self, text: str) -> None:
        lines = text.splitlines()
        for line in lines:
            if line not in self._lines:
                print(line, file=sys.stdout, flush=True)
        self._lines = lines
