"""EndpointSlice: which pods stand behind a Service right now, and at which ports.

Everything that balances load reads these: kube-proxy, the service proxy of the API server, and a mesh's
control plane. (`kubernetes/pkg/controller/endpointslice`, with the legacy Endpoints object beside it.)
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from cluster.embedded.controllers.base import Controller, is_ready, owner_reference, selects, short_hash
from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informers
from cluster.embedded.kube import ENDPOINTS, ENDPOINTSLICES, NODES, PODS, SERVICES, ApiError, Object
from cluster.embedded.ports import of_pod

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


class EndpointSliceController(Controller):
    """One slice for each set of ports that a Service's pods have."""

    resource = SERVICES
    component = "endpoint-slice-controller"

    def __init__(self, informers: Informers, recorder: Recorder) -> None:
        super().__init__(informers, recorder)
        self.pods = informers.of(PODS)
        self.slices = informers.of(ENDPOINTSLICES)
        self.endpoints = informers.of(ENDPOINTS)
        self.nodes = informers.of(NODES)
        self.pods.subscribe(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old and new and _relevant(old) == _relevant(new):
            return
        for pod in filter(None, (old, new)):
            labels = pod["metadata"].get("labels") or {}
            for service in self.objects.all(pod["metadata"]["namespace"]):
                if selects(service["spec"].get("selector") or {}, labels):
                    self.queue.add((service["metadata"]["namespace"], service["metadata"]["name"]))

    async def reconcile(self, obj: Object) -> float | None:
        """Write the slices that differ, delete those no longer needed."""
        if not obj["spec"].get("selector") or obj["metadata"].get("deletionTimestamp"):
            return None
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        pods = sorted(self.pods.all(namespace), key=lambda pod: str(pod["metadata"]["name"]))
        wanted = {item["metadata"]["name"]: item for item in slices_of(obj, pods, self._zones())}
        present = {item["metadata"]["name"]: item for item in self._slices_of(namespace, name)}
        for slice_name, item in wanted.items():
            await self._write(namespace, item, present.get(slice_name))
        for slice_name in set(present) - set(wanted):
            await self.api.delete(ENDPOINTSLICES, namespace, slice_name)
        await self._write_endpoints(obj, list(wanted.values()))
        return None

    def _zones(self) -> dict[str, str]:
        nodes = self.nodes.all()
        return {
            node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(ZONE, "") for node in nodes
        }

    def _slices_of(self, namespace: str, service: str) -> list[Object]:
        labels = {SERVICE_NAME: service, MANAGED_BY: MANAGER}
        every = self.slices.all(namespace)
        return [item for item in every if selects(labels, item["metadata"].get("labels") or {})]

    async def _write(self, namespace: str, wanted: Object, present: Object | None) -> None:
        if present is None:
            try:
                self.slices.assume(await self.api.create(ENDPOINTSLICES, namespace, wanted))
            except ApiError as error:
                if error.code != 404 and not (error.code == 403 and "terminat" in str(error)):
                    raise  # but a namespace that is going away needs no endpoints
        elif _content(present) != _content(wanted):
            body = {**wanted, "metadata": {**present["metadata"], "labels": wanted["metadata"]["labels"]}}
            self.slices.assume(await self.api.update(ENDPOINTSLICES, body))

    async def _write_endpoints(self, service: Object, slices: list[Object]) -> None:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        subsets = subsets_of(slices)
        present = self.endpoints.get(namespace, name)
        body: Object = {"metadata": {"name": name, "namespace": namespace}, "subsets": subsets}
        body["metadata"]["ownerReferences"] = [owner_reference(service)]
        if present is None:
            self.endpoints.assume(await self.api.create(ENDPOINTS, namespace, body))
        elif (present.get("subsets") or []) != subsets:
            body["metadata"] = present["metadata"]
            self.endpoints.assume(await self.api.update(ENDPOINTS, body))


def _relevant(pod: Object) -> Any:
    """The parts of a pod that endpoints are made of."""
    meta, status = pod["metadata"], pod.get("status", {})
    ended = status.get("phase") in ("Succeeded", "Failed")
    address = (status.get("podIP"), of_pod(pod))
    return meta.get("labels"), meta.get("deletionTimestamp"), address, is_ready(pod), ended


def _content(item: Object) -> Any:
    return item.get("endpoints") or [], item.get("ports") or [], item["metadata"].get("labels")


def slices_of(service: Object, pods: list[Object], zones: dict[str, str]) -> list[Object]:
    """The slices a Service with a selector should have, given the pods of its namespace."""
    groups: dict[str, tuple[list[Object], list[Object]]] = defaultdict(lambda: ([], []))
    for pod in pods:
        if _belongs(service, pod):
            ports = ports_of(service, pod)
            group = groups[short_hash(ports, 5)]
            group[0].append(_endpoint(service, pod, zones))
            group[1][:] = ports
    if not groups:
        groups[short_hash([], 5)] = ([], [])
    name = service["metadata"]["name"]
    return [_slice(service, f"{name}-{digest}", *group) for digest, group in groups.items()]


def _belongs(service: Object, pod: Object) -> bool:
    status = pod.get("status", {})
    alive = status.get("phase") not in ("Succeeded", "Failed") and status.get("podIP")
    return bool(alive) and selects(service["spec"]["selector"], pod["metadata"].get("labels") or {})


def _slice(service: Object, name: str, endpoints: list[Object], ports: list[Object]) -> Object:
    meta = service["metadata"]
    labels = {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGED_BY: MANAGER}
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    return {
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def ports_of(service: Object, pod: Object) -> list[Object]:
    """The Service's ports as this pod serves them; a named targetPort that the pod lacks is left out."""
    ports = []
    for port in service["spec"].get("ports") or []:
        number = target_port(port, pod)
        if number is not None:
            real = of_pod(pod).get(number, number)
            entry = {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": real}
            if port.get("appProtocol"):
                entry["appProtocol"] = port["appProtocol"]
            ports.append(entry)
    return ports


def target_port(port: Object, pod: Object) -> int | None:
    """The container port a Service port leads to."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    sidecars = [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    for container in [*pod["spec"]["containers"], *sidecars]:
        for candidate in container.get("ports") or []:
            same_protocol = candidate.get("protocol", "TCP") == port.get("protocol", "TCP")
            if candidate.get("name") == target and same_protocol:
                return int(candidate["containerPort"])
    return None


def _endpoint(service: Object, pod: Object, zones: dict[str, str]) -> Object:
    meta, node = pod["metadata"], pod["spec"].get("nodeName", "")
    terminating = "deletionTimestamp" in meta
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: Object = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish or (is_ready(pod) and not terminating),
            "serving": is_ready(pod),
            "terminating": terminating,
        },
        "nodeName": node,
        "targetRef": {
            "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]
        },
    }  # fmt: skip
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        endpoint["hostname"] = pod["spec"]["hostname"]
    if zones.get(node):
        endpoint["zone"] = zones[node]
    return endpoint


def subsets_of(slices: list[Object]) -> list[Object]:
    """The same as the legacy Endpoints object has it: terminating pods left out, unready ones set apart."""
    subsets = []
    for item in slices:
        present = [e for e in item["endpoints"] if not e["conditions"]["terminating"]]
        subset: Object = {}
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            chosen = [e for e in present if e["conditions"]["ready"] is ready]
            if chosen:
                subset[field] = [
                    {"ip": e["addresses"][0], "nodeName": e["nodeName"], "targetRef": e["targetRef"]}
                    for e in chosen
                ]
        if subset:
            subsets.append({**subset, "ports": item["ports"]})
    return subsets
