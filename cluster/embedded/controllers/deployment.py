"""Deployment: move pods from an old template to a new one without a gap
(`kubernetes/pkg/controller/deployment`).

A Deployment never touches pods. It keeps one ReplicaSet per template, found again by the hash of the
template, and shifts replica counts between them as `rollout.py` allows.
"""

from __future__ import annotations

import copy
from typing import Any

from cluster.embedded.controllers.base import (
    Controller,
    owned_by,
    owner_reference,
    set_condition,
    short_hash,
)
from cluster.embedded.controllers.rollout import Counted, Limits, limits_of, recreate_step, rolling_step
from cluster.embedded.events import Recorder, now
from cluster.embedded.informer import Informers, key_of
from cluster.embedded.kube import DEPLOYMENTS, REPLICASETS, Object

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
LARGEST = "deployment.kubernetes.io/max-replicas"
NOT_INHERITED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, DESIRED, LARGEST}


class DeploymentController(Controller):
    """Rolling updates and recreation, revisions, status."""

    resource = DEPLOYMENTS
    component = "deployment-controller"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        self.sets = self.watch_owned(REPLICASETS)

    async def reconcile(self, obj: Object) -> float | None:
        """One step of the rollout."""
        if obj["metadata"].get("deletionTimestamp"):
            return None
        every = self._sets_of(obj)
        new = find_new(obj, every)
        if not obj["spec"].get("paused"):
            new = await self._ensure_new(obj, new, every)
        if new is not None:
            old = [each for each in self._sets_of(obj) if each["metadata"]["uid"] != new["metadata"]["uid"]]
            await self._step(obj, new, old)
            await self._clean_up(obj, old)
        await self._write_status(obj)
        return self._until_deadline(obj)

    def _sets_of(self, obj: Object) -> list[Object]:
        """Its ReplicaSets, oldest revision first."""
        sets = owned_by(obj, self.sets.all(obj["metadata"]["namespace"]))
        return sorted(sets, key=lambda each: (revision_of(each), each["metadata"]["creationTimestamp"]))

    async def _ensure_new(self, obj: Object, new: Object | None, every: list[Object]) -> Object:
        latest = max((revision_of(each) for each in every), default=0)
        if new is None:
            new = await self._create_set(obj, latest + 1)
        elif revision_of(new) < latest:  # a roll-back: the old template is the newest revision again
            new = await self._patch_set(new, {"metadata": {"annotations": {REVISION: str(latest + 1)}}})
        revision = new["metadata"]["annotations"][REVISION]
        if (obj["metadata"].get("annotations") or {}).get(REVISION) != revision:
            namespace, name = key_of(obj)
            body = {"metadata": {"annotations": {REVISION: revision}}}
            self.objects.assume(await self.api.patch(DEPLOYMENTS, namespace, name, body))
        return new

    async def _create_set(self, obj: Object, revision: int) -> Object:
        body = new_set(obj, revision)
        created = await self.api.create(REPLICASETS, obj["metadata"]["namespace"], body)
        self.sets.assume(created)
        message = f"Scaled up replica set {body['metadata']['name']} from 0 to {body['spec']['replicas']}"
        if body["spec"]["replicas"]:
            self.recorder.normal(self.component, obj, "ScalingReplicaSet", message)
        return created

    async def _step(self, obj: Object, new: Object, old: list[Object]) -> None:
        by_name = {each["metadata"]["name"]: each for each in [new, *old]}
        for name, count in next_step(obj, new, old).items():
            each = by_name[name]
            before = each["spec"].get("replicas", 1)
            await self._patch_set(each, {"spec": {"replicas": count}})
            way = "up" if count > before else "down"
            message = f"Scaled {way} replica set {name} from {before} to {count}"
            self.recorder.normal(self.component, obj, "ScalingReplicaSet", message)

    async def _patch_set(self, each: Object, body: Object) -> Object:
        namespace, name = key_of(each)
        patched = await self.api.patch(REPLICASETS, namespace, name, body)
        self.sets.assume(patched)
        return patched

    async def _clean_up(self, obj: Object, old: list[Object]) -> None:
        """Keep revisionHistoryLimit empty old sets for roll-backs."""
        empty = [e for e in old if not e["spec"].get("replicas") and not e.get("status", {}).get("replicas")]
        surplus = len(empty) - obj["spec"].get("revisionHistoryLimit", 10)
        for each in empty[: max(0, surplus)]:
            await self.api.delete(REPLICASETS, *key_of(each), uid=each["metadata"]["uid"])

    async def _write_status(self, obj: Object) -> None:
        obj = self.objects.get(*key_of(obj)) or obj
        every = self._sets_of(obj)
        status = status_of(obj, find_new(obj, every), every, now())
        if _significant(status) == _significant(obj.get("status") or {}):
            return
        namespace, name = key_of(obj)
        self.objects.assume(await self.api.patch(DEPLOYMENTS, namespace, name, {"status": status}, "status"))

    def _until_deadline(self, obj: Object) -> float | None:
        status = (self.objects.get(*key_of(obj)) or obj).get("status", {})
        left = _deadline_left(obj, status.get("conditions") or [])
        return left + 0.1 if left is not None and left > 0 else None


def revision_of(each: Object) -> int:
    """The revision annotation; 0 without."""
    return int((each["metadata"].get("annotations") or {}).get(REVISION, 0))


def find_new(obj: Object, every: list[Object]) -> Object | None:
    """The ReplicaSet of the Deployment's present template."""
    wanted = template_hash(obj)
    return next((each for each in every if each["metadata"]["labels"].get(HASH) == wanted), None)


def template_hash(obj: Object) -> str:
    """What the pod-template-hash label will say."""
    return short_hash(obj["spec"]["template"])


def new_set(obj: Object, revision: int) -> Object:
    """The ReplicaSet for the Deployment's present template; its first count already keeps to the limits."""
    digest = template_hash(obj)
    template = copy.deepcopy(obj["spec"]["template"])
    labels = {**(template["metadata"].get("labels") or {}), HASH: digest}
    template["metadata"]["labels"] = labels
    selector = copy.deepcopy(obj["spec"]["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: digest}
    inherited = obj["metadata"].get("annotations") or {}
    annotations = {name: value for name, value in inherited.items() if name not in NOT_INHERITED}
    limits = limits_of(obj)
    annotations |= {REVISION: str(revision), DESIRED: str(limits.replicas), LARGEST: str(limits.most)}
    return {
        "metadata": {
            "name": f"{obj['metadata']['name']}-{digest}",
            "namespace": obj["metadata"]["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner_reference(obj)],
        },
        "spec": {
            "replicas": limits.replicas if revision == 1 else 0,
            "minReadySeconds": obj["spec"].get("minReadySeconds", 0),
            "selector": selector,
            "template": template,
        },
    }


def counted(each: Object) -> Counted:
    """A ReplicaSet as the arithmetic wants it."""
    status = each.get("status", {})
    wanted = each["spec"].get("replicas", 1)
    return Counted(
        each["metadata"]["name"], wanted, status.get("availableReplicas", 0), status.get("replicas", 0)
    )


def next_step(obj: Object, new: Object, old: list[Object]) -> dict[str, int]:
    """Replica counts to change now, by ReplicaSet name."""
    limits = limits_of(obj)
    olds = [counted(each) for each in old]
    if obj["spec"].get("paused") and olds:
        return {}
    if (obj["spec"].get("strategy") or {}).get("type") == "Recreate":
        return recreate_step(limits.replicas, counted(new), olds)
    return rolling_step(limits, counted(new), olds)


def status_of(obj: Object, new: Object | None, every: list[Object], time: str) -> Object:
    """A Deployment's status, counted from its ReplicaSets."""
    total = _sum(every, "replicas")
    available = _sum(every, "availableReplicas")
    limits = limits_of(obj)
    status: Object = {
        "observedGeneration": obj["metadata"].get("generation", 1),
        "replicas": total,
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available, limits.replicas - available),
    }
    conditions = (obj.get("status") or {}).get("conditions") or []
    conditions = set_condition(conditions, _available_condition(available, limits, time), time)
    status["conditions"] = set_condition(conditions, _progress(obj, status, new, every, time), time)
    return status


def _sum(sets: list[Object], field: str) -> int:
    return sum(each.get("status", {}).get(field, 0) for each in sets)


def _available_condition(available: int, limits: Limits, time: str) -> Object:
    enough = available >= limits.fewest
    return {
        "type": "Available",
        "status": "True" if enough else "False",
        "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        "lastUpdateTime": time,
    }


def _progress(obj: Object, status: Object, new: Object | None, every: list[Object], time: str) -> Object:
    name = new["metadata"]["name"] if new else ""
    replicas = obj["spec"].get("replicas", 1)
    done = (
        status["updatedReplicas"] == replicas
        and status["replicas"] == replicas
        and status["availableReplicas"] == replicas
    )
    before = obj.get("status") or {}
    old: Object | None = next((c for c in before.get("conditions") or [] if c["type"] == "Progressing"), None)
    if failure := _failure(every):
        return _progressing("False", "FailedCreate", failure, time)
    if done:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        return _progressing("True", "NewReplicaSetAvailable", message, time)
    counts = ("updatedReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    moved = old is None or any(status[field] != before.get(field, 0) for field in counts)
    if moved:
        return _progressing("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.', time)
    assert old is not None
    left = _deadline_left(obj, [old])
    if left is not None and left <= 0:
        message = f'ReplicaSet "{name}" has timed out progressing.'
        return _progressing("False", "ProgressDeadlineExceeded", message, time)
    return old


def _progressing(status: str, reason: str, message: str, time: str) -> Object:
    return {
        "type": "Progressing", "status": status, "reason": reason, "message": message, "lastUpdateTime": time
    }  # fmt: skip


def _failure(every: list[Object]) -> str:
    for each in every:
        for condition in each.get("status", {}).get("conditions") or []:
            if condition["type"] == "ReplicaFailure":
                return str(condition["message"])
    return ""


def _deadline_left(obj: Object, conditions: list[Object]) -> float | None:
    """Seconds until the rollout counts as stuck; None when it is done or said to be stuck already."""
    from datetime import UTC, datetime

    for condition in conditions:
        if condition["type"] == "Progressing" and condition["reason"] == "ReplicaSetUpdated":
            since = datetime.fromisoformat(condition["lastUpdateTime"].replace("Z", "+00:00"))
            allowed = obj["spec"].get("progressDeadlineSeconds", 600)
            return float(allowed) - (datetime.now(UTC) - since).total_seconds()
    return None


def _significant(status: Object) -> Any:
    """A status without zeros and times, to see whether writing it would say anything new."""
    conditions = [
        (c["type"], c["status"], c.get("reason"), c.get("message")) for c in status.get("conditions") or []
    ]
    counts = {name: value for name, value in status.items() if value and name != "conditions"}
    return counts, sorted(conditions)
