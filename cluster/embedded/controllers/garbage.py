"""Garbage collection: what is owned goes when its owner has gone.

An ownerReference names the owner by kind, name and uid. A dependent is deleted when none of its owners exists
any more. `--cascade=orphan` and `--cascade=foreground` are finalizers on the owner, which are honoured here:
the first cuts the references, the second waits until the dependents are gone.

Watched are the kinds that own or are owned in every cluster (below); an owner of any other kind is looked up
when its dependent changes. (`kubernetes/pkg/controller/garbagecollector`, whose graph covers every kind.)
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.embedded.controllers.discover import discover
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers, WorkQueue
from cluster.embedded.kube import (
    CONFIGMAPS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    JOBS,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    ApiError,
    Object,
    Resource,
)

WATCHED = [
    PODS, REPLICASETS, DEPLOYMENTS, JOBS, SERVICES, ENDPOINTSLICES, ENDPOINTS, CONFIGMAPS, SECRETS, SERVICEACCOUNTS,
]  # fmt: skip
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"

Work = tuple[Resource, str, str]


class GarbageCollector:
    """Follows ownerReferences of all watched kinds."""

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        self.api = informers.api
        self._informers = informers
        self._kinds: dict[str, Resource] = {resource.kind: resource for resource in WATCHED}
        self._dependents: dict[str, set[Work]] = {}  # by the owner's uid
        self.queue = WorkQueue("GarbageCollector", self._work, workers=2)
        for resource in WATCHED:
            informers.of(resource).subscribe(
                lambda old, new, resource=resource: self._changed(resource, old, new)  # type: ignore[misc]
            )

    def _changed(self, resource: Resource, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        work = (resource, meta.get("namespace", ""), meta["name"])
        for owner in meta.get("ownerReferences") or []:
            known = self._dependents.setdefault(owner["uid"], set())
            known.add(work) if new else known.discard(work)
            if new is None:  # an owner may be waiting for just this one
                self._wake_owner(owner, meta.get("namespace", ""))
        if new is None:
            for dependent in self._dependents.pop(meta["uid"], ()):
                self.queue.add(dependent)
        elif meta.get("ownerReferences") or _waits(new):
            self.queue.add(work)

    def _wake_owner(self, owner: Object, namespace: str) -> None:
        resource = self._kinds.get(owner["kind"])
        if resource in WATCHED and resource is not None:
            self.queue.add((resource, namespace, owner["name"]))

    async def _work(self, work: Work) -> None:
        await self._informers.synced()
        resource, namespace, name = work
        obj = self._informers.of(resource).get(namespace, name)
        if obj is None:
            return
        if _waits(obj):
            await self._finalize(resource, obj)
        owners = obj["metadata"].get("ownerReferences") or []
        if not owners or obj["metadata"].get("deletionTimestamp"):
            return
        for owner in owners:
            if await self._exists(owner, namespace):
                return
        await self.api.delete(resource, namespace, name, uid=obj["metadata"]["uid"])

    async def _exists(self, owner: Object, namespace: str) -> bool:
        resource = self._kinds.get(owner["kind"]) or await self._find_kind(owner)
        if resource is None:
            return True  # of a kind unknown so far: not proven to be gone
        if resource in WATCHED:
            known = self._informers.of(resource).get(namespace, owner["name"])
            if known is not None:
                return bool(known["metadata"]["uid"] == owner["uid"]) and not _foreground(known)
        try:
            found = await self.api.get(resource, namespace if resource.namespaced else "", owner["name"])
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return bool(found["metadata"]["uid"] == owner["uid"]) and not _foreground(found)

    async def _find_kind(self, owner: Object) -> Resource | None:
        for found in await discover(self.api):
            self._kinds.setdefault(found.resource.kind, found.resource)
        return self._kinds.get(owner["kind"])

    async def _finalize(self, resource: Resource, obj: Object) -> None:
        """Honour the finalizers of a deletion in the foreground or without dependents."""
        finalizers = obj["metadata"]["finalizers"]
        dependents = list(self._dependents_of(obj))
        if ORPHAN in finalizers:
            for kind, dependent in dependents:
                await self._cut(kind, dependent, obj["metadata"]["uid"])
            await self._release(resource, obj, ORPHAN)
        elif not any(_blocks(dependent, obj["metadata"]["uid"]) for _, dependent in dependents):
            await self._release(resource, obj, FOREGROUND)
        else:
            for kind, dependent in dependents:
                meta = dependent["metadata"]
                if not meta.get("deletionTimestamp"):
                    await self.api.delete(kind, meta["namespace"], meta["name"], uid=meta["uid"])

    def _dependents_of(self, obj: Object) -> Iterator[tuple[Resource, Object]]:
        for resource, namespace, name in sorted(self._dependents.get(obj["metadata"]["uid"], ()), key=str):
            if found := self._informers.of(resource).get(namespace, name):
                yield resource, found

    async def _cut(self, resource: Resource, dependent: Object, uid: str) -> None:
        meta = dependent["metadata"]
        kept = [owner for owner in meta["ownerReferences"] if owner["uid"] != uid]
        body = {"metadata": {"ownerReferences": kept or None, "resourceVersion": meta["resourceVersion"]}}
        written = await self.api.patch(resource, meta["namespace"], meta["name"], body)
        self._informers.of(resource).assume({"kind": resource.kind, **written})

    async def _release(self, resource: Resource, obj: Object, finalizer: str) -> None:
        meta = obj["metadata"]
        kept = [name for name in meta["finalizers"] if name != finalizer]
        body = {"metadata": {"finalizers": kept or None, "resourceVersion": meta["resourceVersion"]}}
        await self.api.patch(resource, meta.get("namespace", ""), meta["name"], body)


def _waits(obj: Object) -> bool:
    """Whether the object is being deleted and waits for the garbage collector."""
    meta = obj["metadata"]
    return bool(meta.get("deletionTimestamp")) and bool(
        {FOREGROUND, ORPHAN} & set(meta.get("finalizers") or [])
    )


def _foreground(owner: Object) -> bool:
    meta = owner["metadata"]
    return bool(meta.get("deletionTimestamp")) and FOREGROUND in (meta.get("finalizers") or [])


def _blocks(dependent: Object, uid: str) -> bool:
    owners = dependent["metadata"].get("ownerReferences") or []
    return any(owner["uid"] == uid and owner.get("blockOwnerDeletion") for owner in owners)
