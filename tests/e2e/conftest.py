"""The `mesh` command as a person runs it, in a home of its own, and proof that nothing outlives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import gone

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Command:
    """Runs `mesh` with a home of its own."""

    home: Path

    @property
    def env(self) -> Mapping[str, str]:
        return {**os.environ, "MESH_LAB_HOME": str(self.home)}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mesh.cli", *words]

    def __call__(
        self, *words: str, stdin: str | None = None, timeout: float = 100
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            cwd=ROOT,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def json(self, *words: str) -> Any:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def popen(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            cwd=ROOT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def left(self, within: float = 10.0) -> list[str]:
        """Processes of this home that still live after `within` seconds."""
        return gone("MESH_LAB_HOME", str(self.home), within)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command; whatever a test started with it must have ended when the module's tests are over."""
    command = Command(tmp_path_factory.mktemp("home"))
    yield command
    assert command.left() == []
