"""Every lesson is committed the way lessons are: no outputs, short cells, one cell of parameters, the usual kernel."""

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from cluster import documents
from mesh.api.parse import validate

LABS = Path(__file__).parents[2] / "labs"
LESSONS = sorted(LABS.glob("[0-9][0-9]-*.ipynb"))
MANIFESTS = sorted([*LABS.glob("manifests/*.yaml"), *LABS.glob("solutions/*.yaml")])


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def code(lesson: Any) -> list[Any]:
    return [cell for cell in lesson.cells if cell.cell_type == "code"]


def test_there_are_lessons() -> None:
    assert "02-canary" in [path.stem for path in LESSONS]


def test_nothing_of_a_run_is_committed(lesson: Any) -> None:
    nbformat.validate(lesson)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(lesson))
    assert set(lesson.metadata) == {"kernelspec", "language_info"}
    assert lesson.metadata.kernelspec.name == "python3"
    assert "version" not in lesson.metadata.language_info


def test_cells_have_readable_names_and_are_short(lesson: Any) -> None:
    ids = [cell.id for cell in lesson.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{2,30}", name) for name in ids)
    assert 20 <= len(code(lesson)) <= 30
    assert all(len(cell.source.splitlines()) <= 18 for cell in code(lesson))


def test_one_cell_of_literal_parameters(lesson: Any) -> None:
    (cell,) = [cell for cell in lesson.cells if "parameters" in cell.metadata.get("tags", [])]
    names = set()
    for line in ast.parse(cell.source).body:
        assert isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
        names |= {target.id for target in line.targets if isinstance(target, ast.Name)}
    assert names >= {"BACKEND", "DATAPLANE", "SEED", "SECONDS", "SOLVE"}


def test_solutions_shown_are_the_solutions_applied(lesson: Any) -> None:
    text = "\n".join(cell.source for cell in lesson.cells)
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    applied = [
        yaml.safe_load((LABS / name).read_text()) for name in re.findall(r"solutions/[\w-]+\.yaml", text)
    ]
    assert shown == applied
    hidden = [cell for cell in code(lesson) if "solutions/" in cell.source]
    assert all(cell.metadata.jupyter.source_hidden for cell in hidden)


def test_files_that_lessons_name_are_there(lesson: Any) -> None:
    text = "\n".join(cell.source for cell in lesson.cells)
    for name in re.findall(r"(?:manifests|solutions)/[\w-]+\.yaml", text):
        assert (LABS / name).is_file(), name


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_what_the_mesh_accepts(path: Path) -> None:
    for obj in documents.read(path.read_text(), path.name, "default"):
        assert validate(obj) == []
