"""What has to hold before a cluster of real containers is made or used: each check one sentence with the fix."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from cluster.api import Api, ApiError, Object
from cluster.base import ClusterError
from cluster.engine import Engine, last_line

GIB = 1 << 30
FIRST_NODE, NEXT_NODE = 3 * GIB, 1 * GIB
"""Memory for the first node with the mesh and the shop in it, and for each further one."""
MIN_DISK = 4 * GIB
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INSTANCES_PER_NODE = 40
OLDEST = (1, 27)
"""Server-side apply with strict field validation, which every object of ours goes through, is stable from here on."""
NATIVE_SIDECARS = (1, 29)
"""From here on Kubernetes has sidecar containers."""


def memory(engine: Engine, nodes: int) -> None:
    """Raises ClusterError where the engine has too little for so many nodes."""
    wanted = FIRST_NODE + NEXT_NODE * (nodes - 1)
    if 0 < engine.memory < wanted * 0.9:
        raise ClusterError(
            f"{engine.program} has {engine.memory / GIB:.1f} GiB of memory and {nodes} node(s) want "
            f"{wanted / GIB:.0f}: give it more (Docker Desktop: Settings, Resources), or use --backend embedded"
        )


def disk(engine: Engine, minimum: int = MIN_DISK) -> None:
    """Raises ClusterError; where the engine keeps its images elsewhere (a virtual machine) nobody can tell."""
    root = Path(engine.root)
    try:
        free = shutil.disk_usage(root).free if engine.root else minimum
    except OSError:
        return
    if free < minimum:
        raise ClusterError(
            f"{root} has {free / GIB:.1f} GiB left and a cluster wants {minimum / GIB:.0f}: free some "
            f"(`{engine.program} system prune`)"
        )


def inotify(nodes: int, limit: Path | None = None) -> None:
    """Raises ClusterError; with too few watches kind's nodes fail in ways that do not say so."""
    limit = limit or INOTIFY
    if limit.exists() and int(limit.read_text()) < INSTANCES_PER_NODE * nodes:
        raise ClusterError(
            f"{nodes} node(s) want {INSTANCES_PER_NODE * nodes} inotify instances and {limit} says "
            f"{limit.read_text().strip()}: `sudo sysctl fs.inotify.max_user_instances=512`"
        )


_KIND_SAYS = (
    (
        r"already exist for a cluster with the name",
        'a cluster "{name}" is there already: choose another --name',
    ),
    (
        r"failed to pull image \"?([^\s\"]+)",
        "node image {0} is not on this machine and cannot be fetched: bring it with `docker load`, or name another "
        "with --node-image or MESH_KIND_NODE_IMAGE",
    ),
    (
        r"(?:port is already allocated|address already in use)",
        "the port for the gateway was taken by another program meanwhile: start again",
    ),
    (r"no space left on device", "the disk is full: free some (`docker system prune`) and start again"),
    (
        r"could not find a log line|cgroup",
        "the node's container does not boot on this machine ({last}): kind needs cgroup v2 (or v1 with all "
        "controllers) and enough inotify instances; see `mesh doctor`",
    ),
    (
        r"timed out waiting|context deadline exceeded|kubelet is not (?:running|healthy)",
        "Kubernetes did not start in its node ({last}): it usually wants more memory or CPU; see `mesh doctor`",
    ),
)


def kind_says(said: str, name: str) -> str:
    """What kind wrote to stderr, as one sentence with the fix."""
    last = said[max(said.rfind("ERROR"), 0) :]  # its warnings before that are no reasons
    error = last.partition("\n")[0] or last_line(said)
    for pattern, sentence in _KIND_SAYS:
        if match := re.search(pattern, last):
            return sentence.format(*match.groups(), name=name, last=error.removeprefix("ERROR: "))
    return f'kind cluster "{name}": {error.removeprefix("ERROR: ") or "kind failed without a word"}'


def version(api: Api) -> tuple[int, int]:
    """Kubernetes' version. Raises ClusterError where the API server is away or the credential no good."""
    try:
        said, _ = api.request("GET", "/version")
    except ApiError as error:
        raise ClusterError(unreachable(api, error)) from error
    return int(said["major"]), int(re.sub(r"\D.*", "", str(said["minor"])))


def kubernetes(api: Api) -> None:
    """Raises ClusterError where Kubernetes is too old, or does not answer."""
    found = version(api)
    if found < OLDEST:
        raise ClusterError(
            f"the cluster runs Kubernetes {found[0]}.{found[1]}; the mesh needs {OLDEST[0]}.{OLDEST[1]} or newer"
        )


def unreachable(api: Api, error: ApiError) -> str:
    """Why a cluster cannot be used."""
    if error.code == 401:
        return (
            f"{api.server} does not accept your credential ({error}): it has probably expired; log in again"
        )
    if error.code == 403:
        return f"{api.server}: you lack a right ({error}): ask for the role cluster-admin"
    if error.code == 0:
        return f"{error}: is the cluster up, and this machine in its network?"
    return f"{api.server}: {error}"


def may_install(api: Api) -> None:
    """Raises ClusterError naming the first right that is missing."""
    for group, resource in (
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("", "namespaces"),
    ):
        asked = {"verb": "create", "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        try:
            said, _ = api.request(
                "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review
            )
        except ApiError as error:
            raise ClusterError(unreachable(api, error)) from error
        if not said["status"].get("allowed"):
            raise ClusterError(f"{api.server}: you may not create {resource}: ask for the role cluster-admin")


def net_admin(api: Api, namespace: str) -> None:
    """Raises ClusterError where pods of that namespace may not set kernel rules (Pod Security)."""
    found = api.get("v1", "Namespace", namespace)
    labels = ((found or {}).get("metadata") or {}).get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce", "privileged")
    if level != "privileged":
        raise ClusterError(
            f"namespace {namespace} enforces Pod Security {level}, which forbids NET_ADMIN: "
            "start with --interception none (apps are then sent to their sidecar by HTTP_PROXY)"
        )


def claimed(api: Api) -> Object | None:
    """The namespace of a mesh that is there already; None where there is none."""
    return api.get("v1", "Namespace", "mesh-system")
