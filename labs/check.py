"""The checks of the lessons' exercises: they watch what the mesh does, not what your YAML says.

A check sends visitors, reads from telemetry which version served them, and says what it saw. When that is not yet
what the exercise asks for, it says where to look; it never raises, so that Run All goes on. What a check concludes
from what it saw is a pure function (`judge_...`); the rest is the watching.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from widgets.answers import Seen
from widgets.series import UNKNOWN
from widgets.stats import CERTAIN

if TYPE_CHECKING:
    from widgets import Lab

ENOUGH = 200
"""Requests a check wants to see: then 20 % and 50 % cannot be mistaken for each other, nor for 0."""

RATE = 80.0
"""Visitors a second while a check watches."""


@dataclass(frozen=True)
class Verdict:
    """`ok`, the sentence about what was seen, and where to look when it is not what was asked for."""

    ok: bool
    saw: str
    look: str = ""

    def __str__(self) -> str:
        mark = "✓ Solved." if self.ok else "✗ Not yet."
        return "\n".join(part for part in (f"{mark} {self.saw}", self.look) if part)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        colour, mark = ("#0F9A72", "✓ Solved.") if self.ok else ("#D55E00", "✗ Not yet.")
        look = f"<br>{escape(self.look)}" if self.look else ""
        return (
            f"<div style='border-left:6px solid {colour};padding:6px 14px;font-size:1.1em'>"
            f"<b style='color:{colour}'>{mark}</b> {escape(self.saw)}{look}</div>"
        )


def jason_first(lab: Lab, seconds: float = 8) -> Verdict:
    """Lesson 02, exercise 1: a fifth of Jason's requests see v3, and nobody else's."""
    return judge_jason(_watch(lab, seconds, user="jason"), _watch(lab, seconds, user=""))


def half_for_everybody(lab: Lab, seconds: float = 8) -> Verdict:
    """Lesson 02, exercise 2: half of everybody's requests see v3."""
    return judge_half(_watch(lab, seconds, user=""))


def judge_jason(jason: Seen, others: Seen) -> Verdict:
    """What exercise 1 makes of what Jason and the others got."""
    saw = f"v3 for Jason: {jason['v3']}; for the others: {others['v3']}."
    if trouble := _trouble(jason, others):
        return Verdict(False, saw, trouble)
    if others["v3"].count:
        return Verdict(False, saw, "Others see v3 too: look at the last route, the one without a match.")
    if not jason["v3"].count:
        return Verdict(
            False,
            saw,
            "Jason never sees v3: look for a match on the header end-user in the first route. "
            "The first route that matches wins.",
        )
    if not jason.share("v3", CERTAIN).holds(0.2):
        return Verdict(
            False, saw, "20 % of Jason's requests were asked for: look at the weights of his route."
        )
    return Verdict(True, saw)


def judge_half(everybody: Seen) -> Verdict:
    """What exercise 2 makes of what everybody got."""
    saw = f"v3 for everybody: {everybody['v3']}."
    if trouble := _trouble(everybody):
        return Verdict(False, saw, trouble)
    if everybody["v2"].count:
        return Verdict(False, saw, "v2 is served as well: the weights of v1 and v3 should be all there is.")
    if not everybody.share("v3", CERTAIN).holds(0.5):
        return Verdict(False, saw, "Half was asked for: look at the weights of the route without a match.")
    return Verdict(True, saw)


def _trouble(*all_seen: Seen) -> str:
    """What keeps a check from judging at all."""
    for seen in all_seen:
        if seen.total < ENOUGH / 2:
            return f"Only {seen.total} requests were seen; are the visitors there? Try lab.visitors(rate=40)."
        if seen[UNKNOWN].count:
            return (
                f"{seen[UNKNOWN].count} requests reached no version: "
                "does the DestinationRule define every subset your routes name?"
            )
    return ""


def _watch(lab: Lab, seconds: float, user: str) -> Seen:
    """Send visitors signed in as `user` and see which versions they get; then the plan is as it was."""
    before = lab.plan()
    lab.visitors(rate=max(RATE, before["rate"]), user=user)
    try:
        return lab.measure(max(seconds, ENOUGH / RATE))
    finally:
        lab.visitors(**before)
