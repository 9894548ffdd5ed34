"""What the lab answers in a notebook: what was seen, one reply, the outcome of an apply. Values that show well.

Each has a plain text and an HTML form; nothing here asks the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from cluster.traffic import Window
from widgets.palette import colours
from widgets.series import UNKNOWN
from widgets.stats import Share, share

NOTHING = "nothing seen"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """An HTML table; the columns from `numbers` on are aligned right."""

    def row(cells: Sequence[str], tag: str) -> str:
        side = ("left", "right")
        return "".join(
            f"<{tag} style='text-align:{side[i >= numbers]}'>{c}</{tag}>" for i, c in enumerate(cells)
        )

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<table style='font-size:1.1em'><tr>{row(head, 'th')}</tr>{body}</table>"


@dataclass(frozen=True)
class Seen:
    """Requests as the mesh reported them, counted by labels, over `seconds`.

    `seen["v3"]` is the share of the requests whose first label is v3; `seen.total` counts all.
    """

    by: tuple[str, ...]
    counts: Mapping[tuple[str, ...], int]
    seconds: float

    @classmethod
    def of(cls, window: Window, by: tuple[str, ...], seconds: float) -> Seen:
        """Everything in a window of telemetry that covers `seconds`."""
        sums: dict[tuple[str, ...], int] = {}
        for line in window.series:
            key = tuple(line.labels.get(label) or UNKNOWN for label in by)
            sums[key] = sums.get(key, 0) + line.total
        return cls(by, {k: n for k, n in sorted(sums.items()) if n}, seconds)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def __getitem__(self, value: str) -> Share:
        return self.share(value)

    def share(self, value: str, confidence: float | None = None) -> Share:
        """The share of the requests whose first label has this value (none of them: a share of 0)."""
        count = sum(n for key, n in self.counts.items() if key[0] == value)
        return share(count, self.total, confidence) if confidence else share(count, self.total)

    def __str__(self) -> str:
        if not self.total:
            return NOTHING
        lines = [f"{' '.join(key):<24} {n:>7}  {share(n, self.total)}" for key, n in self.counts.items()]
        return "\n".join([*lines, f"{'all':<24} {self.total:>7}  in {self.seconds:.0f} s"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.total:
            return f"<i>{NOTHING}</i>"
        colour = colours(key[0] for key in self.counts)
        rows = []
        for key, n in self.counts.items():
            part = share(n, self.total)
            names = [f"<span style='color:{colour[key[0]]}'>■</span> {escape(key[0])}", *map(escape, key[1:])]
            spread = f"{100 * part.low:.1f} to {100 * part.high:.1f} %"
            rows.append([*names, f"{n:,}", f"<b>{100 * part.value:.1f} %</b>", spread])
        head = [*(label.replace("_", " ") for label in self.by), "requests", "share", "true share (95 %)"]
        rows.append(["all", *[""] * (len(self.by) - 1), f"{self.total:,}", f"in {self.seconds:.0f} s", ""])
        return table(head, rows, len(self.by))


@dataclass(frozen=True)
class Reply:
    """One answer from the gateway: `version` says which reviews the page shows."""

    status: int
    version: str
    milliseconds: float
    headers: Mapping[str, str] = field(repr=False)
    body: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.status} with reviews {self.version}, {self.milliseconds:.0f} ms"

    __repr__ = __str__


@dataclass(frozen=True)
class Outcome:
    """What became of an object that was applied or deleted: `ok`, the sentence, and the server's warnings.

    The lab shows it at once, so a notebook does not show it again as the cell's value.
    """

    ok: bool
    sentence: str
    warnings: tuple[str, ...] = ()
    objects: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        mark = "✓" if self.ok else "✗"
        return "\n".join([f"{mark} {self.sentence}", *(f"⚠ {warning}" for warning in self.warnings)])

    def __bool__(self) -> bool:
        return self.ok

    def html(self) -> str:
        """The same for a page."""
        colour = "#0F9A72" if self.ok else "#D55E00"
        mark = "✓" if self.ok else "✗"
        notes = "".join(f"<div>⚠ {escape(warning)}</div>" for warning in self.warnings)
        return (
            f"<div style='font-size:1.1em'><b style='color:{colour}'>{mark}</b> "
            f"{escape(self.sentence)}{notes}</div>"
        )

    def _ipython_display_(self) -> None:
        """Shown already."""


def compare(predicted: float, seen: Share) -> str:
    """A prediction in per cent beside what was counted, in a sentence that says whether both can be true."""
    if not seen.total:
        return f"You said {predicted:g} %. Nothing was counted, so nothing is known yet."
    verdict = "that fits" if seen.holds(predicted / 100) else "that does not fit"
    return f"You said {predicted:g} %, the mesh served {seen}: {verdict}."
