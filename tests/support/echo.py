"""An upstream that says what it was asked, for tests and the oracle: one asyncio protocol on httptools."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from httptools import HttpRequestParser


class EchoServer:
    """Answers JSON: method, path, headers as they came, body size, its own name.

    Steered by the query: `status`, `delay` (seconds), `size` (bytes instead of JSON), `chunked`, `close`
    (after the answer), `reset` (instead of an answer), `header` (`name:value`).
    """

    def __init__(self, name: str = "echo") -> None:
        self.name = name
        self.requests = 0
        self.connections = 0
        self.open: set[asyncio.Transport] = set()
        self.address = ("", 0)
        self._server: asyncio.AbstractServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0, ssl: Any = None) -> EchoServer:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Echo(self), host, port, ssl=ssl, backlog=1024)
        found = self._server.sockets[0].getsockname()
        self.address = (found[0], found[1])
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for transport in list(self.open):
            transport.abort()


class _Echo(asyncio.Protocol):
    def __init__(self, server: EchoServer) -> None:
        self.server = server
        self.parser = HttpRequestParser(self)
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections += 1
        self.server.open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers: list[tuple[str, str]] = []
        self.size = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.server.requests += 1
        query = {k: v[-1] for k, v in parse_qs(urlsplit(self.url.decode("latin-1")).query).items()}
        method = self.parser.get_method().decode()
        keep = self.parser.should_keep_alive()
        answer = {
            "server": self.server.name,
            "method": method,
            "path": self.url.decode("latin-1"),
            "headers": self.headers,
            "body": self.size,
        }
        delay = float(query.get("delay", "0"))
        if delay:
            asyncio.get_running_loop().call_later(delay, self._answer, answer, query, keep)
        else:
            self._answer(answer, query, keep)

    def _answer(self, answer: dict[str, Any], query: dict[str, str], keep: bool) -> None:
        if self.transport.is_closing():
            return
        if "reset" in query:
            self.transport.abort()
            return
        body = b"x" * int(query["size"]) if "size" in query else json.dumps(answer).encode()
        status = int(query.get("status", "200"))
        lines = [
            f"HTTP/1.1 {status} Whatever",
            "content-type: application/json",
            f"x-upstream: {self.server.name}",
        ]
        if "header" in query:
            lines.append(query["header"].replace(":", ": ", 1))
        bodiless = status in (204, 304)
        if "chunked" in query and not bodiless:
            lines.append("transfer-encoding: chunked")
            half = len(body) // 2
            body = (
                b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:]) if p)
                + b"0\r\n\r\n"
            )
        elif "close" not in query and not bodiless:
            lines.append(f"content-length: {len(body)}")
        if bodiless or answer["method"] == "HEAD":
            body = b""
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        if "close" in query or not keep:
            self.transport.close()
