"""The main job on a real kind cluster, where there is one to be had: `MESH_KIND_NODE_IMAGE` and Docker or Podman."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conformance.conftest import NO_KIND

pytestmark = [
    pytest.mark.kind,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(NO_KIND), reason=NO_KIND),
]


def mesh(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh.cli", *words],
        capture_output=True, text=True, timeout=900, check=False,
        env={**os.environ, "MESH_LAB_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def test_the_demo_proves_every_step_and_leaves_nothing(tmp_path: Path) -> None:
    done = mesh("demo", "--backend", "kind", "--json", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["backend"] == "kind" and said["ok"]
    print(done.stderr)
    assert not list((tmp_path / "kind").iterdir())


def test_up_is_found_again_and_down_ends_it(tmp_path: Path) -> None:
    up = mesh("up", "--backend", "kind", "--name", "again", "--json", home=tmp_path)
    assert up.returncode == 0, up.stderr
    where = json.loads(up.stdout)
    assert where["gateway_url"].startswith("http://127.0.0.1:") and Path(where["kubeconfig"]).exists()
    second = mesh("up", "--backend", "kind", "--name", "again", home=tmp_path)
    assert second.returncode == 1 and '"again" already runs' in second.stderr
    got = mesh("get", "pods", "--name", "again", home=tmp_path)
    assert "productpage" in got.stdout, got.stderr
    assert mesh("down", "--name", "again", home=tmp_path).returncode == 0
    assert mesh("down", "--name", "again", home=tmp_path).returncode == 1
