"""The start of a lab is shown step by step, in place in a notebook and as lines elsewhere."""

import pytest

from cluster.steps import Report
from widgets import startup
from widgets.startup import Startup

DONE = [Report("start the cluster", "done", 1.24), Report("install the mesh", "done", 0.5)]


def test_as_text_only_what_is_over() -> None:
    text = startup.text([*DONE, Report("install the shop", "running", 0.0)], "The shop is open.")
    assert text.splitlines() == [
        "✓ start the cluster           1.2 s",
        "✓ install the mesh            0.5 s",
        "The shop is open.",
    ]


def test_as_a_table_with_the_sum() -> None:
    html = startup.html("ready", DONE, "The shop is open.")
    assert html.count("<tr") == 3 and "1.7 s" in html and "The shop is open." in html
    running = startup.html("ready", [Report("install the mesh", "running", 0.0)])
    assert "…" in running and "0.0 s" not in running


def test_in_a_terminal_every_line_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    show = Startup("ready")
    for report in (Report("start the cluster", "running", 0.0), *DONE):
        show(report)
    show.done("The shop is open.")
    assert capsys.readouterr().out.splitlines() == startup.text(DONE, "The shop is open.").splitlines()


def test_a_failed_step_says_why() -> None:
    assert startup.text([Report("install the mesh", "failed", 3.0, "no kinds")]).endswith("no kinds")
