"""What the commands print: tables for people, JSON for programs, progress for what takes longer than a second."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cluster.steps import Report


class CliError(Exception):
    """A command could not do what was asked; str() is the sentence to print."""


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2))


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns padded to their widest cell, as kubectl prints them."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("   ".join(padded).rstrip())


def progress(report: Report) -> None:
    """Steps on stderr, so that stdout stays for the answer."""
    if report.state == "running":
        return
    mark = {"done": "✓", "failed": "✗", "rolled back": "↩"}[report.state]
    print(f" {mark} {report.step} ({report.seconds:.1f} s)", file=sys.stderr, flush=True)


def warn(warnings: Iterable[str]) -> None:
    """Warnings the API server attached, one line each."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
