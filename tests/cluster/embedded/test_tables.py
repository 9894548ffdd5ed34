"""What `kubectl get` prints: ages, states of pods, columns that definitions bring."""

import datetime
from typing import Any

import pytest

from cluster.embedded import cells
from cluster.embedded.columns import BY_RESOURCE
from cluster.embedded.kinds import Registry
from cluster.embedded.tables import Wish, json_path, read_wish


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (201, "3m21s"),
        (3599, "59m"),
        (3600 * 3, "3h"),
        (3600 * 3 + 60, "3h1m"),
        (86400, "24h"),
        (86400 * 4 + 3600 * 5, "4d5h"),
        (86400 * 30, "30d"),
        (86400 * 800, "2y70d"),
        (-5, "0s"),
    ],
)
def test_durations_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert cells.duration(seconds) == text


def test_age() -> None:
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5, seconds=10.5)
    assert cells.age(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) in ("5m10s", "5m11s")
    assert cells.age(None) == "<unknown>"


def pod(*states: dict[str, Any], phase: str = "Running", **more: Any) -> dict[str, Any]:
    statuses = [
        {"name": str(i), "state": state, "ready": "running" in state, "restartCount": i}
        for i, state in enumerate(states)
    ]
    spec = {"containers": [{"name": str(i)} for i in range(len(states))]}
    status = {"phase": phase, "containerStatuses": statuses}
    return {"metadata": {"name": "p"}, "spec": spec, "status": status} | more


RUNNING, CRASH = {"running": {}}, {"waiting": {"reason": "CrashLoopBackOff"}}
DONE, FAILED = {"terminated": {"exitCode": 0, "reason": "Completed"}}, {"terminated": {"exitCode": 3}}


@pytest.mark.parametrize(
    ("states", "phase", "ready", "status"),
    [
        ([RUNNING, RUNNING], "Running", "2/2", "Running"),
        ([RUNNING, CRASH], "Running", "1/2", "CrashLoopBackOff"),
        ([CRASH, RUNNING], "Running", "1/2", "CrashLoopBackOff"),
        ([DONE], "Succeeded", "0/1", "Completed"),
        ([FAILED], "Failed", "0/1", "ExitCode:3"),
        ([{"waiting": {"reason": "ErrImagePull"}}], "Pending", "0/1", "ErrImagePull"),
        ([], "Pending", "0/0", "Pending"),
    ],
)
def test_pods(states: list[dict[str, Any]], phase: str, ready: str, status: str) -> None:
    assert (cells.pod_ready(pod(*states, phase=phase)), cells.pod_status(pod(*states, phase=phase))) == (
        ready,
        status,
    )


def test_a_pod_that_ends_and_one_that_starts() -> None:
    assert cells.pod_status(pod(RUNNING, metadata={"name": "p", "deletionTimestamp": "x"})) == "Terminating"
    starting = pod(RUNNING, phase="Pending")
    starting["spec"]["initContainers"] = [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]
    starting["status"]["initContainerStatuses"] = [{"name": "i", "state": {"running": {}}}]
    assert cells.pod_status(starting) == "Init:0/2"
    starting["status"]["initContainerStatuses"] = [
        {"name": "i", "state": DONE},
        {"name": "s", "state": {"running": {}}, "started": True, "ready": True},
    ]
    assert cells.pod_status(starting) == "Running" or cells.pod_status(starting) == "Pending"
    assert cells.pod_ready(starting) == "2/2"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (".spec.hosts", ["a"]),
        (".spec.hosts[0]", "a"),
        (".spec.hosts[5]", None),
        (".spec.routes[*].w", 1),
        (".status.conditions[?(@.type=='Ready')].status", "True"),
        ('.status.conditions[?(@.type=="None")].status', None),
        (".metadata.annotations['a.b/c']", "x"),
        (".metadata.annotations.a\\.b/c", "x"),
        (".none.at.all", None),
    ],
)
def test_json_paths_of_printer_columns(path: str, value: Any) -> None:
    object = {
        "metadata": {"annotations": {"a.b/c": "x"}},
        "spec": {"hosts": ["a"], "routes": [{"w": 1}, {"w": 2}]},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert json_path(path)(object) == value


def test_which_requests_want_a_table() -> None:
    wanted = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert read_wish(wanted, "") == Wish("Metadata")
    assert read_wish(wanted, "Object") == Wish("Object")
    assert read_wish("application/json", "") is None
    assert read_wish("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "") is None


def test_columns_are_of_kinds_that_exist() -> None:
    assert set(BY_RESOURCE) <= {kind.resource for kind in Registry().all()}
