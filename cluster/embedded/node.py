"""The node process: controllers, scheduler, kubelet and kube-proxy on one event loop.

They share one API client and one copy of the objects, but nothing else: each would run as well in a process
of its own, against any Kubernetes API.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cluster.embedded.controllers.base import Controller
from cluster.embedded.controllers.deployment import DeploymentController
from cluster.embedded.controllers.endpointslice import EndpointSliceController
from cluster.embedded.controllers.garbage import GarbageCollector
from cluster.embedded.controllers.job import JobController
from cluster.embedded.controllers.namespace import NamespaceController
from cluster.embedded.controllers.replicaset import ReplicaSetController
from cluster.embedded.controllers.serviceaccount import ServiceAccountController
from cluster.embedded.events import Recorder
from cluster.embedded.hosts import Hosts
from cluster.embedded.informer import Informers
from cluster.embedded.kube import CONFIGMAPS, SECRETS, Api
from cluster.embedded.kubelet.app import Kubelet, node_object, register
from cluster.embedded.kubelet.runtime import Runtime
from cluster.embedded.kubeproxy import KubeProxy
from cluster.embedded.ports import Listening
from cluster.embedded.scheduler import Scheduler
from cluster.embedded.slots import Slot

CONTROLLERS: list[type[Controller] | type[GarbageCollector]] = [
    NamespaceController,
    ServiceAccountController,
    GarbageCollector,
    JobController,
    DeploymentController,
    ReplicaSetController,
    EndpointSliceController,
    Scheduler,
]


@dataclass(frozen=True)
class NodeOptions:
    """What the node process is told by the supervisor."""

    name: str
    kubeconfig: Path
    slot: Slot
    state_dir: Path
    image: str


async def serve(options: NodeOptions, orders: socket.socket, ready: Callable[[], None]) -> None:
    """Run until cancelled; `ready` is called when the Node is registered and every watch stands."""
    async with Api.from_kubeconfig(options.kubeconfig) as api:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            await _serve(options, api, session, orders, ready)


async def _serve(
    options: NodeOptions,
    api: Api,
    session: aiohttp.ClientSession,
    orders: socket.socket,
    ready: Callable[[], None],
) -> None:
    informers, recorder, runtime = Informers(api), Recorder(api, options.name), Runtime(orders)
    controllers = [kind(informers, recorder) for kind in CONTROLLERS]
    listening: Listening = {}
    hosts = Hosts(informers, options.state_dir / "hosts.json", listening)
    proxy = KubeProxy(informers, recorder, options.slot.node, listening, hosts.soon)
    kubelet = Kubelet(
        informers, recorder, runtime, session,
        node_name=options.name, slot=options.slot, state_dir=options.state_dir, image=options.image,
        api=_address(api.server), listening=listening,
    )  # fmt: skip
    for resource in (CONFIGMAPS, SECRETS):
        informers.of(resource)
    version = (await api.request("GET", "/version"))["gitVersion"]
    await asyncio.gather(
        informers.synced(), register(informers, node_object(options.name, options.slot, version))
    )
    hosts.start()
    proxy.start()
    kubelet.start()
    ready()
    try:
        await asyncio.Event().wait()
    finally:
        for controller in controllers:
            await controller.queue.stop()
        await kubelet.stop()
        await proxy.stop()
        await informers.stop()


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.removeprefix("https://").partition(":")
    return host, int(port or 443)
