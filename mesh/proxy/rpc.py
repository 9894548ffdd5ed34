"""gRPC from the client's side: an HTTP/2 stream a call, each message behind five bytes that tell its length.

What xDS, the CA and the access log service are spoken in. HTTP/2 itself (frames, header compression, flow
control) is `h2`'s; this file is the little that gRPC adds. Not grpcio: it starts eight threads and takes 5 MB in
every sidecar, for three calls that are mostly silent.

Source: "gRPC over HTTP2" (grpc/grpc, doc/PROTOCOL-HTTP2.md); RFC 9113.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import cast
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

WINDOW = 1 << 20
"""Bytes the server may send ahead of our reading, for each stream and for the connection."""
LARGEST = 64 << 20
"""Bytes of one message at most."""
KEEPALIVE = 30.0
"""Seconds of silence after which the server is asked whether it is there..."""
KEEPALIVE_ANSWER = 10.0
"""...and within which it must answer."""

STATUS = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""gRPC's status codes by number (grpc/grpc, doc/statuscodes.md)."""
_PREFIX = struct.Struct(">?I")


class RpcError(Exception):
    """A call failed. `code` is gRPC's name for how (`UNAVAILABLE`, ...), `details` the server's sentence or ours."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


async def connect(
    host: str, port: int, tls: ssl.SSLContext | None = None, server_name: str = "", seconds: float = 10.0
) -> Channel:
    """Open a connection. Raises OSError (TimeoutError and ssl.SSLError among them)."""
    loop = asyncio.get_running_loop()
    channel = Channel(server_name or f"{host}:{port}", "https" if tls else "http")
    async with asyncio.timeout(seconds):
        await loop.create_connection(
            lambda: channel, host, port, ssl=tls, server_hostname=server_name if tls else None
        )
    return channel


def client_tls(root: str) -> ssl.SSLContext:
    """TLS that trusts `root` (PEM) and speaks HTTP/2. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=root)
    context.set_alpn_protocols(["h2"])
    return context


class Channel(asyncio.Protocol):
    """One HTTP/2 connection to a server, for any number of calls. Close it after use."""

    def __init__(self, authority: str, scheme: str) -> None:
        self._authority = authority
        self._scheme = scheme
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._transport = cast(asyncio.Transport, None)
        self._calls: dict[int, Call] = {}
        self._broken: RpcError | None = None
        self._writable = asyncio.Event()
        self._asked: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def call(self, path: str, metadata: Sequence[tuple[str, str]] = ()) -> Call:
        """Begin the call of a method, such as `/package.Service/Method`. Raises RpcError."""
        if self._broken is not None:
            raise self._broken
        number = self._h2.get_next_available_stream_id()
        head = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":path", path),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self._h2.send_headers(number, head)
        self._flush()
        call = self._calls[number] = Call(self, number)
        return call

    def close(self) -> None:
        """Say goodbye and close; calls still open fail."""
        if self._broken is None:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.close_connection()
            self._flush()
        self._fail(RpcError("CANCELLED", "the channel was closed"))
        self._transport.close()

    # -- bytes --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        self._h2.increment_flow_control_window(WINDOW)
        self._writable.set()
        self._flush()
        self._expect(KEEPALIVE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RpcError("UNAVAILABLE", str(exc) if exc else "the server closed the connection"))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            if data.startswith(b"HTTP/"):  # h2 would wait for the end of a frame of five megabytes
                raise h2.exceptions.ProtocolError("an answer in HTTP/1")
            for event in self._h2.receive_data(data):
                self._take(event)
        except h2.exceptions.ProtocolError as error:
            self._fail(RpcError("INTERNAL", f"the server does not speak HTTP/2: {error}"))
            self._flush()
            self._transport.close()
            return
        self._flush()
        self._expect(KEEPALIVE)

    def _take(self, event: h2.events.Event) -> None:
        """One event of the connection, to the call it concerns."""
        if isinstance(event, h2.events.ConnectionTerminated):
            self._fail(RpcError("UNAVAILABLE", "the server is going away"))
        elif isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            for each in self._calls.values():
                each.wake()
        elif (call := self._calls.get(getattr(event, "stream_id", None) or 0)) is None:
            if isinstance(event, h2.events.DataReceived):  # of a call we gave up
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            call.headers({str(name): str(value) for name, value in event.headers})
        elif isinstance(event, h2.events.DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            call.data(event.data)
        elif isinstance(event, h2.events.StreamReset):
            call.end(RpcError("UNAVAILABLE", f"the server reset the stream ({event.error_code})"))
        elif isinstance(event, h2.events.StreamEnded):
            call.end(RpcError("INTERNAL", "the server ended the stream without a status"))

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _fail(self, error: RpcError) -> None:
        """The connection is of no use any more."""
        if self._broken is None:
            self._broken = error
        if self._asked is not None:
            self._asked.cancel()
        self._writable.set()
        for call in list(self._calls.values()):
            call.end(error)

    # -- is the server still there? -----------------------------------------------------------------------------

    def _expect(self, seconds: float) -> None:
        if self._asked is not None:
            self._asked.cancel()
        self._asked = asyncio.get_running_loop().call_later(seconds, self._ask)

    def _ask(self) -> None:
        self._h2.ping(b"are you?")
        self._flush()
        self._asked = asyncio.get_running_loop().call_later(KEEPALIVE_ANSWER, self._give_up)

    def _give_up(self) -> None:
        self._fail(RpcError("UNAVAILABLE", f"no sign of the server for {KEEPALIVE + KEEPALIVE_ANSWER:.0f} s"))
        self._transport.abort()

    # -- what calls need ----------------------------------------------------------------------------------------

    def room(self, number: int) -> int:
        """Bytes that may be sent on a stream now."""
        return min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)

    async def send(self, number: int, data: bytes, end: bool = False) -> None:
        """Send a piece that fits into `room`."""
        await self._writable.wait()
        self._h2.send_data(number, data, end_stream=end)
        self._flush()

    def forget(self, number: int, cancel: bool) -> None:
        """A call is over; `cancel` tells the server so."""
        if self._calls.pop(number, None) is not None and cancel and self._broken is None:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            self._flush()


class Call:
    """One call: write messages, read messages, in any order. Both ends stream."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._bytes = bytearray()
        self._messages: deque[bytes] = deque()
        self._error: RpcError | None = None
        self._news = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether the server has ended the call, well or badly."""
        return self._error is not None

    async def write(self, message: bytes) -> None:
        """Send a message; waits for room in the connection. Raises RpcError."""
        data = _PREFIX.pack(False, len(message)) + message
        while data:
            if self._error is not None:
                raise self._error
            room = self._channel.room(self._number)
            if room <= 0:
                self._news.clear()
                await self._news.wait()
                continue
            piece, data = data[:room], data[room:]
            await self._channel.send(self._number, piece)

    async def done_writing(self) -> None:
        """No more messages from us."""
        if self._error is None:
            await self._channel.send(self._number, b"", end=True)

    async def read(self) -> bytes | None:
        """The next message; None when the server has ended the call with OK. Raises RpcError otherwise."""
        while not self._messages:
            if self._error is not None:
                if self._error.code == "OK":
                    return None
                raise self._error
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()

    async def ask(self, message: bytes) -> bytes:
        """A call with one message and one answer. Raises RpcError."""
        await self.write(message)
        await self.done_writing()
        answer = await self.read()
        if answer is None:
            raise RpcError("INTERNAL", "the server answered without a message")
        return answer

    def cancel(self) -> None:
        """We want no more of it."""
        self.end(RpcError("CANCELLED", "cancelled here"), cancel=True)

    # -- what the channel tells ---------------------------------------------------------------------------------

    def headers(self, found: dict[str, str]) -> None:
        """Response headers, or the trailers with gRPC's status (both at once when there is no message)."""
        if "grpc-status" in found:
            number = found["grpc-status"]
            known = number.isdigit() and int(number) < len(STATUS)
            code = STATUS[int(number)] if known else "UNKNOWN"
            self.end(RpcError(code, unquote(found.get("grpc-message", ""))))
        elif found.get(":status", "200") != "200":
            self.end(RpcError("UNAVAILABLE", f"HTTP {found[':status']} instead of gRPC"), cancel=True)

    def data(self, data: bytes) -> None:
        """Bytes of messages, cut anywhere."""
        self._bytes += data
        while len(self._bytes) >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(self._bytes)
            if compressed or length > LARGEST:
                reason = "compressed" if compressed else f"of {length} bytes"
                self.end(RpcError("INTERNAL", f"the server sent a message {reason}"), cancel=True)
                return
            if len(self._bytes) < _PREFIX.size + length:
                return
            self._messages.append(bytes(self._bytes[_PREFIX.size : _PREFIX.size + length]))
            del self._bytes[: _PREFIX.size + length]
            self._news.set()

    def end(self, error: RpcError, cancel: bool = False) -> None:
        """The call is over, for this reason; the first one counts. (An OK is an "error" with code OK.)"""
        if self._error is None:
            self._error = error
        self._channel.forget(self._number, cancel)
        self._news.set()

    def wake(self) -> None:
        """There may be room to write now."""
        self._news.set()
