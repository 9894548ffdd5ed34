"""Who answers: the cheapest HTTP/1.1 server that Python has, so that the proxy is what is measured.

`python -m mesh.bench.upstream DIRECTORY CASE` prints its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from httptools import HttpRequestParser

from mesh.bench.certificates import context
from mesh.bench.loop import run

BODY = b'{"id": 0, "reviews": [{"reviewer": "Reviewer1", "text": "An extremely entertaining play"}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: upstream\r\ncontent-type: application/json\r\nx-internal: 1\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class _Upstream(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(ANSWER)


async def serve(directory: Path, case: str) -> None:
    """Serve for ever."""
    tls = context(directory, server=True) if case == "mtls" else None
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", 0, ssl=tls, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    run(serve(Path(sys.argv[1]), sys.argv[2]))
