"""Who asks: keep-alive connections, either as fast as answers come or at a fixed rate.

`python -m mesh.bench.load DIRECTORY CASE HOST PORT CONNECTIONS SECONDS RATE` prints one JSON object. With a rate
(requests a second, 0: none) a request is due at its time whether the one before it is answered or not (open
loop), and latency counts from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from time import perf_counter
from typing import Any

from mesh.bench.certificates import context
from mesh.bench.loop import run

REQUEST = (
    b"GET /reviews/0 HTTP/1.1\r\nhost: reviews.default.svc.cluster.local:9080\r\n"
    b"user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\naccept: application/json\r\n"
    b"accept-encoding: gzip, deflate\r\nx-request-id: 0f0e0d0c-0b0a-4908-8706-050403020100\r\n"
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ncookie: session=abc; user=x\r\n\r\n"
)


class _Client(asyncio.Protocol):
    """One connection. Answers have a content-length; nothing more of them is looked at than their end."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due: deque[float] = deque()
        self._since = 0.0
        self._missing = 0
        self._head = b""
        self.busy = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, due: float) -> None:
        """Send a request, or queue it behind the one under way."""
        if self.busy:
            self._due.append(due)
            return
        self.busy = True
        self._since = due
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            if data[9:12] != b"200":
                self._load.failed += 1
            start = data.index(b"content-length: ") + 16
            length = int(data[start : data.index(b"\r", start)])
            self._missing = end + 4 + length - len(data)
        if self._missing == 0:
            self._answered()

    def _answered(self) -> None:
        self._load.latencies.append(perf_counter() - self._since)
        self.busy = False
        if self._due:
            self.ask(self._due.popleft())
        elif not self._load.paced and not self._load.over:
            self.ask(perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.over:
            self._load.failed += 1


class Load:
    """One run."""

    def __init__(self, paced: bool) -> None:
        self.paced = paced
        self.over = False
        self.failed = 0
        self.latencies: list[float] = []


async def measure(
    directory: Path, case: str, address: tuple[str, int], connections: int, seconds: float, rate: float
) -> dict[str, float]:
    """Ask for `seconds`. Returns requests a second, failures, and latency percentiles in milliseconds."""
    loop = asyncio.get_running_loop()
    load = Load(rate > 0)
    tls = context(directory, server=False) if case == "mtls" else None
    clients = [
        (await loop.create_connection(lambda: _Client(load), *address, ssl=tls))[1]
        for _ in range(connections)
    ]
    began = perf_counter()
    if rate > 0:
        await _pace(clients, began, seconds, rate)
    else:
        for client in clients:
            client.ask(perf_counter())
        await asyncio.sleep(seconds)
    elapsed = perf_counter() - began
    load.over = True
    done = len(load.latencies)
    ordered = sorted(load.latencies) or [float("nan")]
    for client in clients:
        client.transport.close()
    return {
        "requests": done,
        "failed": load.failed,
        "rps": done / elapsed,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


async def _pace(clients: list[_Client], began: float, seconds: float, rate: float) -> None:
    """Requests at even distances, one connection after the other."""
    total = int(seconds * rate)
    for number in range(total):
        due = began + number / rate
        while (ahead := due - perf_counter()) > 0:
            await asyncio.sleep(ahead)
        clients[number % len(clients)].ask(due)
    while any(client.busy for client in clients) and perf_counter() < began + seconds + 5:
        await asyncio.sleep(0.01)


async def main(arguments: list[str]) -> None:
    directory, case, host, port, connections, seconds, rate = arguments
    found = await measure(
        Path(directory), case, (host, int(port)), int(connections), float(seconds), float(rate)
    )
    print(json.dumps(found))


if __name__ == "__main__":
    run(main(sys.argv[1:]))
