"""A control plane as a process beside a real (embedded) API server, with the rights of its own service
account.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from mesh import manifests
from tests.cluster.embedded.conftest import ROOT, Api, start

Object = dict[str, Any]

PLURALS = {"NetworkPolicy": "networkpolicies", "EndpointSlice": "endpointslices"}


def path_of(obj: Object, name: bool = True) -> str:
    """Where an object lives in the API."""
    version, kind, metadata = obj["apiVersion"], obj["kind"], obj["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = kind.lower() + "s" if not kind.endswith("y") else kind.lower()[:-1] + "ies"
    scope = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{scope}/{plural}" + (f"/{metadata['name']}" if name else "")


def until(found: Callable[[], Any], what: str, within: float = 15.0) -> Any:
    """Ask until the answer is truthy, for what sends no event; the answer."""
    deadline = time.monotonic() + within
    while not (answer := found()):
        assert time.monotonic() < deadline, f"no {what} within {within} s"
        time.sleep(0.02)
    return answer


@dataclass
class Mesh:
    """A running control plane, and the API server it stands on."""

    api: Api
    address: str
    log: Path

    def apply(self, obj: Object) -> tuple[int, Object]:
        """Server-side apply; status code and answer."""
        patch = "application/apply-patch+yaml"
        return self.api.call("PATCH", f"{path_of(obj)}?fieldManager=test&force=true", obj, media=patch)

    def get(self, obj: Object) -> Object:
        return self.api.must("GET", path_of(obj))

    def debug(self, path: str) -> Any:
        """What the monitoring port says."""
        answer = urllib3.request("GET", f"http://{self.address}:15014{path}", timeout=5)
        return answer.json() if path.startswith("/debug") else answer.data.decode()

    def token(self, account: str, namespace: str = "default", audience: str = "istio-ca") -> str:
        """A token of a service account."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience]},
        }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.api.must("POST", path, body)["status"]["token"])

    @property
    def root(self) -> str:
        """The mesh's root certificate, from where sidecars take it."""
        config = self.api.must("GET", "/api/v1/namespaces/default/configmaps/istio-ca-root-cert")
        return str(config["data"]["root-cert.pem"])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The API server with the mesh's and the shop's objects in it, and the control plane running on them."""
    directory = tmp_path_factory.mktemp("mesh")
    server, api = start(directory)
    address = api.server.split("//")[1].split(":")[0].rsplit(".", 2)[0] + ".9.1"
    made = Mesh(api, address, directory / "control.log")
    for obj in [*manifests.crds(), *manifests.mesh(), *manifests.shop(), control_endpoints(address)]:
        code, answer = made.apply(obj)
        assert code < 300, answer.get("message")
    process = start_control(made, directory)
    yield made
    process.terminate()
    assert process.wait(10) == 0, made.log.read_text()
    server.terminate()
    server.wait(10)


def control_endpoints(address: str) -> Object:
    """Nothing runs pods here, so we say ourselves where the control plane is."""
    ports = {"https-webhook": 15017, "http-monitoring": 15014, "tls-xds": 15012}
    labels = {"kubernetes.io/service-name": "mesh-control"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "mesh-control-test", "namespace": "mesh-system", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()],
    }


def start_control(mesh: Mesh, directory: Path) -> subprocess.Popen[bytes]:
    """`python -m mesh.control` with the kubeconfig of its own service account; returns when it is ready."""
    config = yaml.safe_load(mesh.api.kubeconfig.read_text())
    token = mesh.token("mesh-control", "mesh-system", "https://kubernetes.default.svc.cluster.local")
    config["users"][0]["user"] = {"token": token}
    kubeconfig = directory / "control.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    env = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "LAB_BIND_ADDRESS": mesh.address,
        "PYTHONPATH": str(ROOT),
    }
    with mesh.log.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "mesh.control"], stderr=log, cwd=ROOT, env=env)

    def ready() -> bool:
        assert process.poll() is None, mesh.log.read_text()
        try:
            return bool(mesh.debug("/ready") == "ready\n")
        except urllib3.exceptions.HTTPError:
            return False

    until(ready, "control plane")
    return process
