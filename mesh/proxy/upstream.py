"""One connection to an endpoint: a request goes out, its answer is parsed as it comes.

A `pool.Pool` owns it and gives it one exchange at a time. HTTP/1.1 by httptools, as strict as on the client's side.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from mesh.proxy import router
from mesh.proxy.reply import Flag
from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.pool import Pool

log = logging.getLogger(__name__)


class UpstreamConnection(asyncio.Protocol):
    """One connection to an endpoint: one request at a time."""

    __slots__ = (
        "_bytes_in",
        "_ended",
        "_interim",
        "_keep",
        "_parser",
        "_read_paused",
        "_reads_to_end",
        "exchange",
        "headers",
        "idle_since",
        "in_pool",
        "opened_at",
        "pool",
        "served",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport = cast(asyncio.Transport, None)
        self.exchange: Exchange | None = None
        self.headers: Headers = []
        self.served = 0
        self.idle_since = 0.0
        self.opened_at = 0.0
        self.in_pool = False
        self._parser = HttpResponseParser(self)
        self._keep = True
        self._ended = False
        self._interim = False
        self._reads_to_end = False
        self._read_paused = False
        self._bytes_in = False

    # -- towards the endpoint -----------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_reading(self) -> None:
        if not self._read_paused and not self.transport.is_closing():
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused and not self.transport.is_closing():
            self._read_paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        self.transport.close()

    def detach(self) -> None:
        """The exchange no longer wants this answer."""
        self._release()
        self.transport.abort()

    # -- from the endpoint --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.transport.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._broken(Flag.UPSTREAM_PROTOCOL_ERROR, "protocol error")
            return
        except HttpParserError as error:
            if not self._ended:
                self._parse_error(error)
                return
            self._keep = False
        if self._ended:
            self._finish()
        elif self.exchange is exchange:
            exchange.flush_head()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.exchange
        if exchange is not None:
            if self._reads_to_end and exc is None:
                self._keep = False
                self._finish()
            elif self._bytes_in:
                self._broken(Flag.UPSTREAM_CLOSED, "connection termination")
            else:
                kind = "reset-before-request" if self.served else "reset"
                self._broken(Flag.UPSTREAM_CLOSED, "connection termination", kind)
        if self.in_pool:
            self.in_pool = False
            self.pool.gone(self)

    def pause_writing(self) -> None:
        """The endpoint reads slower than the client sends: stop reading from the client."""
        if self.exchange is not None:
            self.exchange.conn.pause_reading()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.conn.resume_reading()

    # -- the parser's events, in order --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.headers = []
        self._bytes_in = True
        self._interim = self._reads_to_end = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        status = self._parser.get_status_code()
        if status < 200:
            self._interim = True  # 100 Continue and early hints end here, as in Envoy by default
            return
        if exchange is None or self._ended:
            return
        self._keep = self._parser.should_keep_alive()
        headers, self.headers = self.headers, []
        if exchange.method == b"HEAD":
            self._ended = True
        exchange.endpoint.note_status(status)  # type: ignore[union-attr]
        if not router.response_head(exchange, status, headers):
            return
        # Without a length the answer goes on until the connection closes (RFC 9112, section 6.3).
        self._reads_to_end = not (self._ended or exchange.response_ends or status == 204 or status == 304)
        if exchange.conn.write_paused:
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None and not self._ended:
            self.exchange.response_body(body)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._ended = True

    # -- the end of an answer -----------------------------------------------------------------------------

    def _finish(self) -> None:
        """The answer is complete: this connection may serve another request."""
        exchange = self.exchange
        if exchange is None:
            return
        self._release()
        self.resume_reading()
        if exchange.method == b"HEAD":
            self._parser = HttpResponseParser(self)  # it still waits for the body that HEAD never has
        self.served += 1
        if self._keep and exchange.complete and not self._worn():
            self._ended = self._bytes_in = False
            self.pool.ready(self)
        else:
            self.transport.close()
        router.response_end(exchange)

    def _worn(self) -> bool:
        """Whether this connection has served enough: by number, by age, or because it speaks for one client."""
        spec = self.pool.cluster.spec
        if spec.max_requests_per_connection and self.served >= spec.max_requests_per_connection:
            return True
        age = spec.max_connection_seconds
        return bool(spec.proxy_protocol) or (
            age > 0 and asyncio.get_running_loop().time() - self.opened_at >= age
        )

    def _release(self) -> None:
        if self.exchange is not None:
            self.exchange = None
            self.pool.cluster.breaker.requests -= 1
            self.pool.endpoint.active -= 1

    def _parse_error(self, error: Exception) -> None:
        if isinstance(error, HttpParserCallbackError):
            cause = error.__context__ or error
            log.error("an answer from %s broke the proxy", self.pool.endpoint.address, exc_info=cause)
        self._broken(Flag.UPSTREAM_PROTOCOL_ERROR, "protocol error")

    def _broken(self, flag: str, reason: str, kind: str = "reset") -> None:
        exchange = self.exchange
        self._release()
        self.transport.abort()
        if exchange is not None:
            self.pool.endpoint.note_failure()
            router.failed(exchange, flag, kind, reason)
