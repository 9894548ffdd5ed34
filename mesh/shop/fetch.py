"""A small HTTP/1.1 client on httptools: keep-alive to one address, through a proxy if need be. GET only.

Like http.py it is as lean as a load generator and four services on two cores ask for.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools

LARGEST_BODY = 16 * 1024 * 1024
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; Python knows the name from 3.12 on


class NoConnection(ConnectionError):
    """Nobody could be reached: no such name, refused, no route."""


@dataclass(slots=True)
class Answer:
    """A whole answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection to a server; carries one exchange at a time."""

    def __init__(self, on_lost: "Callable[[Connection], None]") -> None:
        self._on_lost = on_lost
        self.usable = False
        self.heard = False  # whether a byte of the current answer has come
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._on_lost(self)
        answer = self._answer
        if answer is None or answer.done():
            return
        if self._until_close and exc is None:
            self._complete()
        else:
            answer.set_exception(ConnectionResetError(f"the connection broke: {exc or 'closed by the peer'}"))

    def exchange(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future brings the answer, or ConnectionError."""
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._until_close = False
        self.heard = False
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """Close now, whatever is under way."""
        self.usable = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._answer.done():
                self._answer.set_exception(ConnectionError(f"this is no HTTP answer: {error}"))
            self.close()

    # -- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        framed = "content-length" in self._headers or "transfer-encoding" in self._headers
        self._until_close = not framed and self._parser.get_status_code() not in (204, 304)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > LARGEST_BODY:
            raise httptools.HttpParserError("the body is too large")
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # an interim answer; the real one follows
            self._headers.clear()
            return
        if not self._parser.should_keep_alive():
            self.usable = False
            self._transport.close()
        self._complete()

    def _complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            status = self._parser.get_status_code()
            self._answer.set_result(Answer(status, self._headers, b"".join(self._body)))


class Pool:
    """Connections to the server of one URL, or to the proxy on the way to it."""

    def __init__(self, base_url: str, proxy: str | None = None) -> None:
        parts = urlsplit(base_url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        # To a proxy, a request names the whole URL (absolute-form, RFC 9112 section 3.2.2).
        self._prefix = f"http://{self._authority}" if proxy and not self._tls else ""
        if self._prefix:
            through = urlsplit(proxy or "")
            self._host, self._port = through.hostname or "", through.port or 80
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()

    async def get(self, target: str, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """GET a path (with its query). Raises TimeoutError, NoConnection, or ConnectionError when the
        connection broke before the answer was whole. What broke before its first byte came, on a connection
        that had idled, is asked again: the server had closed it meanwhile.
        """
        lines = [f"GET {self._prefix}{target} HTTP/1.1\r\n"]
        if "host" not in headers:
            lines.append(f"host: {self._authority}\r\n")
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        lines.append("\r\n")
        request = "".join(lines).encode("latin-1", "replace")
        async with asyncio.timeout(timeout_s):
            while True:
                connection = self._take()
                reused = connection is not None
                if connection is None:
                    connection = await self._connect()
                try:
                    answer = await connection.exchange(request)
                except ConnectionError:
                    if not reused or connection.heard:
                        raise
                    continue
                except asyncio.CancelledError:
                    connection.close()
                    raise
                if connection.usable:
                    self._idle.append(connection)
                return answer

    async def close(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            connection.close()

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            address = await self._resolve()
            made = socket_from_pod(address)
            try:
                await _connected(made, address[4])
                _, connection = await loop.create_connection(
                    lambda: Connection(self._all.discard),
                    sock=made,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
            except BaseException:
                made.close()
                raise
        except OSError as error:
            raise NoConnection(f"no connection to {self._host}:{self._port}: {error}") from error
        self._all.add(connection)
        return connection

    async def _resolve(self) -> tuple[Any, ...]:
        """The first address of the host, by Python's own `socket.getaddrinfo`.

        The embedded cluster has no DNS server: it teaches exactly that function the cluster's names, and an
        event loop's resolver (uvloop's) would pass it by. On a real cluster it is the system's as always.
        """
        with contextlib.suppress(OSError):  # an address needs no looking up, and no thread for it
            socket.inet_pton(socket.AF_INET, self._host)
            return socket.AF_INET, socket.SOCK_STREAM, 0, "", (self._host, self._port)
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            None, socket.getaddrinfo, self._host, self._port, socket.AF_INET, socket.SOCK_STREAM
        )
        return found[0]


async def _connected(made: socket.socket, address: Any) -> None:
    """Wait until a socket is connected; the loop's own `sock_connect` would start threads to look the
    address up (uvloop). Raises OSError.
    """
    code = made.connect_ex(address)
    if code == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(made, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(made)
        code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def socket_from_pod(info: tuple[Any, ...]) -> socket.socket:
    """A socket that calls from this pod's own address.

    Pods of the embedded cluster share one loopback device, where the kernel would pick 127.0.0.1 for all of
    them; whoever is called could not tell who calls. On a real cluster a pod has an address of its own.
    """
    family, kind, proto, _, address = info
    made = socket.socket(family, kind, proto)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own = os.environ.get("LAB_BIND_ADDRESS", "")
    if own.startswith("127.") and str(address[0]).startswith("127."):
        if sys.platform == "linux":  # take the port only when connecting: then one port serves many targets
            made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        with contextlib.suppress(OSError):  # not our address on this host: call as the kernel likes
            made.bind((own, 0))
    return made
