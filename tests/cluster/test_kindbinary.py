"""kind's program: from PATH, else fetched once and checked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cluster import kindbinary
from cluster.base import ClusterError

CONTENT = b"#!/bin/sh\necho kind\n"
SUMS = {kindbinary.system(): hashlib.sha256(CONTENT).hexdigest()}


class _Release(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(404 if "absent" in self.path else 200)
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MESH_LAB_HOME", str(tmp_path))
    _Release.asked = []
    server = HTTPServer(("127.0.0.1", 0), _Release)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{{version}}/kind-{{system}}"
    server.shutdown()
    server.server_close()


def test_it_is_fetched_once_and_can_be_run(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = kindbinary.fetched(url, SUMS)
    assert first.read_bytes() == CONTENT and first.stat().st_mode & 0o100
    assert kindbinary.fetched(url, SUMS) == first
    assert _Release.asked == [f"/{kindbinary.VERSION}/kind-{kindbinary.system()}"]
    assert "fetching" in capsys.readouterr().err


def test_what_is_not_the_release_is_not_kept(url: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="is not kind v"):
        kindbinary.fetched(url, {kindbinary.system(): "0" * 64})
    assert not (tmp_path / "bin").exists()


def test_where_it_cannot_be_had(url: str) -> None:
    with pytest.raises(ClusterError, match=r"cannot be fetched .*HTTP 404"):
        kindbinary.fetched(url.replace("kind-", "absent-"), SUMS)
    with pytest.raises(ClusterError, match="install it"):
        kindbinary.fetched("http://127.0.0.1:1/{version}/{system}", SUMS)
    with pytest.raises(ClusterError, match="has no release"):
        kindbinary.fetched(url, {})


def test_the_one_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "kind"
    program.write_bytes(CONTENT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kindbinary.program() == program


def test_there_is_a_sum_for_each_machine_the_lab_runs_on() -> None:
    assert set(kindbinary.SUMS) == {"linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"}
    assert all(len(one) == 64 for one in kindbinary.SUMS.values())
