"""What a pod's worker knows: the pod, its containers' records and processes, and the host they share."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from cluster.embedded.events import Recorder
from cluster.embedded.informer import Informer
from cluster.embedded.kube import Api, Object
from cluster.embedded.kubelet import plan
from cluster.embedded.kubelet.environment import Lookup, Place
from cluster.embedded.kubelet.plan import Record, Waiting
from cluster.embedded.kubelet.runtime import Process, Runtime
from cluster.embedded.kubelet.volumes import Volumes
from cluster.embedded.ports import SIDECAR_PORTS, Listening, PodPorts, by_name
from cluster.embedded.slots import Pair
from cluster.embedded.zygote import CONTAINER_MARK

SIDECAR_STATUS = "sidecar.istio.io/status"
SIDECAR = "istio-proxy"


def is_injected(pod: Object) -> bool:
    """Whether a pod has a sidecar that owns its address."""
    return SIDECAR_STATUS in (pod["metadata"].get("annotations") or {})


def port_number(container: Object, asked: int | str) -> int:
    """A container's port by its name; a number stands for itself. ValueError for a name it does not have."""
    for port in container.get("ports") or []:
        if port.get("name") == asked:
            return int(port["containerPort"])
    return int(asked)


@dataclass(frozen=True)
class Host:
    """What all pods of this kubelet share."""

    api: Api
    recorder: Recorder
    runtime: Runtime
    session: aiohttp.ClientSession
    pods: Informer
    services: Informer
    listening: Listening
    lookup: Lookup
    state_dir: Path
    address: str
    api_host: str
    api_port: int
    image: str
    base_env: dict[str, str]


@dataclass
class PodContext:
    """A pod as its worker knows it."""

    host: Host
    pod: Object
    pair: Pair
    records: dict[str, Record]
    volumes: Volumes
    accepted: float
    ports: PodPorts = field(default_factory=PodPorts)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    launched: dict[str, tuple[dict[str, str], Path]] = field(default_factory=dict)  # environment, directory
    processes: dict[str, Process] = field(default_factory=dict)
    watchers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    enders: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    stopping: bool = False

    @property
    def name(self) -> str:
        """namespace/name."""
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"

    @property
    def policy(self) -> str:
        """restartPolicy."""
        return str(self.pod["spec"].get("restartPolicy") or "Always")

    @property
    def grace(self) -> float:
        """terminationGracePeriodSeconds."""
        seconds = self.pod["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if seconds is None else float(seconds)

    def take(self, pod: Object) -> None:
        """A newer object of the same pod."""
        self.pod = pod
        self.volumes.pod = pod
        for container in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]:
            if container["name"] in self.records:
                self.records[container["name"]].spec = container

    def clean_up(self) -> None:
        """Remove what the pod had on disk."""
        for task in self.watchers.values():
            task.cancel()
        self.volumes.remove()
        meta = self.pod["metadata"]
        pod = f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        shutil.rmtree(self.host.state_dir / "pods" / pod, ignore_errors=True)

    def event(self, kind: str, reason: str, message: str, record: Record | None = None) -> None:
        """Record an event of the pod or of one container."""
        part = "containers" if record and record.kind == "main" else "initContainers"
        where = f"spec.{part}{{{record.name}}}" if record else ""
        tell = self.host.recorder.normal if kind == "Normal" else self.host.recorder.warning
        tell("kubelet", self.pod, reason, message, where)

    def say_back_off(self, record: Record) -> None:
        """The container waits before its next start."""
        if isinstance(record.state, Waiting) and record.state.reason == "CrashLoopBackOff":
            return
        meta = self.pod["metadata"]
        where = f"{record.name} in pod {meta['name']}_{meta['namespace']}({meta['uid']})"
        self.event("Warning", "BackOff", f"Back-off restarting failed container {where}", record)
        where = f"container={record.name} pod={meta['name']}_{meta['namespace']}({meta['uid']})"
        seconds = int(plan.back_off(record))
        record.state = Waiting("CrashLoopBackOff", f"back-off {seconds}s restarting failed {where}")

    def injected(self) -> bool:
        """Whether the pod has a sidecar that owns its address."""
        return is_injected(self.pod)

    def place(self, record: Record, root: Path) -> Place:
        """Where a container's network and files are."""
        inside = self.pair.inside if self.injected() else self.pair.pod
        bind = self.pair.pod if record.name == SIDECAR else inside
        base = {**self.host.base_env, "LAB_NAMESPACE": self.pod["metadata"]["namespace"]}
        base[CONTAINER_MARK] = f"{self.pod['metadata']['uid']}/{record.name}/{record.restarts}"
        base |= self.ports.variables(sidecar=record.name == SIDECAR)
        base["HOME"] = str(root)
        base["TMPDIR"] = str(root / "tmp")
        host = self.host
        return Place(
            self.pair.pod, host.address, inside, bind, host.api_host, host.api_port, str(root), base
        )  # fmt: skip

    def place_of_port(self, record: Record, asked: int | str) -> tuple[str, int]:
        """Where one of a container's ports, given by number or name, is found.

        What the sidecar serves is at the pod's address, the app's own ports are inside.
        """
        port = port_number(record.spec, asked)
        everyone = [*(self.pod["spec"].get("initContainers") or []), *self.pod["spec"]["containers"]]
        sidecar: Object = next((c for c in everyone if c["name"] == SIDECAR), {})
        served = SIDECAR_PORTS | {p["containerPort"] for p in sidecar.get("ports") or []}
        outside = not self.injected() or record.name == SIDECAR or port in served
        real = self.ports.bound_by(sidecar=outside)
        return self.pair.pod if outside else self.pair.inside, real.get(port, port)

    def services(self) -> Iterable[Object]:
        """Services of the pod's namespace, as this pod must address them."""
        for service in self.host.services.all(self.pod["metadata"]["namespace"]):
            yield by_name(service, self.host.listening)

    def log(self, record: Record) -> Path:
        """The log of a container's present run; where the API server looks for it."""
        meta = self.pod["metadata"]
        pod = f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        return self.host.state_dir / "pods" / pod / record.name / f"{record.restarts}.log"
