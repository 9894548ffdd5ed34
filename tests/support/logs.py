"""A receiver of access logs: Envoy's access log service, keeping what it hears."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from envoy.service.accesslog.v3 import als_pb2, als_pb2_grpc


class LogServer(als_pb2_grpc.AccessLogServiceServicer):
    """Collects entries by log name."""

    def __init__(self) -> None:
        self.http: list[tuple[str, Any]] = []
        self.tcp: list[tuple[str, Any]] = []
        self.nodes: list[Any] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self._changed = asyncio.Condition()

    async def start(self, port: int = 0) -> LogServer:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        als_pb2_grpc.add_AccessLogServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        return self

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    async def entries(self, count: int, seconds: float = 10.0) -> list[tuple[str, Any]]:
        """Wait for `count` HTTP entries."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.http) >= count)
        return self.http

    async def tcp_entries(self, count: int, seconds: float = 10.0) -> list[tuple[str, Any]]:
        """Wait for `count` TCP entries."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: len(self.tcp) >= count)
        return self.tcp

    async def StreamAccessLogs(self, requests: Any, context: Any) -> Any:
        name = ""
        async for message in requests:
            if message.HasField("identifier"):
                name = message.identifier.log_name
                self.nodes.append(message.identifier.node)
            async with self._changed:
                self.http += [(name, entry) for entry in message.http_logs.log_entry]
                self.tcp += [(name, entry) for entry in message.tcp_logs.log_entry]
                self._changed.notify_all()
        return als_pb2.StreamAccessLogsResponse()
