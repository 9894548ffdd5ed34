"""A mesh with its shop on every backend: what these tests ask for is all that the lab needs from a cluster.

The kind backend needs a container engine, a node image (`MESH_KIND_NODE_IMAGE`) and a base image
(`MESH_LAB_BASE_IMAGE`; default: the public Python image).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import engine, up
from cluster.base import ClusterError


def why_no_kind() -> str:
    """Why no kind cluster can be made here; empty when one can."""
    if not os.environ.get("MESH_KIND_NODE_IMAGE"):
        return "MESH_KIND_NODE_IMAGE names no node image"
    try:
        engine.find()
    except ClusterError as error:
        return str(error)
    return ""


NO_KIND = why_no_kind()
KIND = pytest.param(
    "kind",
    marks=[pytest.mark.kind, pytest.mark.timeout(900), pytest.mark.skipif(bool(NO_KIND), reason=NO_KIND)],
)


@pytest.fixture(scope="session", params=["embedded", KIND])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[up.Running]:
    """One mesh for all tests of a backend."""
    home: Path = tmp_path_factory.mktemp("conformance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESH_LAB_HOME", str(home))
        found = up.up(request.param, name=f"conform-{os.getpid()}", progress=lambda report: print(report))
        yield found
        found.down()
    left = [path for path in home.rglob("*") if path.is_file() and "bin" not in path.parts]
    assert not left, f"left behind: {left}"
