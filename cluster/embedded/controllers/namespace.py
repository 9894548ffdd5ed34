"""Namespace deletion: everything in it goes first, then its finalizer, then it.

(`kubernetes/pkg/controller/namespace/deletion`.)
"""

from __future__ import annotations

import asyncio

from cluster.embedded.controllers.base import Controller
from cluster.embedded.controllers.discover import discover
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers
from cluster.embedded.kube import NAMESPACES, PODS, ApiError, Object, Resource

LOOK_AGAIN = 1.0
"""Seconds until the next look if nothing is heard of what is left (kinds that are not watched)."""


class NamespaceController(Controller):
    """Empties and finalizes namespaces that are being deleted."""

    resource = NAMESPACES
    component = "namespace-controller"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        informers.of(PODS).subscribe(self._pod_gone)

    def _pod_gone(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            space = self.objects.get("", old["metadata"]["namespace"])
            if space and space["metadata"].get("deletionTimestamp"):
                self.queue.add(("", old["metadata"]["namespace"]))

    async def reconcile(self, obj: Object) -> float | None:
        """Delete what is left; finalize when nothing is."""
        if not obj["metadata"].get("deletionTimestamp"):
            return None
        namespace = obj["metadata"]["name"]
        kinds = [
            each for each in await discover(self.api) if each.resource.namespaced and "list" in each.verbs
        ]
        left = await asyncio.gather(
            *(self._empty(each.resource, namespace) for each in kinds if "delete" in each.verbs)
        )
        if sum(left):
            return LOOK_AGAIN
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "resourceVersion": obj["metadata"]["resourceVersion"]},
            "spec": {"finalizers": []},
        }
        try:
            await self.api.update(NAMESPACES, body, "finalize")
        except ApiError as error:
            if error.code != 404:
                raise
        return None

    async def _empty(self, resource: Resource, namespace: str) -> int:
        """Delete the objects of a kind; how many have to end first (pods with grace, finalizers)."""
        items = (await self.api.list(resource, namespace))["items"]
        fresh = [item for item in items if not item["metadata"].get("deletionTimestamp")]
        if not items:
            return 0
        for item in fresh:
            await self.api.delete(resource, namespace, item["metadata"]["name"])
        return len((await self.api.list(resource, namespace))["items"])
