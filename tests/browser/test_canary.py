"""A person at lesson 02: JupyterLab opens on it, Run All, the slider dragged to 50 %, and the chart that follows.

The only test that sees what people see. Everything waits for events of the page; nothing sleeps. With
MESH_LAB_PICTURES=1 it renews the picture in the README.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.labs.lessons import LABS, MARK, SHORT, copy, environment, left_behind
from widgets import jupyter
from widgets.stats import CERTAIN, share

PICTURE = LABS / "pictures" / "lab-02.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN = "a-token-of-the-test"
RUN_ALL_SECONDS = 180

# Notes each redraw of the canary's chart: when, the newest rate of v3, and what was intended.
WATCH = """() => {
  const chart = document.querySelector(".mesh-lab .js-plotly-plot");
  const trace = name => chart.data.find(t => t.name === name);
  window.seen = []; window.released = null;
  addEventListener("pointerup", () => { window.released ??= performance.now(); }, true);
  chart.on("plotly_afterplot", () => {
    const v3 = trace("v3"), told = trace("intended");
    window.seen.push({at: performance.now(), rate: v3 ? v3.y.at(-1) : 0, told: told.x[told.y.indexOf("v3")]});
  });
}"""
FOLLOWED = (
    "() => window.released && window.seen.some(s => s.at > window.released && s.told === 50 && s.rate > 0)"
)
OBSERVED = """wanted => {
  const chart = document.querySelector(".mesh-lab .js-plotly-plot");
  const heading = chart.layout.annotations[0].text.match(/share of ([\\d,]+) requests/);
  const total = heading ? Number(heading[1].replaceAll(",", "")) : 0;
  if (total < wanted) return null;
  const bars = chart.data.find(t => t.name === "observed");
  return {total, v3: bars.x[bars.y.indexOf("v3")]};
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """JupyterLab as `mesh lab` starts it, on a copy of the course, for a user who never had it before."""
    lesson = copy("02-canary", tmp_path / "course", SHORT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv, env = jupyter.command(str(lesson), port, browser=False, token=TOKEN)
    env |= environment() | {"PYTHONPATH": f"{env['PYTHONPATH']}:{LABS.parent}", "HOME": str(tmp_path)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            if "is running at" in line:
                break
        Thread(target=process.stderr.read, daemon=True).start()  # or a full pipe would stop it
        yield f"http://127.0.0.1:{port}/lab/tree/labs/02-canary.ipynb?token={TOKEN}"
        process.terminate()
    assert left_behind(env[MARK]) == []


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 1000}, device_scale_factor=1.5)
        yield context.new_page()
        browser.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.timeout(300)
def test_the_slider_moves_the_traffic(server: str, page: Page) -> None:
    page.goto(server)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    nothing_in_the_way(page)
    run_all(page)
    nothing_in_the_way(page)
    page.evaluate(WATCH)
    drag(page, 50)
    page.wait_for_function(FOLLOWED, timeout=30_000)
    milliseconds = page.evaluate(
        "() => window.seen.find(s => s.at > window.released && s.told === 50 && s.rate > 0).at - window.released"
    )
    print(f"from the slider's release to the chart that shows it: {milliseconds:.0f} ms")
    assert page.locator(".mesh-lab .widget-readout").inner_text() == "50"
    observed = page.wait_for_function(OBSERVED, arg=400, timeout=90_000).json_value()
    count = round(observed["v3"] * observed["total"] / 100)
    assert share(count, observed["total"], CERTAIN).holds(0.5), observed
    if os.environ.get("MESH_LAB_PICTURES"):
        take_picture(page)
    page.close()


def nothing_in_the_way(page: Page) -> None:
    """No dialog, no toast: a person can start."""
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0


def run_all(page: Page) -> None:
    """Run ▸ Run All Cells, and wait until the last one has its number; no cell may have failed."""
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
    page.locator('[data-command="runmenu:run-all"]').click()
    last = page.locator(".jp-CodeCell .jp-InputPrompt").last
    page.wait_for_function(
        r"prompt => /\[\d+\]/.test(prompt.textContent)",
        arg=last.element_handle(),
        timeout=1000 * RUN_ALL_SECONDS,
    )
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
    assert errors.all_inner_texts() == []
    assert re.search(r"Not yet", page.locator(".jp-CodeCell").last.inner_text())


def drag(page: Page, percent: int) -> None:
    """Drag the canary's slider with the mouse."""
    handle = page.locator(".mesh-lab .noUi-handle")
    handle.scroll_into_view_if_needed()
    handle.hover()  # waits until it stands still and nothing covers it
    rail, knob = box(page, ".noUi-base"), box(page, ".noUi-handle")
    height = knob["y"] + knob["height"] / 2
    page.mouse.move(knob["x"] + knob["width"] / 2, height)
    page.mouse.down()
    page.mouse.move(rail["x"] + rail["width"] * percent / 200, height, steps=4)
    page.mouse.move(rail["x"] + rail["width"] * percent / 100, height, steps=4)
    page.mouse.up()


def box(page: Page, part: str) -> Any:
    found = page.locator(f".mesh-lab {part}").bounding_box()
    assert found
    return found


def take_picture(page: Page) -> None:
    """The slider and its chart after the split had time to show, without the file browser."""
    page.wait_for_function(OBSERVED, arg=800, timeout=120_000)
    page.set_viewport_size({"width": 1280, "height": 840})
    page.keyboard.press("Control+b")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.mesh-lab .js-plotly-plot')].every(c => c._fullLayout.width > 1000)"
    )
    text = page.locator(".jp-MarkdownCell", has_text="Move the slider")
    text.evaluate("element => element.scrollIntoView({block: 'start'})")
    PICTURE.parent.mkdir(exist_ok=True)
    page.screenshot(path=PICTURE)
