"""Where there is only 127.0.0.1: which real port stands for each port of a pod.

Two pods may both listen on 8080, so each gets real ports of its own. Containers learn of them by LAB_PORTS
and LAB_LOCAL_PORTS (see `shim.py`), the rest of the cluster by an annotation of the pod, from which
EndpointSlices are made. In a pod with a sidecar there are two sets, as elsewhere there are two addresses: the
sidecar's, which are the pod's, and those inside.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.embedded.kube import Object

ANNOTATION = "embedded.service-mesh-lab/ports"
RANGE = range(20000, 30000)
"""Below what operating systems give to outgoing connections, and below node ports."""

SIDECAR_PORTS = {15000, 15001, 15004, 15006, 15020, 15021, 15053, 15090}
"""What an Istio sidecar listens on without declaring it."""

Ports = dict[int, int]

Listening = dict[tuple[str, str], Ports]
"""By a Service's namespace and name: its ports and the real ones kube-proxy listens on; empty elsewhere."""


def by_name(service: Object, listening: Listening) -> Object:
    """The Service as its clients must address it: by name where its address is everybody's."""
    meta = service["metadata"]
    if (meta["namespace"], meta["name"]) not in listening:
        return service
    return {**service, "spec": {**service["spec"], "clusterIP": f"{meta['name']}.{meta['namespace']}.svc"}}


@dataclass(frozen=True)
class PodPorts:
    """A pod's ports and the real ones: as the pod (or its sidecar) binds them, and as its app does inside."""

    outer: Ports = field(default_factory=dict)
    inside: Ports | None = None

    def bound_by(self, *, sidecar: bool) -> Ports:
        """What a container's own binds mean."""
        return self.outer if sidecar or self.inside is None else self.inside

    @property
    def local(self) -> Ports:
        """What a container finds at 127.0.0.1: the app at the app's ports, the sidecar at the sidecar's."""
        if self.inside is None:
            return self.outer
        own = {port: real for port, real in self.outer.items() if port in SIDECAR_PORTS}
        return {**own, **self.inside}

    def variables(self, *, sidecar: bool) -> dict[str, str]:
        """What the shim is told."""
        if not self.outer:
            return {}
        return {
            "LAB_PORTS": json.dumps(self.bound_by(sidecar=sidecar)),
            "LAB_LOCAL_PORTS": json.dumps(self.local),
        }

    def annotations(self) -> Object:
        """What the rest of the cluster is told."""
        return {ANNOTATION: json.dumps(self.outer)}


def of_pod(pod: Object) -> Ports:
    """The ports a pod is reached by, from its annotation; empty where every pod has an address of its own."""
    text = (pod["metadata"].get("annotations") or {}).get(ANNOTATION)
    return {int(port): real for port, real in json.loads(text).items()} if text else {}


def declared(containers: Iterable[Object]) -> set[int]:
    """Container ports, and ports of probes."""
    found: set[int] = set()
    for container in containers:
        found |= {port["containerPort"] for port in container.get("ports") or []}
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            spec = container.get(probe) or {}
            port = (spec.get("httpGet") or spec.get("tcpSocket") or {}).get("port")
            found |= {port} if isinstance(port, int) else set()
    return found


def assign(pod: Object, *, injected: bool) -> PodPorts:
    """Real ports for all that a pod declares; OSError when none are free."""
    spec = pod["spec"]
    ports = declared([*(spec.get("initContainers") or []), *spec["containers"]])
    if not injected:
        return PodPorts(_real(ports))
    return PodPorts(_real(ports | SIDECAR_PORTS), _real(ports - SIDECAR_PORTS))


def _real(ports: set[int]) -> Ports:
    return {port: _free() for port in sorted(ports)}


def _free() -> int:
    for port in random.sample(RANGE, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port between 20000 and 29999 seems to be free at 127.0.0.1")
