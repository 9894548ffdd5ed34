"""Checks of the tree itself: layers, committed notebooks, package layout."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

OFF_TOUR = {
    "proxy": {"admin.py", "pages.py", "probe.py", "resolve.py", "tcp.py", "wait.py", "warm.py", "wire.py"},
    "control": {"auth.py", "monitor.py", "serving.py", "trust.py"},
}
"""What neither tour of mesh/README.md passes: administration, other protocols, the program's own upkeep."""


def test_import_contracts_hold() -> None:
    """widgets -> cluster -> mesh.manifests, and the mesh knows nothing of where it runs (pyproject.toml)."""
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_notebooks_are_committed_clean() -> None:
    """No outputs, the python3 kernel, one `parameters` cell, stable cell ids."""
    for path in sorted((ROOT / "labs").glob("*.ipynb")):
        notebook = json.loads(path.read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), (
            f"{path.name} has outputs"
        )
        assert notebook["metadata"]["kernelspec"]["name"] == "python3", path.name
        tagged = [c for c in code if "parameters" in c.get("metadata", {}).get("tags", [])]
        assert len(tagged) == 1, f"{path.name} has {len(tagged)} parameters cells"
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids), f"{path.name} repeats a cell id"


def test_the_tours_name_files_that_exist_and_leave_no_stage_out() -> None:
    """mesh/README.md: every link leads somewhere, and every module a request or a change passes is on a tour."""
    page = (ROOT / "mesh" / "README.md").read_text()
    named = set(re.findall(r"\]\(([\w/.-]+)\)", page))
    assert [link for link in sorted(named) if not (ROOT / "mesh" / link).exists()] == []
    beside = {"__init__.py", "__main__.py"}
    for folder, at_the_edge in OFF_TOUR.items():
        modules = {f.name for f in (ROOT / "mesh" / folder).glob("*.py")} - beside
        missing = {name for name in modules if f"{folder}/{name}" not in named} - at_the_edge
        assert missing == set(), f"mesh/README.md: no tour passes {folder}: {sorted(missing)}"
