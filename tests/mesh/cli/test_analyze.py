"""`mesh analyze` on files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh.cli import main

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, creationTimestamp: "2026-03-01T12:00:00Z"}
spec:
  type: ClusterIP
  clusterIP: 10.0.0.1
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: 9080, protocol: TCP}]
---
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: HOST, subset: v2}
"""


def findings(path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[tuple[str, str]]]:
    path.write_text(text)
    status = main(["analyze", "--no-cluster", "--json", str(path)])
    return status, [(f["code"], f["path"]) for f in json.loads(capsys.readouterr().out)["findings"]]


def test_a_missing_subset_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = findings(tmp_path / "a.yaml", SERVICE + RULE.replace("HOST", "reviews"), capsys)
    assert (status, found) == (1, [("IST0101", "spec.http[0].route[0].destination.subset")])


def test_a_missing_host_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = findings(tmp_path / "a.yaml", SERVICE + RULE.replace("HOST", "revues"), capsys)
    assert (status, found) == (1, [("IST0101", "spec.http[0].route[0].destination.host")])


def test_what_is_not_valid_is_a_finding_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = RULE.replace("HOST", "reviews").replace("http:", "htpp:")
    status, found = findings(tmp_path / "a.yaml", text, capsys)
    assert status == 1
    assert ("IST0106", "spec.htpp") in found


def test_nothing_doubtful_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(SERVICE + RULE.replace("HOST, subset: v2", "reviews"))
    assert main(["analyze", "--no-cluster", str(tmp_path / "a.yaml")]) == 0
    assert capsys.readouterr().out == "nothing is doubtful\n"
