"""Telemetry beside a real API server: it learns who is who, and goes on while that server cannot be
reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

import aiohttp
import pytest

from mesh.control.kube import PODS, SERVICES, Kube, KubeError
from mesh.telemetry.app import Telemetry, serving
from mesh.telemetry.attributes import read_facts
from tests.mesh.telemetry.entries import PRODUCTPAGE, outbound, pod, service


class ApiServer:
    """The embedded cluster's API server, without a node; what it stores dies with it."""

    def __init__(self, state):
        self.state = state
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cluster.embedded.apiserver", "--address", "127.0.0.1"),
            *("--port", str(self.port), "--state-dir", str(self.state), "--service-range", "127.10.128.0/17"),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        while not (self.state / "kubeconfig").exists():
            await asyncio.sleep(0.02)
        while not await self.answers():
            await asyncio.sleep(0.02)

    async def answers(self):
        with contextlib.suppress(KubeError):
            async with self.client() as kube:
                await kube.list(PODS)
                return True
        return False

    async def stop(self):
        self.process.kill()
        await self.process.wait()

    @contextlib.asynccontextmanager
    async def client(self, port=None):
        kubeconfig = self.state / "kubeconfig"
        if port is not None:
            text = kubeconfig.read_text().replace(f":{self.port}", f":{port}")
            kubeconfig = self.state / f"kubeconfig-{port}"
            kubeconfig.write_text(text)
        kube = await Kube.connect({"KUBECONFIG": str(kubeconfig)})
        try:
            yield kube
        finally:
            await kube.close()

    async def create_service(self, name):
        async with self.client() as kube:
            await kube.create(SERVICES, {"apiVersion": "v1", "kind": "Service"} | service(name), "default")

    async def create_pods(self, *pods):
        async with self.client() as kube:
            for made in pods:
                for container in made["spec"]["containers"]:
                    container["image"] = "service-mesh-lab:dev"
                made["spec"]["serviceAccountName"] = "default"
                name, status = made["metadata"]["name"], made.pop("status")
                await kube.create(PODS, {"apiVersion": "v1", "kind": "Pod"} | made, "default")
                await kube.patch(PODS, name, {"status": status}, "default", "status")


@pytest.fixture
async def cluster(tmp_path):
    server = ApiServer(tmp_path)
    await server.start()
    yield server
    await server.stop()


async def learns(telemetry, destination):
    """Waits until a report to 10.0.0.12 is told as one to `destination`."""
    facts = read_facts(outbound())
    while telemetry._labeller.labels(PRODUCTPAGE, facts).destination_workload != destination:
        await asyncio.sleep(0.02)


class Relay:
    """A network that can be cut: forwards to a port of 127.0.0.1."""

    def __init__(self, port):
        self.target, self.port = port, 0
        self.writers = set()

    async def mend(self):
        self.server = await asyncio.start_server(self.join, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def cut(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await self.server.wait_closed()

    async def join(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers |= {writer, far_writer}
            await asyncio.gather(self.copy(reader, far_writer), self.copy(far_reader, writer))
        except OSError:
            writer.close()

    async def copy(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_learns_who_is_who_and_counts_on_without_the_api_server(cluster):
    telemetry, relay = Telemetry(), Relay(cluster.port)
    await relay.mend()
    async with (
        cluster.client(relay.port) as kube,
        serving(telemetry, kube, "127.0.0.1", 0, 0) as (_, port),
        aiohttp.ClientSession() as http,
    ):

        async def ready():
            async with http.get(f"http://127.0.0.1:{port}/ready") as answer:
                return answer.status == 200

        while not await ready():
            await asyncio.sleep(0.02)
        await cluster.create_service("reviews")
        await cluster.create_pods(pod("productpage", "v1", "10.0.0.1"), pod("reviews", "v2", "10.0.0.12"))
        await learns(telemetry, "reviews-v2")
        assert telemetry.directory.service_of_host("reviews", "default") is not None

        await relay.cut()
        telemetry.take(PRODUCTPAGE, [outbound()])
        (request,) = telemetry.recent.last(1, {})
        assert request.labels.destination_workload == "reviews-v2" and await ready()

        await cluster.create_pods(pod("reviews", "v3", "10.0.0.12"))
        await relay.mend()
        await learns(telemetry, "reviews-v3")
        await relay.cut()
