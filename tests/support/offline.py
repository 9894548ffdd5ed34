"""A client connection without a network: bytes in, what the proxy would send, and what it logged as broken.

Every request is answered by the route itself, so nothing waits.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from mesh.proxy.actions import Direct
from mesh.proxy.codec import ServerConnection
from mesh.proxy.hcm import HttpChain, HttpSpec, Settings
from mesh.proxy.headers import HeaderEdits
from mesh.proxy.routes import Path, Route, RouteTable, VirtualHost


class FakeTransport:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)


class _Problems(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def converse(*pieces: bytes, settings: Settings | None = None) -> tuple[bytes, list[str]]:
    """Feed the pieces to a fresh connection."""
    return asyncio.run(_converse(pieces, settings or Settings(accept_http10=True)))


async def _converse(pieces: tuple[bytes, ...], settings: Settings) -> tuple[bytes, list[str]]:
    route = Route("all", Path("prefix", b""), (), Direct(200, b"fine"), HeaderEdits())
    table = RouteTable("table", [VirtualHost("all", [b"*"], [route])])
    chain = HttpChain(HttpSpec("test", settings, ()), {}, table)
    connection, transport, problems = ServerConnection(chain), FakeTransport(), _Problems()
    logger = logging.getLogger("mesh.proxy.codec")
    logger.addHandler(problems)
    try:
        connection.connection_made(cast(asyncio.BaseTransport, transport))
        for piece in pieces:
            if piece:
                connection.data_received(piece)
        connection.connection_lost(None)
    finally:
        logger.removeHandler(problems)
    return transport.sent, problems.found
