"""What all controllers share: a queue of keys, selectors, owners, rough arithmetic of rollouts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informer, Informers, Key, WorkQueue, key_of
from cluster.embedded.kube import Api, Object, Resource


class Controller:
    """Watches `resource` and works on one object at a time in `reconcile`."""

    resource: Resource
    component = "controller-manager"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        self.api: Api = informers.api
        self.recorder = recorder
        self.informers = informers
        self.objects: Informer = informers.of(self.resource)
        self.queue = WorkQueue(type(self).__name__, self._work)
        self.objects.subscribe(lambda old, new: self.queue.add(key_of(new or old or {})))

    async def _work(self, key: Key) -> float | None:
        await self.informers.synced()
        obj = self.objects.get(*key)
        return await self.reconcile(obj) if obj is not None else await self.gone(key)

    async def reconcile(self, obj: Object) -> float | None:
        """Bring the world nearer to what `obj` says; a number of seconds asks to be called again."""
        raise NotImplementedError

    async def gone(self, key: Key) -> float | None:
        """The object was deleted."""
        return None

    def watch_owned(self, resource: Resource) -> Informer:
        """Also look at an object when something that it controls changes."""

        def changed(old: Object | None, new: Object | None) -> None:
            for obj in (old, new):
                owner = controller_of(obj) if obj else None
                if obj and owner and owner["kind"] == self.resource.kind:
                    self.queue.add((obj["metadata"].get("namespace", ""), owner["name"]))

        informer = self.informers.of(resource)
        informer.subscribe(changed)
        return informer


def controller_of(obj: Object) -> Object | None:
    """The ownerReference with `controller: true`."""
    for owner in obj["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return dict(owner)
    return None


def owner_reference(owner: Object) -> Object:
    """A controlling ownerReference to `owner`."""
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def owned_by(owner: Object, objects: Iterable[Object]) -> list[Object]:
    """Those whose controller is `owner`."""
    uid = owner["metadata"]["uid"]
    return [obj for obj in objects if (ref := controller_of(obj)) and ref["uid"] == uid]


def matches(selector: Object, labels: Object) -> bool:
    """Whether a LabelSelector (matchLabels, matchExpressions) selects `labels`; an empty one selects all."""
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    return all(_expression(term, labels) for term in selector.get("matchExpressions") or [])


def _expression(term: Object, labels: Object) -> bool:
    value, values = labels.get(term["key"]), term.get("values") or []
    match term["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def selects(selector: Object, labels: Object) -> bool:
    """Whether a Service's or ReplicationController's plain map selector selects `labels`; an empty one none."""
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is true."""
    return condition_status(pod, "Ready") == "True"


def is_active(pod: Object) -> bool:
    """Neither ended nor being deleted."""
    phase = pod.get("status", {}).get("phase")
    return phase not in ("Succeeded", "Failed") and not pod["metadata"].get("deletionTimestamp")


def condition_status(obj: Object, kind: str) -> str:
    """A condition's status, "Unknown" if there is no such condition."""
    for condition in obj.get("status", {}).get("conditions") or []:
        if condition["type"] == kind:
            return str(condition["status"])
    return "Unknown"


def portion(value: Any, total: int, *, round_up: bool) -> int:
    """An IntOrString such as 2 or "25%" of `total`."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int(value)


_SAFE = "bcdfghjklmnpqrstvwxz2456789"


def short_hash(value: Any, length: int = 10) -> str:
    """A name-safe hash of a JSON value, in the alphabet Kubernetes uses (no vowels, so no words)."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:length])


def set_condition(conditions: list[Object], wanted: Object, time: str) -> list[Object]:
    """The conditions with `wanted` in place; its transition time moves only when its status does."""
    kept = [condition for condition in conditions if condition["type"] != wanted["type"]]
    old = next((c for c in conditions if c["type"] == wanted["type"]), None)
    same = old is not None and old["status"] == wanted["status"]
    since = old["lastTransitionTime"] if same and old else time
    return [*kept, {**wanted, "lastTransitionTime": since}]
