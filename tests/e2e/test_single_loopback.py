"""The main job where there is only 127.0.0.1, as on macOS."""

import json

import pytest

from tests.e2e.conftest import Command


def test_every_step_is_ok_where_all_pods_share_one_address(
    mesh: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_LAB_SINGLE_LOOPBACK", "1")
    done = mesh("demo", "--json", "--requests", "300")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and result["ok"], result
    assert mesh.left() == []
