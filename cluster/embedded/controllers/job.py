"""Job: run pods until enough of them have succeeded (`kubernetes/pkg/controller/job`).

Kept: completions, parallelism, backoffLimit, activeDeadlineSeconds, ttlSecondsAfterFinished, suspend. Indexed
completion and pod failure policies are not.
"""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass
from datetime import datetime

from cluster.embedded.controllers.base import Controller, is_active, is_ready, owned_by, owner_reference
from cluster.embedded.events import Recorder, now
from cluster.embedded.informer import Informers, key_of
from cluster.embedded.kube import JOBS, PODS, Object

LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Tally:
    """A Job's pods."""

    active: int
    ready: int
    succeeded: int
    failed: int


class JobController(Controller):
    """Creates pods until the Job is complete or has failed."""

    resource = JOBS
    component = "job-controller"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        self.pods = self.watch_owned(PODS)

    async def reconcile(self, obj: Object) -> float | None:
        """One step."""
        if obj["metadata"].get("deletionTimestamp"):
            return None
        if ended_at(obj):
            return await self._expire(obj)
        pods = owned_by(obj, self.pods.all(obj["metadata"]["namespace"]))
        verdict = verdict_of(obj, tally(obj, pods), _age(obj))
        if verdict:
            await self._delete([pod for pod in pods if is_active(pod)])
        else:
            missing = missing_pods(obj, tally(obj, pods))
            await asyncio.gather(*(self._create(obj) for _ in range(missing)))
        pods = owned_by(obj, self.pods.all(obj["metadata"]["namespace"]))
        await self._write_status(obj, tally(obj, pods), verdict)
        deadline = obj["spec"].get("activeDeadlineSeconds")
        return None if verdict or deadline is None else max(0.0, float(deadline) - _age(obj)) + 0.01

    async def _create(self, obj: Object) -> None:
        meta, template = obj["metadata"], copy.deepcopy(obj["spec"]["template"])
        labels = {**((template.get("metadata") or {}).get("labels") or {}), LABEL: meta["name"]}
        labels |= {"job-name": meta["name"], "batch.kubernetes.io/controller-uid": meta["uid"]}
        pod_meta = {
            **(template.get("metadata") or {}),
            "generateName": f"{meta['name']}-",
            "labels": labels,
            "ownerReferences": [owner_reference(obj)],
        }
        pod_meta.pop("creationTimestamp", None)
        pod = await self.api.create(PODS, meta["namespace"], {"metadata": pod_meta, "spec": template["spec"]})
        self.pods.assume(pod)
        self.recorder.normal(
            self.component, obj, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}"
        )

    async def _delete(self, pods: list[Object]) -> None:
        for pod in pods:
            await self.api.delete(PODS, *key_of(pod), uid=pod["metadata"]["uid"])

    async def _write_status(self, obj: Object, count: Tally, verdict: tuple[str, str, str] | None) -> None:
        status = status_of(obj, count, verdict)
        if status == {name: (obj.get("status") or {}).get(name) for name in status}:
            return
        namespace, name = key_of(obj)
        self.objects.assume(await self.api.patch(JOBS, namespace, name, {"status": status}, "status"))
        if verdict:
            kind, reason, message = verdict
            tell = self.recorder.normal if kind == "Complete" else self.recorder.warning
            tell(
                self.component, obj, "Completed" if kind == "Complete" else reason, message or "Job completed"
            )

    async def _expire(self, obj: Object) -> float | None:
        seconds = obj["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return None
        left = ended_at(obj) + seconds - time.time()
        if left > 0:
            return float(left)
        await self.api.delete(JOBS, *key_of(obj), uid=obj["metadata"]["uid"])
        return None


def tally(obj: Object, pods: list[Object]) -> Tally:
    """Counts; what succeeded or failed before and was deleted since is remembered by the status."""
    before = obj.get("status") or {}
    phases = [pod.get("status", {}).get("phase") for pod in pods]
    active = [pod for pod in pods if is_active(pod)]
    succeeded = max(phases.count("Succeeded"), before.get("succeeded") or 0)
    failed = max(phases.count("Failed"), before.get("failed") or 0)
    return Tally(len(active), sum(map(is_ready, active)), succeeded, failed)


def missing_pods(obj: Object, count: Tally) -> int:
    """How many pods to create now."""
    spec = obj["spec"]
    if spec.get("suspend"):
        return 0
    parallelism: int = 1 if spec.get("parallelism") is None else spec["parallelism"]
    if spec.get("completions") is None:  # a work queue: once one has succeeded, no new ones
        return max(0, parallelism - count.active) if count.succeeded == 0 else 0
    left: int = spec["completions"] - count.succeeded
    return max(0, min(parallelism, left) - count.active)


def verdict_of(obj: Object, count: Tally, age: float) -> tuple[str, str, str] | None:
    """(condition type, reason, message) when the Job is over."""
    spec = obj["spec"]
    limit = 6 if spec.get("backoffLimit") is None else spec["backoffLimit"]
    if count.failed > limit:
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and age >= deadline:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    wanted = spec.get("completions")
    if wanted is None and count.succeeded and not count.active:
        return "Complete", "CompletionsReached", ""
    if wanted is not None and count.succeeded >= wanted:
        return "Complete", "CompletionsReached", ""
    return None


def status_of(obj: Object, count: Tally, verdict: tuple[str, str, str] | None) -> Object:
    """A Job's status."""
    before = obj.get("status") or {}
    status: Object = {
        "active": 0 if verdict else count.active,
        "ready": 0 if verdict else count.ready,
        "succeeded": count.succeeded,
        "failed": count.failed,
        "startTime": before.get("startTime") or now(),
    }
    if verdict:
        kind, reason, message = verdict
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        status["conditions"] = [{**condition, "lastProbeTime": now(), "lastTransitionTime": now()}]
        if kind == "Complete":
            status["completionTime"] = now()
    return status


def ended_at(obj: Object) -> float:
    """When the Job completed or failed, in seconds since the epoch; 0 if it has not."""
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return _seconds(condition["lastTransitionTime"])
    return 0.0


def _age(obj: Object) -> float:
    started = (obj.get("status") or {}).get("startTime")
    return time.time() - _seconds(started) if started else 0.0


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
