"""Puts telemetry together: the watch of the API, the access log service, and the query API.

If the Kubernetes API goes away, requests are counted on with what was known; whoever is not known is
"unknown".
"""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence

from aiohttp import web
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry

from mesh.control.kube import ENDPOINT_SLICES, PODS, SERVICES, Kube
from mesh.control.watch import Reflector
from mesh.telemetry.attributes import Labeller, Reporter, read_facts
from mesh.telemetry.directory import Directory
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.query import Queries, query_app
from mesh.telemetry.recent import Recent, read_request, read_timing
from mesh.telemetry.report import start_server
from mesh.telemetry.series import Series

log = logging.getLogger(__name__)

GRACE_S = 1.0


class Telemetry:
    """Everything telemetry knows, and the one way in: `take`."""

    def __init__(self, directory: Directory | None = None) -> None:
        self.directory = directory or Directory()
        self.series, self.recent, self.metrics = Series(), Recent(), Metrics()
        self.queries = Queries(self.series, self.recent, self.metrics)
        self._labeller = Labeller(self.directory)

    def take(self, reporter: Reporter, entries: Sequence[HTTPAccessLogEntry]) -> None:
        """Count finished requests that a proxy reports."""
        now = time.time()
        for entry in entries:
            labels = self._labeller.labels(reporter, read_facts(entry))
            timing = read_timing(entry)
            request = read_request(entry, labels, timing)
            self.series.add(timing.end, labels, timing.duration_ms, now)
            self.metrics.add(labels, timing.duration_ms, request.request_bytes, request.response_bytes, now)
            self.recent.add(request)

    def follow(self, kube: Kube) -> list[Reflector]:
        """What keeps the directory current; run each one's `run`."""
        return [
            Reflector(kube, PODS, lambda _, changes: self.directory.change_pods(changes)),
            Reflector(kube, SERVICES, lambda _, changes: self.directory.change_services(changes)),
            Reflector(kube, ENDPOINT_SLICES, lambda _, changes: self.directory.change_slices(changes)),
        ]


@contextlib.asynccontextmanager
async def serving(
    telemetry: Telemetry, kube: Kube, address: str, log_port: int, query_port: int
) -> AsyncIterator[tuple[int, int]]:
    """Runs telemetry for as long as the context lasts; gives the ports of the access log and query servers.

    Raises OSError when one of the ports is taken.
    """
    reflectors = telemetry.follow(kube)
    telemetry.queries.missing = [reflector.resource.plural for reflector in reflectors]
    tasks = [asyncio.create_task(reflector.run()) for reflector in reflectors]
    tasks.append(asyncio.create_task(_ready_when_synced(telemetry, reflectors)))
    server, bound = await start_server(telemetry.take, address, log_port)
    runner = web.AppRunner(query_app(telemetry.queries), access_log=None, shutdown_timeout=GRACE_S)
    try:
        await runner.setup()
        await web.TCPSite(runner, address, query_port).start()
        yield bound, runner.addresses[0][1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await runner.cleanup()
        await server.stop(GRACE_S)


async def _ready_when_synced(telemetry: Telemetry, reflectors: Sequence[Reflector]) -> None:
    for reflector in reflectors:
        await reflector.synced.wait()
        telemetry.queries.missing = [r.resource.plural for r in reflectors if not r.synced.is_set()]
    log.info("knows the pods and services of the cluster")


async def run(address: str, log_port: int, query_port: int) -> None:
    """Telemetry until SIGTERM or SIGINT. Raises OSError for a taken port, KubeError without credentials."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = await Kube.connect()
    try:
        async with serving(Telemetry(), kube, address, log_port, query_port) as ports:
            log.info("access log service on %s:%d, queries on port %d", address, *ports)
            gc.freeze()  # what was loaded so far stays; the collector need not look at it again and again
            await stop.wait()
    finally:
        await kube.close()
