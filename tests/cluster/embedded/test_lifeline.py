"""Nothing of a cluster outlives it, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.embedded import lifeline
from cluster.embedded.client import EmbeddedCluster
from tests.cluster.conftest import Lab

ROOT = Path(__file__).parents[3]
OWNER = """
import sys
from pathlib import Path
from cluster.embedded.client import EmbeddedCluster
cluster = EmbeddedCluster.start("doomed", state_home=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""
# A pod that does what daemons do: a child in a session of its own, whose parent has ended.
RUNAWAY = """
import os, subprocess, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
print("running", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has started a cluster and would keep it for ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def with_runaway_pod(home: Path) -> EmbeddedCluster:
    cluster = EmbeddedCluster.find("doomed", home)
    assert cluster
    lab = Lab(cluster, "default")
    lab.apply(lab.pod("runaway", command=["python", "-c", RUNAWAY]))
    lab.until(lambda: "running" in lab.run("logs", "runaway").stdout)
    return cluster


def processes_of(cluster: EmbeddedCluster) -> set[int]:
    """The cluster's processes, by mark and by descent."""
    supervisor = {cluster.pid} if psutil.pid_exists(cluster.pid) else set()
    return {*lifeline.marked(cluster.mark), *lifeline.descendants(cluster.pid), *supervisor}


def gone(pids: set[int]) -> bool:
    living = (p for p in pids if psutil.pid_exists(p))
    return all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in living)


def await_end(cluster: EmbeddedCluster, pids: set[int]) -> None:
    deadline = time.monotonic() + 8
    while not (gone(pids) and not cluster.state_dir.exists()):
        assert time.monotonic() < deadline, (pids, list(cluster.state_dir.parent.iterdir()))
        time.sleep(0.02)


def child_named(cluster: EmbeddedCluster, position: int) -> int:
    return sorted(child.pid for child in psutil.Process(cluster.pid).children())[position]


VICTIMS: dict[str, Callable[[int, EmbeddedCluster], list[int]]] = {
    "owner": lambda owner, _: [owner],
    "supervisor": lambda _, cluster: [cluster.pid],
    "zygote": lambda _, cluster: [child_named(cluster, 0)],
    "API server": lambda _, cluster: [child_named(cluster, 1)],
    "node": lambda _, cluster: [child_named(cluster, 2)],
    "supervisor and zygote": lambda _, cluster: [cluster.pid, child_named(cluster, 0)],
    "owner, supervisor and node": lambda owner, cluster: [owner, cluster.pid, child_named(cluster, 2)],
}


@pytest.mark.parametrize("who", VICTIMS)
def test_killed_nothing_is_left(who: str, owner: subprocess.Popen[str], tmp_path: Path) -> None:
    cluster = with_runaway_pod(tmp_path)
    pids = processes_of(cluster)
    assert len(pids) >= 7  # supervisor, API server, node, zygote, the pod and its two runaways
    for pid in VICTIMS[who](owner.pid, cluster):
        os.kill(pid, signal.SIGKILL)
    await_end(cluster, pids)


def test_handed_over_a_cluster_outlives_who_started_it(tmp_path: Path) -> None:
    heir = subprocess.Popen(["sleep", "100"])
    started = subprocess.run(
        [
            sys.executable,
            "-c",
            OWNER.replace("sys.stdin.read()", f"cluster.own({heir.pid})"),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert started.returncode == 0, started.stderr
    cluster = EmbeddedCluster.find("doomed", tmp_path)
    assert cluster and cluster.alive
    pids = processes_of(cluster)
    heir.kill()
    heir.wait()
    await_end(cluster, pids)


def test_by_hand_a_cluster_may_be_owned_by_a_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster.embedded", "--state-dir", str(state), "--owner-fd", str(read_end)],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[read_end],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(read_end)
    assert process.stdout
    ready = json.loads(process.stdout.readline())["ready"]
    assert Path(ready["kubeconfig"]).is_file()
    os.close(write_end)
    assert process.wait(10) == 0
    assert not state.exists() and not lifeline.marked(ready["mark"])


def test_a_container_that_ends_takes_its_children_along(lab: Lab) -> None:
    script = RUNAWAY.replace("time.sleep(1000)\n", "").replace('print("running", flush=True)', "")
    lab.apply(lab.pod("brief", command=["python", "-c", script], restartPolicy="Never"))
    lab.until(lambda: lab.get("pod", "brief")["status"]["phase"] == "Succeeded")
    uid = lab.get("pod", "brief")["metadata"]["uid"]
    assert not lifeline.marked(f"{uid}/main/0", "LAB_CONTAINER")


def test_watch_pid_tells_when_a_process_ends() -> None:
    process = subprocess.Popen(["sleep", "100"])
    watched = lifeline.watch_pid(process.pid)
    os.set_blocking(watched, False)
    process.kill()
    import select

    assert select.select([watched], [], [], 5)[0]
    process.wait()
    os.close(watched)
    with pytest.raises(ProcessLookupError):
        lifeline.watch_pid(process.pid)


def test_the_record_names_the_run(embedded: EmbeddedCluster) -> None:
    record = json.loads((embedded.state_dir / "cluster.json").read_text())
    assert record["mark"] == embedded.mark and record["server"] == embedded.server
