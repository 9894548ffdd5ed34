"""The kubelet: one worker for each pod that is bound to this node, and the Node object itself."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from cluster.embedded import lifeline
from cluster.embedded.events import Recorder, now
from cluster.embedded.informer import Informers
from cluster.embedded.kube import (
    CONFIGMAPS,
    NODES,
    PODS,
    SECRETS,
    SERVICES,
    ApiError,
    Object,
    Resource,
)
from cluster.embedded.kubelet.context import Host, PodContext, is_injected
from cluster.embedded.kubelet.plan import records_of
from cluster.embedded.kubelet.runtime import Runtime
from cluster.embedded.kubelet.unsupported import ignored
from cluster.embedded.kubelet.volumes import Volumes
from cluster.embedded.kubelet.worker import Worker
from cluster.embedded.ports import Listening, assign
from cluster.embedded.slots import PairAllocator, SingleSlot, Slot

SHIM = Path(__file__).resolve().parent.parent / "pythonpath"
PASSED_ON = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Kubelet:
    """Starts a worker for each pod of `node_name`, and tells workers what happens to their pods."""

    def __init__(
        self, informers: Informers, recorder: Recorder, runtime: Runtime, session: aiohttp.ClientSession, *,
        node_name: str, slot: Slot, state_dir: Path, image: str, api: tuple[str, int], listening: Listening,
    ) -> None:  # fmt: skip
        self._informers = informers
        self._node_name = node_name
        self._state_dir = state_dir
        self._pairs = PairAllocator(slot)
        self._single = isinstance(slot, SingleSlot)
        self._workers: dict[str, Worker] = {}
        host, port = api
        pods, services = informers.of(PODS), informers.of(SERVICES)
        self._host = Host(
            informers.api, recorder, runtime, session, pods, services, listening, self._lookup, state_dir, slot.node,
            host, port, image, base_environment(state_dir),
        )  # fmt: skip

    def start(self) -> None:
        """Begin to run pods; call when the informers are synced."""
        self._informers.of(PODS).subscribe(self._pod_changed)
        for resource in (CONFIGMAPS, SECRETS):
            self._informers.of(resource).subscribe(self._source_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        assert pod is not None
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is None:
            if new is not None and new["spec"].get("nodeName") == self._node_name and not _over(new):
                self._workers[uid] = self._new_worker(new)
            return
        if new is None:
            worker.delete(0, gone=True)
        else:
            worker.update(new)

    def _new_worker(self, pod: Object) -> Worker:
        uid, pair = pod["metadata"]["uid"], self._pairs.take()
        directory = self._state_dir / "kubelet" / uid
        addresses = (pair.pod, self._host.address)
        volumes = Volumes(pod, directory, addresses, self._host.api, self._host.lookup)
        context = PodContext(self._host, pod, pair, records_of(pod), volumes, time.time())
        if self._single:
            context.ports = assign(pod, injected=is_injected(pod))
        if refused := ignored(pod):
            context.event("Warning", "Unsupported", f"ignored by the embedded cluster: {', '.join(refused)}")
        worker = Worker(context)
        worker.task.add_done_callback(lambda _: self._forget(uid, context))
        if pod["metadata"].get("deletionTimestamp"):
            worker.update(pod)
        return worker

    def _forget(self, uid: str, context: PodContext) -> None:
        self._workers.pop(uid, None)
        self._pairs.give_back(context.pair)

    def _source_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        for worker in list(self._workers.values()):
            if worker.context.pod["metadata"]["namespace"] == obj["metadata"]["namespace"]:
                worker.source_changed(obj["kind"], obj["metadata"]["name"])

    async def _lookup(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """From the informer's copy; from the API itself if the copy may only be late."""
        if (known := self._informers.of(resource).get(namespace, name)) is not None:
            return known
        try:
            found = await self._informers.api.get(resource, namespace, name)
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return {**found, "kind": resource.kind}

    async def stop(self) -> None:
        """Kill every pod's processes, at once."""
        for worker in self._workers.values():
            worker.delete(0, gone=True)
        await asyncio.gather(*(worker.task for worker in self._workers.values()), return_exceptions=True)


def _over(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def base_environment(state_dir: Path, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the lab's image gives every container; nothing of the owner's shell leaks in (no proxy settings)."""
    scripts = sysconfig.get_path("scripts")
    paths = [
        str(SHIM),
        *(path for path in sys.path[1:] if path and "site-packages" not in path and _foreign(path)),
    ]
    base = {
        "PATH": os.pathsep.join([scripts, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "LAB_HOSTS": str(state_dir / "hosts.json"),
        lifeline.MARK: own.get(lifeline.MARK, ""),
    }
    return base | {name: own[name] for name in PASSED_ON if name in own}


def _foreign(path: str) -> bool:
    """Whether an entry of sys.path is not the interpreter's own."""
    return not path.startswith((sys.base_prefix, sys.prefix))


def node_object(name: str, slot: Slot, version: str) -> Object:
    """This machine as a Node."""
    cpus = str(os.cpu_count() or 1)
    memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki"
    capacity = {"cpu": cpus, "memory": memory, "pods": "500"}
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": sys.platform,
        "kubernetes.io/arch": architecture,
        "topology.kubernetes.io/region": "local",
        "topology.kubernetes.io/zone": "local-a",
    }
    ready = {
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now(), "lastTransitionTime": now(),
    }  # fmt: skip
    addresses = [{"type": "InternalIP", "address": slot.node}, {"type": "Hostname", "address": name}]
    info = {
        "kubeletVersion": version, "kubeProxyVersion": version, "operatingSystem": sys.platform,
        "architecture": architecture, "osImage": platform.system(), "kernelVersion": platform.release(),
        "containerRuntimeVersion": "embedded://1", "machineID": "", "systemUUID": "", "bootID": "",
    }  # fmt: skip
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": slot.pod_range, "podCIDRs": [slot.pod_range]},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": addresses,
            "conditions": [ready],
            "nodeInfo": info,
        },
    }


async def register(informers: Informers, node: Object) -> None:
    """Create the Node and report it ready; an existing one is brought up to date."""
    api, name = informers.api, node["metadata"]["name"]
    try:
        await api.create(NODES, "", {field: value for field, value in node.items() if field != "status"})
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    written = await api.patch(NODES, "", name, {"status": node["status"]}, "status")
    informers.of(NODES).assume(written)
