"""Gives each namespace its `default` ServiceAccount and the ConfigMap `kube-root-ca.crt`.

Without the first no pod is admitted; without the second no pod could check the API server's certificate.
"""

from __future__ import annotations

from cluster.embedded.controllers.base import Controller
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers
from cluster.embedded.kube import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS, ApiError, Object, Resource

ROOT_CA = "kube-root-ca.crt"


class ServiceAccountController(Controller):
    """Per namespace, creates what is missing, also after somebody deleted it."""

    resource = NAMESPACES
    component = "serviceaccount-controller"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        self._accounts = informers.of(SERVICEACCOUNTS)
        self._configmaps = informers.of(CONFIGMAPS)
        for informer in (self._accounts, self._configmaps):
            informer.subscribe(self._deleted)

    def _deleted(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None and old["metadata"]["name"] in ("default", ROOT_CA):
            self.queue.add(("", old["metadata"]["namespace"]))

    async def reconcile(self, obj: Object) -> float | None:
        """Create what the namespace lacks."""
        namespace = obj["metadata"]["name"]
        if obj["metadata"].get("deletionTimestamp"):
            return None
        if self._accounts.get(namespace, "default") is None:
            await self._create(SERVICEACCOUNTS, namespace, {"metadata": {"name": "default"}})
        if self._configmaps.get(namespace, ROOT_CA) is None:
            body = {"metadata": {"name": ROOT_CA}, "data": {"ca.crt": self.api.root_ca}}
            await self._create(CONFIGMAPS, namespace, body)
        return None

    async def _create(self, resource: Resource, namespace: str, body: Object) -> None:
        try:
            await self.api.create(resource, namespace, body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
