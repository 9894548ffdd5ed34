"""Checks of the tree itself: layers, committed notebooks, package layout."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


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
