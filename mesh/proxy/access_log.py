"""Access logs: every finished request becomes an entry, entries go in batches to the access log service.

The path of a request only puts its exchange into a list; entries are made and sent by a timer
(`buffer_flush_interval`). When the service is away the list is bounded and what does not fit is counted, so a
dead telemetry never slows a request. Protocol: Envoy's ALS v3 over gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2
from envoy.service.accesslog.v3 import als_pb2

from mesh.proxy import rpc
from mesh.proxy.hcm import AccessLogSpec
from mesh.proxy.log_entry import add_http_entries, tcp_entry
from mesh.proxy.rpc import RpcError

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.tcp import ClientConnection

log = logging.getLogger(__name__)

HELD = 16_384
"""Requests kept for the log at most while the service cannot take them."""
BATCH = 512
"""Entries in one message at most."""
RETRY = 1.0
"""Seconds before the service is tried again."""
ALS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"


MakeMessage = Callable[[Sequence[Any], AccessLogSpec], als_pb2.StreamAccessLogsMessage]


def _http_message(batch: Sequence[Exchange], spec: AccessLogSpec) -> als_pb2.StreamAccessLogsMessage:
    message = als_pb2.StreamAccessLogsMessage()
    add_http_entries(message, batch, spec.headers)
    return message


def _tcp_message(batch: Sequence[ClientConnection], spec: AccessLogSpec) -> als_pb2.StreamAccessLogsMessage:
    message = als_pb2.StreamAccessLogsMessage()
    message.tcp_logs.log_entry.extend([tcp_entry(connection) for connection in batch])
    return message


class AccessLogs:
    """All access logs of this proxy, one stream each."""

    def __init__(self, clusters: Mapping[str, Cluster], node: base_pb2.Node) -> None:
        self._clusters = clusters
        self._node = node
        self._streams: dict[tuple[str, str, str], LogStream] = {}

    def sink(self, spec: AccessLogSpec) -> Callable[[Exchange], None]:
        """Where a chain's finished requests go."""
        return self._stream(spec, _http_message).add

    def tcp_sink(self, spec: AccessLogSpec) -> Callable[[ClientConnection], None]:
        """Where a chain's finished connections go."""
        return self._stream(spec, _tcp_message).add

    def _stream(self, spec: AccessLogSpec, message: MakeMessage) -> LogStream:
        key = (spec.cluster, spec.log_name, message.__name__)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = LogStream(spec, self._clusters, self._node, message)
        stream.spec = spec
        return stream

    @property
    def streams(self) -> list[LogStream]:
        return list(self._streams.values())

    async def close(self) -> None:
        """Send what is left, if that works at once, and end."""
        for stream in self._streams.values():
            await stream.close()


class LogStream:
    """The stream of one named log to one service."""

    def __init__(
        self, spec: AccessLogSpec, clusters: Mapping[str, Cluster], node: base_pb2.Node, message: MakeMessage
    ) -> None:
        self.name = spec.log_name
        self.cluster = spec.cluster
        self.spec = spec
        self.sent = 0
        self.dropped = 0
        self._clusters = clusters
        self._node = node
        self._message = message
        self._waiting: list[Any] = []
        self._task: asyncio.Task[None] | None = None
        self._channel: rpc.Channel | None = None
        self._call: rpc.Call | None = None

    def add(self, finished: Exchange | ClientConnection) -> None:
        """A request, or a connection, is finished."""
        if len(self._waiting) >= HELD:
            self.dropped += 1
            return
        self._waiting.append(finished)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Send while there is something to send."""
        try:
            while self._waiting:
                await asyncio.sleep(self.spec.flush_interval)
                try:
                    await self._flush()
                except (RpcError, OSError) as error:
                    log.info("access log %s: %s cannot be reached: %s", self.name, self.cluster, error)
                    self._disconnect()
                    await asyncio.sleep(RETRY)
        finally:
            self._task = None

    async def _flush(self) -> None:
        """Send all that waits. Raises RpcError, OSError; what could not be sent stays."""
        if self._call is not None and self._call.over:
            self._disconnect()
        while self._waiting:
            batch = self._waiting[:BATCH]
            message = self._message(batch, self.spec)
            call = self._call
            if call is None:
                call = await self._connect()
                message.identifier.node.CopyFrom(self._node)
                message.identifier.log_name = self.name
            await call.write(message.SerializeToString())
            del self._waiting[: len(batch)]
            self.sent += len(batch)

    async def _connect(self) -> rpc.Call:
        """Open the stream to an endpoint of the cluster. Raises OSError if it has none, RpcError."""
        cluster = self._clusters.get(self.cluster)
        endpoint = cluster.pick() if cluster is not None else None
        if endpoint is None:
            raise OSError(f"cluster {self.cluster} has no endpoint")
        self._channel = await rpc.connect(*endpoint.address)
        self._call = self._channel.call(ALS)
        return self._call

    def _disconnect(self) -> None:
        self._call = None
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        try:
            async with asyncio.timeout(1.0):
                if self._waiting:
                    await self._flush()
                if self._call is not None:
                    await self._call.done_writing()
        except (RpcError, OSError) as error:
            log.info("access log %s: the last entries are lost: %s", self.name, error)
        self._disconnect()
