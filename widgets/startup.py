"""The start of a lab as a table that fills up: what happens now, and how long each step took."""

from __future__ import annotations

from html import escape

from cluster.steps import Report
from widgets.frontend import Board

MARKS = {"running": "…", "done": "✓", "failed": "✗", "rolled back": "↩"}


class Startup:
    """Shows the steps' reports as they come; give it to `cluster.up.up` as its progress."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._board = Board()
        self._reports: dict[str, Report] = {}
        self._end = ""

    def __call__(self, report: Report) -> None:
        self._reports[report.step] = report
        self._show()

    def done(self, sentence: str) -> None:
        """The last line: what there is now."""
        self._end = sentence
        self._show()

    def _show(self) -> None:
        reports = list(self._reports.values())
        self._board.show(html(self._title, reports, self._end), text(reports, self._end))


def text(reports: list[Report], end: str = "") -> str:
    """The finished steps as plain lines, and the sentence at the end."""
    lines = [
        f"{MARKS[report.state]} {report.step:<24} {report.seconds:6.1f} s  {report.detail}".rstrip()
        for report in reports
        if report.state != "running"
    ]
    return "\n".join([*lines, *([end] if end else [])])


def html(title: str, reports: list[Report], end: str = "") -> str:
    """The same as a table, the running step in it."""
    rows = "".join(
        f"<tr><td style='text-align:center'>{MARKS[report.state]}</td>"
        f"<td style='text-align:left'>{escape(report.step)}</td>"
        f"<td style='text-align:right'>{_seconds(report)}</td>"
        f"<td style='text-align:left'>{escape(report.detail)}</td></tr>"
        for report in reports
    )
    total = sum(report.seconds for report in reports if report.state == "done")
    foot = (
        f"<tr style='font-weight:600'><td></td><td style='text-align:left'>{escape(title)}</td>"
        f"<td style='text-align:right'>{total:.1f} s</td><td></td></tr>"
    )
    said = f"<p>{escape(end)}</p>" if end else ""
    return f"<table style='font-size:1.05em'>{rows}{foot if end else ''}</table>{said}"


def _seconds(report: Report) -> str:
    return "" if report.state == "running" else f"{report.seconds:.1f} s"
