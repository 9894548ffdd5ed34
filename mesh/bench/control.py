"""What a change costs the control plane: many services, many proxies, one change, time until the last has
accepted it.

`python -m mesh.bench.control [--services 1000] [--proxies 1000]` prints one JSON object. The proxies are
simulated in the same process: they answer at once, and no network lies between. So the figures are the
control plane's own work, from the new world to the last acknowledgement: compiling, packing, deciding what
to send.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mesh.api import parse
from mesh.control.publish import Connection, Publisher
from mesh.control.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from mesh.control.stream import Request, Response
from mesh.control.world import Endpoint, Namespace, Proxy, Service, ServicePort, Workload, World

ROUNDS = 5
"""Changes of each kind; the median is told."""


def first_world(services: int, proxies: int) -> World:
    """That many services of one port and one pod each, and at least that many pods, all in one namespace."""
    pods = [_pod(index) for index in range(max(services, proxies))]
    found = [_service(index) for index in range(services)]
    return World(
        namespaces={"default": Namespace("default")},
        services={one.key: one for one in found},
        endpoints={one.key: (_endpoint(pods[index]),) for index, one in enumerate(found)},
        workloads={(one.namespace, one.name): one for one in pods},
        config={"VirtualService": {("default", "s0"): _rule(50)}},
    )


def _service(index: int) -> Service:
    name = f"s{index}"
    host = f"{name}.default.svc.cluster.local"
    return Service("default", name, host, (ServicePort("http", 80, 8080),), selector={"app": name})


def _pod(index: int) -> Workload:
    address = f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}"
    return Workload(
        "default", f"p{index}", address, {"app": f"s{index}"}, workload_name=f"s{index}", injected=True
    )


def _endpoint(pod: Workload) -> Endpoint:
    return Endpoint(
        pod.ip, 8080, "http", tls_mode="istio", labels=pod.labels, namespace="default", pod_name=pod.name
    )


def _rule(weight: int) -> Any:
    shares = [
        {"destination": {"host": f"s{n}"}, "weight": part} for n, part in enumerate((weight, 100 - weight))
    ]
    return parse(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "s0", "namespace": "default"},
            "spec": {"hosts": ["s0"], "http": [{"route": shares}]},
        }
    )


def route_changes(world: World) -> Iterator[World]:
    """One VirtualService changes its weights."""
    for weight in range(10, 10 + ROUNDS):
        world = world.evolve(config={**world.config, "VirtualService": {("default", "s0"): _rule(weight)}})
        yield world


def endpoint_changes(world: World) -> Iterator[World]:
    """The one pod behind one service is replaced."""
    pods = list(world.workloads.values())
    for index in range(1, 1 + ROUNDS):
        moved = {("default", "s0"): (_endpoint(pods[index % len(pods)]),)}
        world = world.evolve(endpoints={**world.endpoints, **moved})
        yield world


class SimulatedProxy:
    """Subscribes to everything, as Envoy does, and accepts whatever comes."""

    def __init__(self, publisher: Publisher, pod: Workload) -> None:
        self._publisher, self._out = publisher, list[Response]()
        self.received = 0
        identity = f"sidecar~{pod.ip}~{pod.name}.{pod.namespace}~{pod.namespace}.svc.cluster.local"
        proxy = Proxy(identity, "sidecar", pod.ip, pod.namespace, pod_name=pod.name, labels=pod.labels)
        self.connection: Connection = publisher.connect(proxy, self._out.append)

    def start(self, endpoint_sets: Sequence[str], routes: Sequence[str]) -> None:
        """Subscribe, type by type, each when the one before has been answered."""
        for type_url, names in ((CLUSTER, ()), (ENDPOINT, endpoint_sets), (LISTENER, ()), (ROUTE, routes)):
            self._publisher.hear(self.connection, Request(type_url, tuple(names)))
            self.answer()

    def answer(self) -> None:
        """Acknowledge all that has come."""
        while self._out:
            response = self._out.pop(0)
            self.received += len(response.resources)
            wanted = self.connection.stream.types[response.type_url].wanted
            self._publisher.hear(
                self.connection, Request(response.type_url, tuple(wanted or ()), response.nonce)
            )


async def measure(services: int, proxies: int) -> dict[str, Any]:
    """The figures; times in seconds, memory in MB (peak of this process)."""
    publisher, world = Publisher(), first_world(services, proxies)
    publishing = asyncio.ensure_future(publisher.run())
    publisher.update(world)
    started = time.perf_counter()
    crowd = [SimulatedProxy(publisher, pod) for pod in list(world.workloads.values())[:proxies]]
    snapshot = crowd[0].connection.stream.snapshot
    assert snapshot is not None
    for one in crowd:
        one.start(list(snapshot.resources(ENDPOINT)), list(snapshot.resources(ROUTE)))
    connected = time.perf_counter() - started
    figures = {"services": services, "proxies": proxies, "connect_all_s": round(connected, 3)}
    for name, changes in (("route_change", route_changes), ("endpoint_change", endpoint_changes)):
        figures |= await _rounds(name, publisher, crowd, changes)
    publishing.cancel()
    figures["peak_memory_mb"] = round(_peak_memory(), 1)
    return figures


async def _rounds(
    name: str, publisher: Publisher, crowd: list[SimulatedProxy], changes: Callable[[World], Iterator[World]]
) -> dict[str, float]:
    assert publisher.world is not None
    times: list[float] = []
    before = sum(one.received for one in crowd)
    for world in changes(publisher.world):
        started = time.perf_counter()
        publisher.update(world)
        while any(one.connection.accepted is not world for one in crowd):
            await asyncio.sleep(0)
            for one in crowd:
                one.answer()
        times.append(time.perf_counter() - started)
    sent = sum(one.received for one in crowd) - before
    return {
        f"{name}_last_ack_s": round(statistics.median(times), 3),
        f"{name}_resources_per_proxy": sent / len(times) / len(crowd),
    }


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def apart(services: int, proxies: int) -> dict[str, Any]:
    """The figures, measured in a process of its own, so that the memory is the control plane's alone."""
    command = [
        sys.executable,
        "-m",
        "mesh.bench.control",
        "--services",
        str(services),
        "--proxies",
        str(proxies),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m mesh.bench.control", description="What a change costs.")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--proxies", type=int, default=1000)
    chosen = parser.parse_args(argv)
    if chosen.services < 2 or chosen.proxies < 1:
        parser.error("at least two services and one proxy")
    print(json.dumps(asyncio.run(measure(chosen.services, chosen.proxies))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
