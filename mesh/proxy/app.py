"""The whole proxy on one page: what it is made of and in which order it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mesh.proxy import peers
from mesh.proxy.access_log import AccessLogs
from mesh.proxy.admin import Admin
from mesh.proxy.bootstrap import Bootstrap
from mesh.proxy.hcm import HttpSpec
from mesh.proxy.identity import Secrets, Signer, keep_renewed
from mesh.proxy.metrics import Metrics
from mesh.proxy.runtime import Runtime
from mesh.proxy.subscription import Subscription
from mesh.proxy.xds import CaClient, Upstream, keep_subscribed

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.tcp import ClientConnection, TcpSpec

log = logging.getLogger(__name__)

_STOPPING_IDLE = 0.5
"""Seconds of silence after which a stopping proxy closes a connection. Peers that have heard of the stop (the
endpoint is gone) have closed theirs by then.
"""


class Proxy:
    """One proxy process. `run` starts it and returns when it has stopped."""

    def __init__(self, bootstrap: Bootstrap, control: Upstream, sign: Signer | None) -> None:
        self.bootstrap = bootstrap
        self.control = control
        self.sign = sign
        self.secrets = Secrets()
        self.metrics = Metrics(bootstrap.workload, lambda: self.secrets.uri)
        claim = peers.claim(bootstrap.node_id, bootstrap.metadata)
        self.runtime = Runtime(self.secrets, self._http_records, self._tcp_records, claim)
        self.access_logs = AccessLogs(self.runtime.clusters, bootstrap.node())
        self.subscription = Subscription(self.runtime)
        self.admin = Admin(self)
        self.stopping = asyncio.Event()
        self.runtime.on_change.append(self.metrics.forget)

    def _http_records(self, spec: HttpSpec) -> Sequence[Callable[[Exchange], None]]:
        """Who hears of a chain's finished requests: counters, and the access logs it names."""
        count = self.metrics.inbound if spec.direction == "INBOUND" else self.metrics.outbound
        return [count, *(self.access_logs.sink(log_spec) for log_spec in spec.access_logs)]

    def _tcp_records(self, spec: TcpSpec) -> Sequence[Callable[[ClientConnection], None]]:
        """The same for finished TCP connections."""
        return [self.access_logs.tcp_sink(log_spec) for log_spec in spec.access_logs]

    @property
    def ready(self) -> bool:
        """Configuration has come and all of its listeners serve."""
        return (
            self.subscription.complete and not self.runtime.warming_listeners and not self.stopping.is_set()
        )

    async def run(self) -> None:
        """Serve until `stopping` is set, then let requests under way end."""
        tasks = [asyncio.create_task(keep_subscribed(self.control, self.bootstrap.node(), self.subscription))]
        if self.sign is not None:
            tasks.append(asyncio.create_task(keep_renewed(self.secrets, self.sign)))
        await self.admin.start()
        try:
            await self.stopping.wait()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.access_logs.close()
            self.runtime.close()
            await self.admin.stop()

    async def _drain(self) -> None:
        """Stop accepting; wait for open requests, but not for ever."""
        listeners = list(self.runtime.listeners.values())
        for listener in listeners:
            listener.close()
        deadline = asyncio.get_running_loop().time() + self.bootstrap.drain_seconds
        while any(listener.connections for listener in listeners):
            for listener in listeners:
                listener.sweep(_STOPPING_IDLE)
            if asyncio.get_running_loop().time() > deadline:
                log.warning("stopping with requests under way after %.0f s", self.bootstrap.drain_seconds)
                return
            await asyncio.sleep(0.02)


async def serve(bootstrap: Bootstrap) -> None:
    """Run the proxy of this pod until it is told to stop (SIGTERM, SIGINT)."""
    control = Upstream(
        bootstrap.control_address, bootstrap.xds_name, bootstrap.root_certificate, bootstrap.token
    )
    ca = Upstream(bootstrap.ca_address, bootstrap.ca_name, bootstrap.root_certificate, bootstrap.token)
    proxy = Proxy(bootstrap, control, CaClient(ca, bootstrap.certificate_seconds))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, proxy.stopping.set)
    log.info("%s starts", bootstrap.node_id)
    await proxy.run()


def calm_collector() -> None:
    """Look for garbage in cycles less often: a request makes none, and what configuration made stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run(bootstrap: Bootstrap) -> None:
    """Run on uvloop where there is one."""
    calm_collector()
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(serve(bootstrap))
        return
    uvloop.run(serve(bootstrap))
