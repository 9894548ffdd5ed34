"""Steps run in order, and what failed half-way is taken back."""

from __future__ import annotations

import pytest

from cluster.steps import Report, Step, run


class Journal:
    """Writes down what is done and undone; `fails` names the steps that break."""

    def __init__(self, *fails: str) -> None:
        self.fails = fails
        self.lines: list[str] = []
        self.reports: list[Report] = []

    def step(self, name: str, undo: bool = True) -> Step:
        return Step(name, lambda: self.write(name), (lambda: self.write(f"undo {name}")) if undo else None)

    def write(self, line: str) -> None:
        self.lines.append(line)
        if line in self.fails:
            raise RuntimeError(f"{line} broke")


def test_steps_run_in_order_and_are_timed() -> None:
    journal = Journal()
    times = run([journal.step("a"), journal.step("b")], journal.reports.append)
    assert journal.lines == ["a", "b"]
    assert list(times.seconds) == ["a", "b"]
    assert times.total == sum(times.seconds.values())
    assert [(r.step, r.state) for r in journal.reports] == [
        ("a", "running"),
        ("a", "done"),
        ("b", "running"),
        ("b", "done"),
    ]


def test_a_failure_takes_back_what_was_done_last_first_and_is_raised() -> None:
    journal = Journal("c")
    with pytest.raises(RuntimeError, match="c broke"):
        run([journal.step("a"), journal.step("b", undo=False), journal.step("c"), journal.step("d")])
    assert journal.lines == ["a", "b", "c", "undo c", "undo a"]


def test_an_undo_that_fails_is_told_and_stops_no_other() -> None:
    journal = Journal("c", "undo b")
    with pytest.raises(RuntimeError, match="c broke"):
        run([journal.step("a"), journal.step("b"), journal.step("c")], journal.reports.append)
    assert journal.lines == ["a", "b", "c", "undo c", "undo b", "undo a"]
    assert any("could not be taken back: undo b broke" in r.detail for r in journal.reports)


def test_an_interrupt_rolls_back_too() -> None:
    undone: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([Step("a", lambda: None, lambda: undone.append("a")), Step("b", interrupted)])
    assert undone == ["a"]
