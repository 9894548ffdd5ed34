"""Lesson 02 runs from top to bottom without a person: papermill solves it, nbval does not, nothing stays behind."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_code_cell

from tests.labs.lessons import MARK, SHORT, copy, environment, left_behind, processes

NOT_YET = 'assert str(_).startswith("✗ Not yet."), _'


def text_of(cell: Any) -> str:
    """Everything a cell shows, as plain text."""
    shown = []
    for output in cell.outputs:
        assert output.output_type != "error", output
        shown.append(output.text if output.output_type == "stream" else output.data.get("text/plain", ""))
    return "\n".join(shown)


@pytest.mark.timeout(240)
def test_solved_by_papermill(tmp_path: Path) -> None:
    source = copy("02-canary", tmp_path, {})
    done, env = tmp_path / "done.ipynb", environment()
    parameters = [str(word) for pair in {**SHORT, "SOLVE": True}.items() for word in ("-p", *pair)]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            "--cwd",
            source.parent,
            source,
            done,
            *parameters,
            "--no-progress-bar",
        ],
        env=env,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert left_behind(env[MARK]) == []

    shown = {
        cell.id: text_of(cell) for cell in nbformat.read(done, as_version=4).cells if cell.cell_type == "code"
    }
    assert "The shop is open at http://" in shown["start"]
    assert all(version in shown["baseline"] for version in ("v1", "v2", "v3"))
    assert "istio-proxy" in shown["pods"]
    assert set(shown["measure-all-v1"].split()) & {"v1", "v2", "v3"} == {"v1"}
    assert shown["nowhere"].startswith("✓") and "v4" in shown["nowhere"].partition("⚠")[2]
    assert "503" in shown["nowhere-measure"] and "NC" in shown["nowhere-measure"]
    assert "unavailable" in shown["nowhere-pages"]
    assert "✗ virtualservice/reviews refused: " in shown["refused"] and "weight" in shown["refused"]
    assert "v1" in shown["refused-measure"] and "unknown" not in shown["refused-measure"]
    assert shown["jason-check"].startswith("✓ Solved.")
    assert shown["half-check"].startswith("✓ Solved.")


@pytest.mark.timeout(240)
def test_unsolved_by_nbval(tmp_path: Path) -> None:
    source = copy("02-canary", tmp_path, SHORT)
    lesson = nbformat.read(source, as_version=4)
    for name in ("jason-check", "half-check"):
        at = next(i for i, cell in enumerate(lesson.cells) if cell.id == name)
        lesson.cells.insert(at + 1, new_code_cell(NOT_YET))
    nbformat.write(lesson, source)
    env = environment()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", source],
        env=env,
        cwd=source.parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert left_behind(env[MARK]) == []


@pytest.mark.timeout(120)
def test_a_killed_kernel_takes_its_cluster_along(tmp_path: Path) -> None:
    env = environment()
    manager, client = start_new_kernel(env=env, cwd=str(tmp_path))
    try:
        reply = client.execute_interactive(
            "from widgets import Lab; lab = Lab()", timeout=90, output_hook=print
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        assert len(processes(env[MARK])) > 5
        manager.signal_kernel(signal.SIGKILL)
        assert left_behind(env[MARK]) == []
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
