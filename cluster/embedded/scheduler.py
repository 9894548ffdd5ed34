"""Gives every new pod a node: there is one, so the work is to say so (pods/binding) or to say why not."""

from __future__ import annotations

from cluster.embedded.controllers.base import Controller, condition_status
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers
from cluster.embedded.kube import NODES, PODS, ApiError, Object


class Scheduler(Controller):
    """Binds pods without `spec.nodeName` (kube-scheduler's filter and bind, without its scores)."""

    resource = PODS
    component = "default-scheduler"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        self.nodes = informers.of(NODES)
        self.nodes.subscribe(lambda old, new: self._retry_pending())

    def _retry_pending(self) -> None:
        for pod in self.objects.all():
            if not pod["spec"].get("nodeName"):
                self.queue.add((pod["metadata"]["namespace"], pod["metadata"]["name"]))

    async def reconcile(self, obj: Object) -> float | None:
        """Bind the pod to a node that its selector allows."""
        if obj["spec"].get("nodeName") or obj["metadata"].get("deletionTimestamp"):
            return None
        nodes = list(self.nodes.all())
        fitting = [node for node in nodes if fits(obj, node)]
        if not fitting:
            await self._cannot(
                obj, f"0/{len(nodes)} nodes are available: no node matches the pod's node selector."
            )
            return None
        meta, node = obj["metadata"], fitting[0]["metadata"]["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"]},
            "target": target,
        }
        try:
            await self.api.request("POST", PODS.path(meta["namespace"], meta["name"], "binding"), binding)
        except ApiError as error:
            if error.code in (404, 409):  # gone, or bound already
                return None
            raise
        message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self.recorder.normal(self.component, obj, "Scheduled", message)
        return None

    async def _cannot(self, obj: Object, message: str) -> None:
        if condition_status(obj, "PodScheduled") == "False":
            return
        self.recorder.warning(self.component, obj, "FailedScheduling", message)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        meta = obj["metadata"]
        await self.api.patch(
            PODS, meta["namespace"], meta["name"], {"status": {"conditions": [condition]}}, "status"
        )


def fits(pod: Object, node: Object) -> bool:
    """Whether the node is ready to take pods and has the labels that the pod's nodeSelector asks for."""
    labels = node["metadata"].get("labels") or {}
    wanted = (pod["spec"].get("nodeSelector") or {}).items()
    return not node.get("spec", {}).get("unschedulable") and wanted <= labels.items() and _ready(node)


def _ready(node: Object) -> bool:
    return condition_status(node, "Ready") == "True"
