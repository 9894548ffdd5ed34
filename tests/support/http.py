"""A client that says exactly what a test wants said, and reads answers strictly."""

from __future__ import annotations

import asyncio
from typing import Any


class Answer:
    """One parsed answer."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)

    def json(self) -> Any:
        import json

        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "test",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Ask and wait for the answer."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """Read one answer; raises EOFError (IncompleteReadError) when it is cut short."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
        headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2])
        ]
        found = dict(headers)
        if status < 200 or status in (204, 304) or method == "HEAD":
            body = b""
        elif found.get("transfer-encoding") == "chunked":
            body = await self._chunked()
        elif "content-length" in found:
            body = await self.reader.readexactly(int(found["content-length"]))
        else:
            body = await self.reader.read()
        return Answer(status, headers, body)

    async def _chunked(self) -> bytes:
        parts = []
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            data = await self.reader.readexactly(size + 2)
            if size == 0:
                return b"".join(parts)
            parts.append(data[:-2])

    async def closed(self, seconds: float = 5.0) -> bytes:
        """Wait until the other side closes; what came before."""
        async with asyncio.timeout(seconds):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()


async def connect(host: str, port: int, ssl: Any = None, server_hostname: str | None = None) -> Client:
    reader, writer = await asyncio.open_connection(host, port, ssl=ssl, server_hostname=server_hostname)
    return Client(reader, writer)
