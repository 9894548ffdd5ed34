"""The main job: `mesh demo` proves every feature and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.conftest import Command
from tests.support.processes import files_under, marked


def test_every_step_is_ok_and_nothing_is_left(mesh: Command) -> None:
    done = mesh("demo", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0, result
    assert [step["name"] for step in result["steps"]] == [
        "baseline",
        "canary",
        "device",
        "brief",
        "acl",
        "mtls",
    ]
    assert all(step["ok"] for step in result["steps"]) and result["ok"]
    assert all(step["requests"] >= 250 for step in result["steps"])
    assert result["backend"] == "embedded" and result["dataplane"] == "python"
    assert 0 < result["ready_seconds"] < 60
    assert mesh.left() == []
    assert files_under(mesh.home) == []


@pytest.mark.parametrize("after_seconds", [0.5, 6.0])
def test_killed_it_leaves_nothing(mesh: Command, after_seconds: float) -> None:
    """`kill -9`, while the cluster starts and while traffic flows."""
    demo = mesh.popen("demo", "--json")
    deadline = time.monotonic() + 20
    while len(list(marked("MESH_LAB_HOME", str(mesh.home)))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(after_seconds)  # not a wait for anything: the moment of the kill is the test's parameter
    demo.kill()
    demo.communicate()
    assert mesh.left() == []
    assert files_under(mesh.home) == []
