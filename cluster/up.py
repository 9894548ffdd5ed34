"""From nothing to the shop served through the mesh: the steps behind `mesh up` and every lab.

All of it goes through the Kubernetes API with the manifests of `mesh.manifests`, so it is the same on every
backend. What runs is read back from the cluster, never remembered beside it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

from cluster import choose, preflight, steps
from cluster.api import Api, ApiError, Object
from cluster.base import DEFAULT_NAME, Cluster, ClusterError
from cluster.settings import Settings, settings
from mesh import manifests

DEPLOYMENT_TIMEOUT = 60.0
"""Seconds a Deployment may take to become available before we say which one did not and why."""

PATIENCE = 240.0
"""The same on clusters of real containers, whose nodes have just started themselves."""

SETTLE_SECONDS = 30.0
"""Seconds for which an object may be refused because the cluster has not caught up yet."""

SYSTEM = manifests.SYSTEM_NAMESPACE


@dataclass
class Running:
    """A cluster with the mesh and the shop in it."""

    cluster: Cluster
    api: Api
    times: steps.Times = field(default_factory=steps.Times)

    @property
    def backend(self) -> str:
        return self.cluster.backend

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    @property
    def ready_seconds(self) -> float:
        """Seconds from nothing to the first page served."""
        return self.times.total

    @property
    def image(self) -> str:
        """The lab image: a pod that names it may run any command in it."""
        control = self.api.get("apps/v1", "Deployment", "mesh-control", SYSTEM)
        if control is None:
            raise ClusterError(f'cluster "{self.cluster.name}" has no mesh in it')
        return str(control["spec"]["template"]["spec"]["containers"][0]["image"])

    @property
    def dataplane(self) -> str:
        """`python` or `envoy`: what the sidecars are."""
        return str(self.mesh_config.get("dataplane", "python"))

    @property
    def mesh_config(self) -> Object:
        """The mesh's own configuration, from ConfigMap `mesh`."""
        found = self.api.get("v1", "ConfigMap", "mesh", SYSTEM)
        return dict(yaml.safe_load(found["data"]["mesh"]) or {}) if found else {}

    @property
    def gateway_url(self) -> str:
        """Where people outside reach the shop: a node's address and the gateway's node port."""
        service = self.api.get("v1", "Service", "mesh-gateway", SYSTEM)
        if service is None:
            raise ClusterError(f'cluster "{self.cluster.name}" has no gateway')
        port = next(p["nodePort"] for p in service["spec"]["ports"] if p["name"] == "http2")
        node = self.api.list("v1", "Node")[0]
        addresses = {a["type"]: a["address"] for a in node["status"]["addresses"]}
        address = addresses.get("ExternalIP") or addresses["InternalIP"]
        return self.cluster.reach(port) or f"http://{address}:{port}"

    def down(self) -> None:
        """End the cluster and everything in it."""
        self.api.close()
        self.cluster.stop()


def up(
    backend: str = "embedded",
    dataplane: str = "python",
    name: str = DEFAULT_NAME,
    owner: int | None = None,
    progress: steps.Progress = steps.silent,
    chosen: Settings | None = None,
) -> Running:
    """Start a cluster, install mesh and shop, wait for the first served page. Raises ClusterError, ApiError.

    While this works the cluster belongs to the calling process; after it to process `owner` (None: stays with
    the caller). When a step fails nothing is left behind. `chosen` is for clusters of real containers.
    """
    choose.check(backend)
    check_dataplane(dataplane)
    patience = DEPLOYMENT_TIMEOUT if backend == "embedded" else PATIENCE
    box: list[Running] = []

    def running() -> Running:
        return box[0]

    def start() -> None:
        cluster = choose.start(
            backend, name, manifests.IMAGE, manifests.PRELOAD, os.getpid(), chosen, progress
        )
        box.append(Running(cluster, Api(cluster.kubeconfig)))

    def stop() -> None:
        if box:
            box[0].down()

    def options() -> manifests.Options:
        replicas = (chosen or settings()).replicas
        return options_for(running().cluster, running().api, dataplane, replicas)

    def install_mesh() -> None:
        install(running().api, manifests.crds())
        wait_for_kinds(running().api)
        install(running().api, manifests.mesh(options()))
        wait_for_deployments(running().api, SYSTEM, only=("mesh-control",), timeout=patience)

    def install_shop() -> None:
        told = options()
        install(running().api, [*manifests.shop(told), *manifests.visitors(told), *manifests.shop_gateway()])
        for namespace in (SYSTEM, "default", "visitors"):
            wait_for_deployments(running().api, namespace, timeout=patience)

    times = steps.run(
        [
            steps.Step("start the cluster", start, stop),
            steps.Step("install the mesh", install_mesh),
            steps.Step("install the shop", install_shop),
            steps.Step("serve the first page", lambda: first_page(running().gateway_url)),
        ],
        progress,
    )
    running().times = times
    if owner is not None:
        running().cluster.own(owner)
    return running()


def attach(name: str = DEFAULT_NAME) -> Running:
    """The mesh of a cluster that already runs. Raises ClusterError when none does."""
    cluster = choose.find(name)
    return Running(cluster, Api(cluster.kubeconfig))


def check_dataplane(dataplane: str) -> None:
    """Raises ClusterError for a data plane this version cannot run."""
    if dataplane != "python":
        raise ClusterError(f'dataplane "{dataplane}": this version runs python sidecars only')


def options_for(cluster: Cluster, api: Api, dataplane: str, replicas: int = 1) -> manifests.Options:
    """How to install into this cluster. Raises ClusterError."""
    image = cluster.provide_image(manifests.IMAGE)
    if (
        cluster.backend == "embedded"
    ):  # apps have an address of their own there, and one kubelet starts them all
        return manifests.Options(image=image, interception=cluster.interception, dataplane=dataplane)
    native = preflight.version(api) >= preflight.NATIVE_SIDECARS
    return manifests.Options(
        image=image,
        interception=cluster.interception,
        dataplane=dataplane,
        app_address="127.0.0.1",
        native_sidecars=native,
        hold_application=not native,
        gateway_node_port=cluster.gateway_node_port,
        replicas=replicas,
    )


def install(api: Api, objects: list[Object]) -> None:
    """Apply objects in their order. Raises ApiError at the first that is refused.

    A cluster learns of what was just applied a moment later: a new kind is served, a webhook's endpoint is known to
    the node. Until then we ask again.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    for obj in objects:
        while True:
            try:
                api.apply(obj)
                break
            except ApiError as error:
                if not _passing(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.25)


def _passing(error: ApiError) -> bool:
    """Whether it is worth asking again: a kind or a webhook that is not there yet, a server that is busy."""
    unknown_kind = error.code == 404 and ("knows no kind" in str(error) or "not found" in str(error))
    return unknown_kind or error.code in (429, 503) or (error.code == 500 and "webhook" in str(error))


def wait_for_kinds(api: Api) -> None:
    """Wait until the API serves every kind the mesh brings. Raises ClusterError after a minute."""
    wanted = {crd["metadata"]["name"] for crd in manifests.crds()}

    def established(have: dict[str, Object]) -> bool:
        return all(_condition(have.get(name, {}), "Established") for name in wanted)

    done = api.wait("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, established, 60.0)
    if not done:
        raise ClusterError("the API server did not establish the mesh's kinds within 60 s")


def wait_for_deployments(
    api: Api, namespace: str, only: tuple[str, ...] = (), timeout: float = DEPLOYMENT_TIMEOUT
) -> None:
    """Wait until the namespace's Deployments (or `only` these) are available, `timeout` seconds at most.

    Raises ClusterError that names the pod which is not ready and the reason Kubernetes gives for it.
    """

    def available(have: dict[str, Object]) -> bool:
        return all(_condition(have.get(name, {}), "Available") for name in only or have)

    if not api.wait("apps/v1", "Deployment", namespace, available, timeout):
        raise ClusterError(f"{namespace}: {why_not_ready(api, namespace)} after {timeout:.0f} s")


def why_not_ready(api: Api, namespace: str) -> str:
    """One sentence on the first pod that is not ready, in Kubernetes' own words."""
    for pod in api.list("v1", "Pod", namespace):
        if _condition(pod, "Ready"):
            continue
        name = pod["metadata"]["name"]
        for status in _statuses(pod):
            waiting = status.get("state", {}).get("waiting")
            if waiting and waiting.get("reason") != "PodInitializing":
                reason = f"{waiting.get('reason')}: {waiting.get('message', '')}"
                return f"pod {name} waits: {reason}{_last_words(api, pod, status)}"
            if not status.get("ready"):
                return f"container {status['name']} of pod {name} is not ready{_last_words(api, pod, status)}"
        return f"pod {name} is {pod['status'].get('phase', 'not scheduled')}"
    return "a Deployment has no pod (see its events)"


def _statuses(pod: Object) -> list[Object]:
    """The pod's containers in the order of their start, without the init containers that have done their work."""
    first = [
        status
        for status in pod["status"].get("initContainerStatuses", [])
        if status.get("state", {}).get("terminated", {}).get("exitCode") != 0
    ]
    return [*first, *pod["status"].get("containerStatuses", [])]


def _last_words(api: Api, pod: Object, status: Object) -> str:
    """The last line a container logged (that of its last run, where this one has said nothing yet)."""
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
    for previous in ("false", "true"):
        query = {"container": status["name"], "tailLines": "1", "previous": previous}
        answer = api.send("GET", path, query)
        said = answer.body.decode(errors="replace").strip()
        if answer.status == 200 and said:
            return f"; it last said: {said}"
    return ""


def _condition(obj: Object, kind: str) -> bool:
    conditions = obj.get("status", {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def first_page(gateway_url: str, timeout: float = 30.0) -> None:
    """Ask the gateway for the shop's page until it is served. Raises ClusterError with the last answer."""
    last = poll(lambda: page_problem(gateway_url), timeout)
    if last:
        raise ClusterError(f"the shop is not served at {gateway_url}/productpage: {last}")


def page_problem(gateway_url: str) -> str:
    """Empty when the gateway serves a whole page, else what is wrong with the answer."""
    try:
        answer = PoolManager().request("GET", f"{gateway_url}/productpage", timeout=5.0, retries=False)
    except HTTPError as error:
        return str(error)
    if answer.status != 200:
        return f"HTTP {answer.status} {answer.data[:200].decode(errors='replace')}"
    return ""


def poll(problem: Callable[[], str], timeout: float, pause: float = 0.02) -> str:
    """Ask until there is no problem or `timeout` seconds are over; the last problem (empty: none).

    For what sends no event: a data plane that has just been given its routes.
    """
    deadline = time.monotonic() + timeout
    while (last := problem()) and time.monotonic() < deadline:
        time.sleep(pause)
    return last
