"""Lessons as tests run them: a copy with other parameters, and what such a run leaves behind."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import psutil
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

LABS = Path(__file__).parents[2] / "labs"
MARK = "MESH_LAB_TEST_RUN"
SHORT = {"SECONDS": 1}


def copy(name: str, to: Path, parameters: Mapping[str, Any]) -> Path:
    """A copy of the course in `to`/labs whose lesson `name` has these parameters; the lesson's path."""
    labs = to / "labs"
    shutil.copytree(
        LABS, labs, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", "pictures")
    )
    path = labs / f"{name}.ipynb"
    if parameters:
        nbformat.write(parameterize_notebook(load_notebook_node(str(path)), dict(parameters)), path)
    return path


def environment() -> dict[str, str]:
    """An environment for a run, with the repository to import from and a mark to know its processes by."""
    return {**os.environ, "PYTHONPATH": str(LABS.parent), MARK: uuid.uuid4().hex}


def left_behind(mark: str, patience: float = 10.0) -> list[str]:
    """Command lines of processes that run with `mark` and do not end within `patience` seconds."""
    _, alive = psutil.wait_procs(processes(mark), timeout=patience)
    return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def processes(mark: str) -> list[psutil.Process]:
    """All processes of the run with this mark."""
    return [process for process in psutil.process_iter() if _has(process, mark)]


def _has(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False  # somebody else's, or gone
