"""A pod's status in Kubernetes' words, from what the kubelet knows of its containers. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.embedded.controllers.base import set_condition
from cluster.embedded.kube import Object
from cluster.embedded.kubelet.plan import (
    Ended,
    Record,
    Running,
    Waiting,
    failed_init,
    finished,
)


def stamp(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status_of(
    pod: Object, records: dict[str, Record], addresses: tuple[str, str], started: float, now: float
) -> Object:
    """status of `pod` whose (pod, node) addresses are given; `started` is when the kubelet took it over."""
    policy = pod["spec"].get("restartPolicy", "Always")
    pod_address, node_address = addresses
    phase = phase_of(policy, records)
    groups = {"initContainerStatuses": ("init", "sidecar"), "containerStatuses": ("main",)}
    status: Object = {
        "phase": phase,
        "conditions": _conditions(pod, phase, records, stamp(now)),
        "hostIP": node_address,
        "hostIPs": [{"ip": node_address}],
        "podIP": pod_address,
        "podIPs": [{"ip": pod_address}],
        "startTime": stamp(started),
        "qosClass": qos_class(pod),
    }
    for field, kinds in groups.items():
        chosen = [container_status(r, pod) for r in records.values() if r.kind in kinds]
        if chosen:
            status[field] = chosen
    return status


def phase_of(policy: str, records: dict[str, Record]) -> str:
    """Pending, Running, Succeeded or Failed (kubelet_pods.go, getPhase)."""
    mains = [r for r in records.values() if r.kind == "main"]
    if finished(policy, records):
        good = all(isinstance(r.state, Ended) and r.state.code == 0 for r in mains)
        return "Succeeded" if good and not failed_init(policy, records) else "Failed"
    never_ran = [r for r in mains if isinstance(r.state, Waiting) and r.last is None]
    if not initialized(records) or never_ran:
        return "Pending"
    return "Running"


def initialized(records: dict[str, Record]) -> bool:
    """All init containers have succeeded and all sidecars have started (or the main containers have run
    already).
    """
    if any(r.kind == "main" and (r.last or isinstance(r.state, Running)) for r in records.values()):
        return True
    for record in records.values():
        if record.kind == "init" and not (isinstance(record.state, Ended) and record.state.code == 0):
            return False
        if record.kind == "sidecar" and not record.started:
            return False
    return True


def _conditions(pod: Object, phase: str, records: dict[str, Record], time: str) -> list[Object]:
    before = pod.get("status", {}).get("conditions") or []
    counted = [r for r in records.values() if r.kind != "init"]
    unready = [r.name for r in counted if not r.ready]
    ready: Object = {"status": "True"}
    if phase in ("Succeeded", "Failed"):
        ready = {"status": "False", "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        ready = {"status": "False", "reason": "ContainersNotReady", "message": message}
    waiting = [r.name for r in records.values() if r.kind == "init" and not _succeeded(r)]
    done: Object = {"status": "True"}
    if not initialized(records):
        message = f"containers with incomplete status: [{' '.join(waiting)}]"
        done = {"status": "False", "reason": "ContainersNotInitialized", "message": message}
    wanted: list[Object] = [
        {"type": "PodReadyToStartContainers", "status": "True"},
        {"type": "Initialized", **done},
        {"type": "Ready", **ready},
        {"type": "ContainersReady", **ready},
        {"type": "PodScheduled", "status": "True"},
    ]
    conditions = list(before)
    for condition in wanted:
        conditions = set_condition(conditions, condition, time)
    return conditions


def _succeeded(record: Record) -> bool:
    return isinstance(record.state, Ended) and record.state.code == 0


def container_status(record: Record, pod: Object) -> Object:
    """One entry of containerStatuses."""
    image = record.spec.get("image", "")
    ran = record.last is not None or not isinstance(record.state, Waiting)
    return {
        "name": record.name,
        "image": image,
        "imageID": f"embedded://{image}" if ran else "",
        "containerID": container_id(pod, record) if ran else "",
        "restartCount": record.restarts,
        "ready": record.ready or (record.kind == "init" and _succeeded(record)),
        "started": record.started,
        "state": state(record.state, pod, record),
        "lastState": state(record.last, pod, record)
        if record.last and record.last is not record.state
        else {},
    }


def container_id(pod: Object, record: Record) -> str:
    """A container has no id of its own here: its pod, name and restart count tell it apart."""
    return f"embedded://{pod['metadata']['uid']}/{record.name}/{record.restarts}"


def state(value: Waiting | Running | Ended | None, pod: Object, record: Record) -> Object:
    """A ContainerState."""
    match value:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
        case Running(since):
            return {"running": {"startedAt": stamp(since)}}
        case Ended(code, reason, since, until, signal, message):
            ended: Object = {
                "exitCode": code, "reason": reason, "startedAt": stamp(since), "finishedAt": stamp(until),
                "containerID": container_id(pod, record),
            }  # fmt: skip
            if signal:
                ended["signal"] = signal
            if message:
                ended["message"] = message
            return {"terminated": ended}
        case None:
            return {}


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' resources."""
    containers = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    resources = [container.get("resources") or {} for container in containers]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    full = all({"cpu", "memory"} <= (r.get("limits") or {}).keys() for r in resources)
    equal = all((r.get("requests") or r.get("limits")) == r.get("limits") for r in resources)
    return "Guaranteed" if full and equal else "Burstable"
