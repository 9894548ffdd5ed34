"""kind clusters with a docker and a kind that only pretend: the order, each bad start, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster import choose, image, kind, preflight, records
from cluster.base import ClusterError
from cluster.kindconfig import config
from cluster.records import Owner, Record
from cluster.settings import Settings
from cluster.steps import Report
from tests.support.fakes import INFO, Fakes

KUBECONFIG = yaml.safe_dump(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "kind-x",
        "contexts": [{"name": "kind-x", "context": {"cluster": "kind-x", "user": "kind-x"}}],
        "clusters": [{"name": "kind-x", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "kind-x", "user": {"token": "t"}}],
    }
)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Both programs on PATH, a state home of its own, and an image that is there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("MESH_LAB_HOME", str(tmp_path / "home"))
    for variable in ("KIND_EXPERIMENTAL_PROVIDER", "MESH_KIND_NODE_IMAGE", "MESH_LAB_BASE_IMAGE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(image, "ensure", lambda engine, version, base: "service-mesh-lab:7-abc")
    monkeypatch.setattr(preflight, "INOTIFY", tmp_path / "no-such-limit")
    monkeypatch.setattr(preflight, "kubernetes", lambda api: None)
    monkeypatch.setattr(kind, "wait_for_nodes", lambda api, seconds: None)
    found = Fakes(programs)
    found.says("kind create cluster", kubeconfig=KUBECONFIG)
    found.says("kind load docker-image")
    found.says("kind delete cluster")
    return found


def start(
    name: str = "x", settings: Settings | None = None, seen: list[Report] | None = None
) -> kind.KindCluster:
    note = seen.append if seen is not None else lambda report: None
    return kind.start(name, "7", settings or Settings(), os.getpid(), note)


def test_a_cluster_is_made_used_found_and_ended(fakes: Fakes) -> None:
    reports: list[Report] = []
    cluster = start(settings=Settings(node_image="node:v1", workers=2), seen=reports)
    done = [report.step for report in reports if report.state == "done"]
    assert done == [
        "check Docker, memory and disk",
        "build the image",
        "create the kind cluster",
        "load the image",
        "wait for the nodes",
    ]
    created = next(line for line in fakes.asked if line.startswith("kind create"))
    assert "--image=node:v1" in created and f"--kubeconfig={cluster.kubeconfig}" in created
    file = yaml.safe_load((cluster.record.directory / "kind.yaml").read_text())
    assert [node["role"] for node in file["nodes"]] == ["control-plane", "worker", "worker"]
    assert "kind load docker-image --name x service-mesh-lab:7-abc" in fakes.asked
    assert cluster.provide_image("any") == "service-mesh-lab:7-abc"
    port = file["nodes"][0]["extraPortMappings"][0]["hostPort"]
    assert cluster.reach(30080) == f"http://127.0.0.1:{port}"
    assert (cluster.interception, cluster.backend, cluster.memory()) == ("REDIRECT", "kind", None)
    assert choose.find("x").name == "x"
    assert not (Path.cwd() / ".pytest-kind").exists()
    cluster.stop()
    cluster.stop()
    assert sum(line.startswith("kind delete cluster --name=x") for line in fakes.asked) == 1
    assert kind.find("x") is None and not cluster.record.directory.exists()


@pytest.mark.parametrize("step", ["kind create cluster", "kind load docker-image"])
def test_when_a_step_fails_the_cluster_is_deleted_and_nothing_is_left(fakes: Fakes, step: str) -> None:
    fakes.fails(step, "ERROR: something new\n")
    with pytest.raises(ClusterError, match='kind cluster "x": something new'):
        start()
    assert any(line.startswith("kind delete cluster --name=x") for line in fakes.asked)
    assert records.read("kind", "x") is None and not (records.home("kind") / "x").exists()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "x"',
            "choose another",
        ),
        (
            'ERROR: failed to create cluster: failed to pull image "node:v9": no such host',
            "node image node:v9 is not",
        ),
        ("ERROR: failed: Bind for 127.0.0.1:38080 failed: port is already allocated", "start again"),
        ("ERROR: failed: write /x: no space left on device", "the disk is full"),
        (
            'ERROR: failed: could not find a log line that matches "Reached target"',
            "does not boot on this machine",
        ),
        ("ERROR: failed to init node: timed out waiting for the condition", "Kubernetes did not start"),
        ("cgroup v1 is deprecated\nERROR: odd", 'kind cluster "x": odd'),
        ("", "without a word"),
    ],
)
def test_what_kind_says_becomes_a_sentence(said: str, sentence: str) -> None:
    assert sentence in preflight.kind_says(said, "x")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
            "does not run: start it",
        ),
        ("permission denied while trying to connect to the Docker daemon socket", "you may not use Docker"),
        ("something else", "Docker does not answer: something else"),
    ],
)
def test_a_docker_that_does_not_answer(fakes: Fakes, said: str, sentence: str) -> None:
    fakes.fails("docker info", said)
    with pytest.raises(ClusterError, match=sentence):
        start()
    assert not (records.home("kind") / "x").exists()


def test_no_docker_at_all(fakes: Fakes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="needs Docker or Podman, and none is installed"):
        start()


def test_too_little_memory_disk_or_inotify(
    fakes: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.says("docker info", json.dumps({**INFO, "MemTotal": 1 << 30}))
    with pytest.raises(ClusterError, match=r"1\.0 GiB of memory"):
        start()
    fakes.says("docker info", json.dumps({**INFO, "DockerRootDir": str(tmp_path)}))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: _Usage(1 << 30))
    with pytest.raises(ClusterError, match=r"has 1\.0 GiB left"):
        start()
    limit = tmp_path / "limit"
    limit.write_text("128\n")
    preflight.inotify(1, limit)
    with pytest.raises(ClusterError, match="sysctl"):
        preflight.inotify(4, limit)


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_node_image_that_cannot_be_had(fakes: Fakes) -> None:
    fakes.fails("docker image inspect", "No such image")
    fakes.fails("docker pull", "no route to host")
    with pytest.raises(ClusterError, match=r"image node:v1 is not on this machine .*no route to host"):
        start(settings=Settings(node_image="node:v1"))


def test_a_name_that_is_taken_by_somebody_elses_cluster_is_left_alone(fakes: Fakes) -> None:
    fakes.says("kind get clusters", "x\n")
    with pytest.raises(ClusterError, match="context:kind-x"):
        start()
    assert not any("delete" in line for line in fakes.asked)


def test_a_name_that_is_taken_by_ours(fakes: Fakes) -> None:
    start()
    fakes.says("kind get clusters", "x\n")
    with pytest.raises(ClusterError, match='"x" already runs'):
        start()
    assert not any("delete" in line for line in fakes.asked)


def test_a_bad_name(fakes: Fakes) -> None:
    with pytest.raises(ClusterError, match="lower case"):
        start("Not/a name")


def test_what_a_crash_left_is_swept_and_what_runs_is_not(fakes: Fakes) -> None:
    dead = Owner(2**22 + 1, 1.0)
    Record("kind", "half", owner=dead).with_facts(engine="docker").write()
    Record("kind", "orphan", "ready", dead).with_facts(engine="docker").write()
    Record("kind", "kept", "ready", None).with_facts(engine="docker").write()
    Record("kind", "used", "ready", Owner.of(os.getpid())).with_facts(engine="docker").write()
    assert kind.sweep() == ["half", "orphan"]
    assert [record.name for record in records.every("kind")] == ["kept", "used"]


def test_a_half_made_cluster_of_that_name_makes_room(fakes: Fakes) -> None:
    Record("kind", "x", owner=Owner(2**22 + 1, 1.0)).with_facts(engine="docker").write()
    start()
    deleted = next(n for n, line in enumerate(fakes.asked) if line.startswith("kind delete"))
    created = next(n for n, line in enumerate(fakes.asked) if line.startswith("kind create"))
    assert deleted < created


def test_who_owns_it_decides_how_long_it_stays(fakes: Fakes) -> None:
    cluster = start()
    cluster.own(os.getpid())
    assert cluster.record.owner is not None
    cluster.own(1)
    assert records.read("kind", "x") == replace(cluster.record, owner=None)


def test_an_owner_that_does_not_run() -> None:
    with pytest.raises(ClusterError, match="does not run"):
        Owner.of(2**22 + 1)


def test_nodes_that_are_not_ready_say_why() -> None:
    node = {
        "metadata": {"name": "n"},
        "status": {"conditions": [{"type": "Ready", "status": "False", "message": "no CNI"}]},
    }
    assert kind.not_ready(node) == "node n: no CNI"
    assert "has not reported" in kind.not_ready({"metadata": {"name": "n"}, "status": {}})


def test_podman_saves_and_loads_an_archive(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes.home / "podman").symlink_to(fakes.home / "docker")
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    fakes.says("docker save")
    fakes.says("kind load image-archive")
    cluster = start()
    assert cluster.record.fact("engine") == "podman"
    assert "KIND_EXPERIMENTAL_PROVIDER=podman" in (cluster.record.directory / "kind").read_text()
    assert any(line.startswith("kind load image-archive") for line in fakes.asked)


REAL_KIND = subprocess.run(["sh", "-c", "command -v kind"], capture_output=True, text=True).stdout.strip()


@pytest.mark.kind
@pytest.mark.skipif(not REAL_KIND, reason="no kind on PATH to check its configuration file with")
def test_the_real_kind_understands_our_configuration(fakes: Fakes, tmp_path: Path) -> None:
    """With a docker that only pretends it gets as far as making nodes; a file it cannot read it refuses before."""
    for workers in (0, 3):
        file = tmp_path / "kind.yaml"
        file.write_text(yaml.safe_dump(config(38080, workers)))
        done = subprocess.run(
            [REAL_KIND, "create", "cluster", "--name", "x", "--config", str(file), "--image", "node:v1"],
            capture_output=True, text=True, timeout=60, env={**os.environ, "KUBECONFIG": str(tmp_path / "k")},
        )  # fmt: skip
        assert "decode config" not in done.stderr and "invalid" not in done.stderr, done.stderr
    bad = config(38080) | {"nodes": [{"role": "control-plane", "extraPorts": []}]}
    file.write_text(yaml.safe_dump(bad))
    done = subprocess.run(
        [REAL_KIND, "create", "cluster", "--config", str(file)], capture_output=True, text=True
    )
    assert "decode config" in done.stderr


def test_sweep_from_the_command_line(fakes: Fakes) -> None:
    Record("kind", "half", owner=Owner(2**22 + 1, 1.0)).with_facts(engine="docker").write()
    command = [sys.executable, "-m", "mesh.cli", "sweep", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    assert json.loads(done.stdout) == {"swept": ["half"]}, done.stderr
