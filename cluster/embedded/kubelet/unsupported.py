"""What a pod asks for and this kubelet cannot give, so that it says so instead of ignoring it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.embedded.kube import Object

POD_FIELDS = {
    "hostNetwork": "pods have loopback addresses of their own",
    "hostPID": "pods share the machine's processes anyway",
    "hostAliases": "names come from Services",
    "dnsConfig": "names come from Services",
    "activeDeadlineSeconds": "use the Job's",
    "affinity": "there is one node",
    "topologySpreadConstraints": "there is one node",
    "runtimeClassName": "pods are plain processes",
}
CONTAINER_FIELDS = {
    "stdin": "containers have no input",
    "tty": "containers have no terminal",
    "volumeDevices": "there are no block devices",
}


def ignored(pod: Object) -> list[str]:
    """One entry for each thing that has no effect here: its path and why."""
    return [*_of_pod(pod["spec"]), *_of_containers(pod["spec"])]


def _of_pod(spec: Object) -> Iterator[str]:
    for name, why in POD_FIELDS.items():
        if spec.get(name):
            yield f"spec.{name} ({why})"


def _of_containers(spec: Object) -> Iterator[str]:
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or []):
            path = f"spec.{part}[{index}]"
            for name, why in CONTAINER_FIELDS.items():
                if container.get(name):
                    yield f"{path}.{name} ({why})"
            if any(port.get("hostPort") for port in container.get("ports") or []):
                yield f"{path}.ports.hostPort (use a Service of type NodePort)"
            if any(mount.get("subPathExpr") for mount in container.get("volumeMounts") or []):
                yield f"{path}.volumeMounts.subPathExpr (use subPath)"
            if _gives(container.get("securityContext") or {}):
                yield f"{path}.securityContext (pods run as you, with your rights and no others)"


def _gives(security: Object) -> bool:
    """Whether it asks for more rights; to ask for fewer is harmless to ignore, and every good manifest does."""
    return bool(security.get("privileged")) or bool((security.get("capabilities") or {}).get("add"))
