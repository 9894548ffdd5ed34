"""`mesh inject`: pods get their sidecar, everything else stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mesh.cli import main

FILE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: web:1, ports: [{containerPort: 80}]}
"""


def injected(
    path: Path, text: str, capsys: pytest.CaptureFixture[str], *words: str
) -> list[dict[str, object]]:
    path.write_text(text)
    assert main(["inject", "-f", str(path), *words]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_a_deployments_pods_get_a_sidecar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service, deployment = injected(tmp_path / "a.yaml", FILE, capsys)
    assert service == next(yaml.safe_load_all(FILE))
    pod = deployment["spec"]["template"]  # type: ignore[index]
    assert {c["name"] for c in pod["spec"]["containers"]} == {"web", "istio-proxy"}
    assert "sidecar.istio.io/status" in pod["metadata"]["annotations"]


def test_rules_of_the_kernel_need_an_init_container(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, deployment = injected(tmp_path / "a.yaml", FILE, capsys, "--interception", "REDIRECT")
    assert deployment["spec"]["template"]["spec"]["initContainers"]  # type: ignore[index]


def test_a_pod_that_wants_none_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = FILE.replace("{app: web}}\n    spec", '{app: web, sidecar.istio.io/inject: "false"}}\n    spec')
    assert injected(tmp_path / "a.yaml", text, capsys) == list(yaml.safe_load_all(text))
