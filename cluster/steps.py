"""Ordered steps with roll-back: how a cluster and what runs in it come up, one visible step after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

State = Literal["running", "done", "failed", "rolled back"]
Progress = Callable[["Report"], None]


@dataclass(frozen=True)
class Step:
    """One thing to do, and how to take it back should a later step fail (None: nothing to take back)."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] | None = None


@dataclass(frozen=True)
class Report:
    """A step changed its state; `seconds` is how long it has taken."""

    step: str
    state: State
    seconds: float
    detail: str = ""


@dataclass
class Times:
    """Seconds each finished step took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def silent(report: Report) -> None:
    """The Progress of someone who does not look."""


def run(steps: Sequence[Step], progress: Progress = silent) -> Times:
    """Do the steps in order; on a failure (or Ctrl-C) undo the finished ones, last first, and raise it.

    An undo that fails itself is reported and does not keep the earlier ones from being undone: the first
    error is the one a person can act on.
    """
    times = Times()
    done: list[Step] = []
    for step in steps:
        began = time.monotonic()
        progress(Report(step.name, "running", 0.0))
        done.append(step)  # before `do`: a step that fails half-way is taken back too
        try:
            step.do()
        except BaseException as error:
            progress(Report(step.name, "failed", time.monotonic() - began, str(error)))
            _roll_back(done, progress)
            raise
        times.seconds[step.name] = time.monotonic() - began
        progress(Report(step.name, "done", times.seconds[step.name]))
    return times


def _roll_back(done: Sequence[Step], progress: Progress) -> None:
    for step in reversed(done):
        if step.undo is None:
            continue
        began = time.monotonic()
        try:
            step.undo()
        except Exception as error:  # noqa: BLE001 - reported; the error that started the roll-back is raised
            progress(
                Report(step.name, "failed", time.monotonic() - began, f"could not be taken back: {error}")
            )
        else:
            progress(Report(step.name, "rolled back", time.monotonic() - began))
