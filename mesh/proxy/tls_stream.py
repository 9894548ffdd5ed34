"""TLS between a connection and the protocol that reads it: bytes in the open on one side, records on the other.

`listener` and `pool` put it in between where a connection speaks TLS; `codec`, `pool` and `tcp` then see a transport
like any other. OpenSSL does the work on two memory buffers (`ssl.MemoryBIO`), this moves the bytes. uvloop could do
the same; asking OpenSSL only when there is something to read saves the exception by which it says that there is
nothing, twice a request and hop (some 6 µs each, measured).
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mesh.proxy.tls import UpstreamTls

HANDSHAKE_SECONDS = 15.0
"""Time for the handshake (Envoy's `transport_socket_connect_timeout` has the same default)."""
READ_SIZE = 16 * 1024
"""Bytes asked for at once: a record holds no more (RFC 8446, section 5.1), and more would be allocated for nothing."""


async def open_connection(
    inner: asyncio.Protocol,
    address: tuple[str, int],
    tls: UpstreamTls | None,
    source: tuple[str, int] | None = None,
    first: bytes = b"",
) -> None:
    """Connect `inner` to an endpoint, with TLS where it speaks that, from `source` (None: the system's choice).
    `first` goes out before all else, before TLS too.

    Raises OSError (`ssl.SSLError` is one), SecretMissing.
    """
    loop = asyncio.get_running_loop()
    if tls is None:
        transport, _ = await loop.create_connection(lambda: inner, *address, local_addr=source)
        if first:
            transport.write(first)
        return
    stream = TlsStream(inner, tls.context(), server=False, server_name=tls.sni or None, first=first)
    await loop.create_connection(lambda: stream, *address, local_addr=source)
    try:
        await stream.established
    except BaseException:
        stream.abort()
        raise


class TlsStream(asyncio.Protocol, asyncio.Transport):
    """The protocol of a connection's real transport, and the transport of `inner`, the protocol it carries.

    `established` is done when the handshake is; it has the exception if the handshake failed. `inner` hears of the
    connection only then.
    """

    __slots__ = (
        "_closing",
        "_first",
        "_incoming",
        "_outgoing",
        "_raw",
        "_timer",
        "_tls",
        "established",
        "inner",
        "is_open",
    )

    def __init__(
        self,
        inner: asyncio.Protocol,
        context: ssl.SSLContext,
        server: bool,
        server_name: str | None = None,
        first: bytes = b"",
    ) -> None:
        self.inner = inner
        self.is_open = False
        self._closing = False
        self._first = first
        self._raw = cast(asyncio.Transport, None)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=server_name
        )
        loop = asyncio.get_running_loop()
        self.established: asyncio.Future[None] = loop.create_future()
        self._timer = loop.call_later(HANDSHAKE_SECONDS, self._too_slow)

    # -- the side of the records --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        if self._first:
            self._raw.write(self._first)
        self._handshake()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self.is_open:
            self._read()
        else:
            self._handshake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._closing = True
        if self.is_open:
            self.is_open = False
            self.inner.connection_lost(exc)
        elif not self.established.done():
            self._fail(exc or ConnectionResetError("connection closed during the TLS handshake"))

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, OSError) as error:
            self._flush()  # the alert that tells the other side why
            self._fail(error)
            self._raw.close()
            return
        self._flush()
        self._timer.cancel()
        self.is_open = True
        self.inner.connection_made(self)
        if not self.established.done():
            self.established.set_result(None)
        if self._incoming.pending:
            self._read()

    def _read(self) -> None:
        tls, incoming = self._tls, self._incoming
        try:
            # Records that have come whole are read; a part of one stays with OpenSSL until the rest comes.
            while incoming.pending and not self._closing:
                data = tls.read(READ_SIZE)
                if not data:  # the other side says that it is done (close_notify)
                    self.close()
                    return
                self.inner.data_received(data)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, OSError):
            self._flush()
            self.abort()
            return
        if self._outgoing.pending:  # answers of the protocol itself, such as a key update
            self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _fail(self, error: BaseException) -> None:
        self._timer.cancel()
        if not self.established.done():
            self.established.set_exception(error)
            self.established.exception()  # looked at: nobody has to wait for it

    def _too_slow(self) -> None:
        self._fail(TimeoutError("TLS handshake timed out"))
        self._raw.abort()

    # -- the side of the protocol that is carried: a transport --------------------------------------------

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        self._tls.write(data)
        self._raw.write(self._outgoing.read())

    def close(self) -> None:
        """Say that we are done (close_notify), and close when all is sent."""
        if self._closing:
            return
        self._closing = True
        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError):
            pass  # the other side has not said the same yet, and need not
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._closing or self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()
