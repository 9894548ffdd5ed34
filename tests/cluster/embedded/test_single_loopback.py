"""Where there is only 127.0.0.1 (macOS): the same cluster, told apart by ports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.embedded import ports
from cluster.embedded.client import EmbeddedCluster
from tests.cluster.conftest import Lab, pod_spec

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["HOSTNAME"].encode())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
CLIENT = """
import os, socket, sys, urllib.request
get = lambda url: urllib.request.urlopen(url, timeout=5).read().decode()
print({get("http://a:8080/")[:1] for _ in range(5)}, len({get("http://b:8080/") for _ in range(30)}))
print(get("http://many:8080/")[:1], get(f"http://{os.environ['A_SERVICE_HOST']}:{os.environ['A_SERVICE_PORT']}/")[:1])
"""


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    patch = pytest.MonkeyPatch()
    patch.setenv("MESH_LAB_SINGLE_LOOPBACK", "1")
    cluster = EmbeddedCluster.start(
        "single", preload=["http.server"], state_home=tmp_path_factory.mktemp("home")
    )
    patch.undo()
    yield cluster
    log = (cluster.state_dir / "cluster.log").read_text()
    cluster.stop()
    assert "Traceback" not in log, log


def deployment(name: str, replicas: int) -> dict[str, Any]:
    spec = pod_spec(
        command=["python", "-c", SERVER],
        ports=[{"containerPort": 8080}],
        readinessProbe={"httpGet": {"path": "/", "port": 8080}},
    )
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    body = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}


def service(name: str, app: str, **more: Any) -> dict[str, Any]:
    spec = {"selector": {"app": app}, "ports": [{"port": 8080}], **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_pods_with_the_same_port_live_beside_one_another(single: EmbeddedCluster) -> None:
    lab = Lab(single, "default")
    assert single.server.startswith("https://127.0.0.1:")
    lab.apply(
        deployment("a", 1), deployment("b", 2), service("a", "a"), service("b", "b"),
        service("many", "a", clusterIP="None"),
    )  # fmt: skip
    for name in ("a", "b"):
        lab.kubectl("rollout", "status", f"deployment/{name}", "--timeout=20s")
    assert {pod["status"]["podIP"] for pod in lab.get("pods")["items"]} == {"127.0.0.1"}
    lab.until(lambda: len(lab.get("endpointslices", "-l", "kubernetes.io/service-name=b")["items"]) == 2)
    lab.apply(lab.pod("client", command=["python", "-c", CLIENT], restartPolicy="OnFailure"))
    lab.until(lambda: lab.get("pod", "client").get("status", {}).get("phase") == "Succeeded", 20)
    assert lab.kubectl("logs", "client").splitlines() == ["{'a'} 2", "a a"]


def test_a_pod_with_a_sidecar_has_two_sets_of_ports(tmp_path: Path) -> None:
    pod = {"spec": {"containers": [{"name": "app", "ports": [{"containerPort": 9080}]}]}}
    plain, injected = ports.assign(pod, injected=False), ports.assign(pod, injected=True)
    assert plain.bound_by(sidecar=False) == plain.local == plain.outer and set(plain.outer) == {9080}
    app, sidecar = injected.bound_by(sidecar=False), injected.bound_by(sidecar=True)
    assert app[9080] != sidecar[9080]
    assert injected.local[9080] == app[9080] and injected.local[15001] == sidecar[15001]
    annotated = {"metadata": {"annotations": injected.annotations()}}
    assert ports.of_pod(annotated) == injected.outer
    assert ports.of_pod({"metadata": {}}) == {}
