"""The command line's grammar, and errors as one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh.cli import main


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster that a developer runs is seen by these tests."""
    monkeypatch.setenv("MESH_LAB_HOME", str(tmp_path))


def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (
        "up",
        "down",
        "lab",
        "demo",
        "apply",
        "get",
        "proxy-status",
        "proxy-config",
        "analyze",
        "inject",
        "bench",
        "doctor",
    ):
        with pytest.raises(SystemExit) as done:
            main([verb, "--help"])
        assert done.value.code == 0
        assert "usage: mesh" in capsys.readouterr().out


def test_an_unknown_verb_is_bad_usage() -> None:
    with pytest.raises(SystemExit) as done:
        main(["upp"])
    assert done.value.code == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["down"], 'no cluster "mesh-lab" runs here; start one with `mesh up`'),
        (["get", "pods"], 'no cluster "mesh-lab" runs here; start one with `mesh up`'),
        (["up", "--backend", "minikube"], 'backend "minikube" is none of embedded, kind, context:NAME'),
        (["up", "--dataplane", "nginx"], 'dataplane "nginx"'),
        (["up", "--owner", "999999999"], "--owner 999999999: no such process"),
        (["apply", "-f", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["lab", "99-nothing.ipynb"], "99-nothing.ipynb"),
    ],
)
def test_what_fails_is_said_in_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_doctor_finds_this_machine_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {"Python", "memory", "loopback"} <= {finding["check"] for finding in findings}
    assert all(finding["fix"] for finding in findings if finding["state"] != "ok")
