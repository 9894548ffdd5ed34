"""ReplicaSet: keep so many pods of a template (`kubernetes/pkg/controller/replicaset`)."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime

from cluster.embedded.controllers.base import (
    Controller,
    is_active,
    is_ready,
    owned_by,
    owner_reference,
)
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers, key_of
from cluster.embedded.kube import PODS, REPLICASETS, ApiError, Object


class ReplicaSetController(Controller):
    """Creates and deletes pods until there are as many as asked for, and counts them in the status."""

    resource = REPLICASETS
    component = "replicaset-controller"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        self.pods = self.watch_owned(PODS)

    async def reconcile(self, obj: Object) -> float | None:
        """Create what is missing, delete what is too much, write the status."""
        if obj["metadata"].get("deletionTimestamp"):
            return None
        active = self._active(obj)
        missing = obj["spec"].get("replicas", 1) - len(active)
        failure: ApiError | None = None
        try:
            if missing > 0:
                await self._create(obj, missing)
            elif missing < 0:
                await self._delete(obj, to_delete(active, -missing))
        except ApiError as error:
            failure = error
        active = self._active(obj)
        await self._write_status(obj, active, failure)
        if failure:
            raise failure
        return _next_available(obj, active)

    def _active(self, obj: Object) -> list[Object]:
        pods = owned_by(obj, self.pods.all(obj["metadata"]["namespace"]))
        return [pod for pod in pods if is_active(pod)]

    async def _create(self, obj: Object, count: int) -> None:
        template = copy.deepcopy(obj["spec"]["template"])
        name = obj["metadata"]["name"]
        meta = {
            **(template.get("metadata") or {}),
            "generateName": f"{name}-",
            "namespace": obj["metadata"]["namespace"],
            "ownerReferences": [owner_reference(obj)],
        }
        meta.pop("creationTimestamp", None)
        body = {"metadata": meta, "spec": template["spec"]}
        # The first alone: what refuses one (a webhook, a quota) refuses all.
        await self._create_one(obj, body)
        await asyncio.gather(*(self._create_one(obj, body) for _ in range(count - 1)))

    async def _create_one(self, obj: Object, body: Object) -> None:
        try:
            pod = await self.api.create(PODS, obj["metadata"]["namespace"], body)
        except ApiError as error:
            self.recorder.warning(self.component, obj, "FailedCreate", f"Error creating: {error}")
            raise
        self.pods.assume(pod)
        self.recorder.normal(
            self.component, obj, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}"
        )

    async def _delete(self, obj: Object, pods: list[Object]) -> None:
        await asyncio.gather(*(self._delete_one(obj, pod) for pod in pods))

    async def _delete_one(self, obj: Object, pod: Object) -> None:
        meta = pod["metadata"]
        answer = await self.api.delete(PODS, meta["namespace"], meta["name"], uid=meta["uid"])
        if answer and answer.get("kind") == "Pod":
            self.pods.assume(answer)
        self.recorder.normal(self.component, obj, "SuccessfulDelete", f"Deleted pod: {meta['name']}")

    async def _write_status(self, obj: Object, active: list[Object], failure: ApiError | None) -> None:
        status = status_of(obj, active, failure)
        current = {name: value for name, value in (obj.get("status") or {}).items() if value}
        if {name: value for name, value in status.items() if value} == current:
            return
        namespace, name = key_of(obj)
        written = await self.api.patch(REPLICASETS, namespace, name, {"status": status}, "status")
        self.objects.assume(written)


def status_of(obj: Object, active: list[Object], failure: ApiError | None = None) -> Object:
    """A ReplicaSet's status, counted from its active pods."""
    labels = (obj["spec"]["template"].get("metadata") or {}).get("labels") or {}
    seconds = obj["spec"].get("minReadySeconds", 0)
    ready = [pod for pod in active if is_ready(pod)]
    status: Object = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(
            labels.items() <= (p["metadata"].get("labels") or {}).items() for p in active
        ),
        "readyReplicas": len(ready),
        "availableReplicas": sum(ready_since(pod) >= seconds for pod in ready),
        "observedGeneration": obj["metadata"].get("generation", 1),
    }
    if failure:
        status["conditions"] = [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": str(failure)}
        ]
    else:
        status["conditions"] = None
    return status


def ready_since(pod: Object) -> float:
    """Seconds for which the pod has been ready; -1 if it is not."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "Ready" and condition["status"] == "True":
            since = datetime.fromisoformat(condition["lastTransitionTime"].replace("Z", "+00:00"))
            return max(0.0, (datetime.now(UTC) - since).total_seconds())
    return -1.0


def _next_available(obj: Object, active: list[Object]) -> float | None:
    """When the next ready pod becomes available, given minReadySeconds."""
    seconds = obj["spec"].get("minReadySeconds", 0)
    waits = [seconds - since for pod in active if 0 <= (since := ready_since(pod)) < seconds]
    return min(waits) + 0.01 if waits else None


def to_delete(active: list[Object], count: int) -> list[Object]:
    """The pods to give up first: unassigned, pending, not ready, cheap to delete, youngest."""

    def rank(pod: Object) -> tuple[int, int, int, int, float]:
        status, meta = pod.get("status", {}), pod["metadata"]
        phases = {"Pending": 0, "Unknown": 1, "Running": 2}
        annotations = meta.get("annotations") or {}
        cost = int(annotations.get("controller.kubernetes.io/pod-deletion-cost", 0))
        created = datetime.fromisoformat(meta["creationTimestamp"].replace("Z", "+00:00")).timestamp()
        assigned = 1 if pod["spec"].get("nodeName") else 0
        return assigned, phases.get(status.get("phase"), 0), int(is_ready(pod)), cost, -created

    return sorted(active, key=rank)[:count]
