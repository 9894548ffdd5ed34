"""The client's side of HTTP/1.1: bytes come in, requests go to `Exchange`, answers go out in order.

One `ServerConnection` a connection. httptools (llhttp) parses and is strict: both lengths at once, a folded
line, a bare CR, a space before a colon are refused with 400 and the connection is closed (RFC 9112, sections
5.1, 5.2, 6.1, 11.2), so that nothing can be smuggled to the next hop.

Only one request of a connection is served at a time. Those that a client sends ahead (pipelining) are parsed
but wait, and reading pauses, so they cost at most one read buffer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from mesh.proxy import reply
from mesh.proxy.exchange import Exchange
from mesh.proxy.head import take_head
from mesh.proxy.tls import certificate_header, own_uri, peer_of
from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.hcm import HttpChain
    from mesh.proxy.tls import DownstreamTls, Peer

log = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds for which a closing connection still reads, so that the answer is not lost in a reset
(Envoy's `delayed_close_timeout`)."""


class _Forget(list[tuple[bytes, bytes]]):
    """A list that stays empty."""

    def append(self, pair: tuple[bytes, bytes]) -> None: ...


_TRAILERS = _Forget()
"""Header lines behind a body are trailers, which a hop may drop (RFC 9110, section 6.5.1), as Envoy does."""


class ServerConnection(asyncio.Protocol):
    """One client connection of an HTTP listener."""

    __slots__ = (
        "_feeding",
        "_headers",
        "_long",
        "_parser",
        "_reading",
        "_seen",
        "_tls",
        "closing",
        "current",
        "http",
        "last_active",
        "local",
        "moved",
        "moved_at",
        "own_uri",
        "peer",
        "read_paused",
        "remote",
        "requests",
        "server_name",
        "tls",
        "transport",
        "waiting",
        "write_paused",
        "xfcc",
    )

    def __init__(
        self,
        http: HttpChain,
        tls: DownstreamTls | None = None,
        server_name: str = "",
        meant: tuple[str, int] | None = None,
    ) -> None:
        """`meant` is where a redirected connection was going."""
        self.http = http
        self.transport = cast(asyncio.Transport, None)
        self.tls = tls is not None
        self._tls = tls
        self.peer: Peer | None = None
        self.remote: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = meant or ("", 0)
        self.own_uri = ""
        self.server_name = server_name.encode()
        self.xfcc: bytes | None = None
        self.current: Exchange | None = None
        self.waiting: deque[Exchange] = deque()
        self.closing = False
        self.write_paused = False
        self.read_paused = False
        self.last_active = 0.0
        self.moved: tuple[int, int, int] | None = None
        self.moved_at = 0.0
        self.requests = 0
        self._feeding = False
        self._reading: Exchange | None = None
        self._headers: Headers = _TRAILERS
        self._seen = 0
        self._long = False
        self._parser = HttpRequestParser(self)

    # -- the connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.remote = transport.get_extra_info("peername") or self.remote
        if not self.local[1]:
            self.local = transport.get_extra_info("sockname") or self.local
        self.http.opened(self)
        if self._tls is not None:
            self._check_peer(self._tls)

    def _check_peer(self, tls: DownstreamTls) -> None:
        """The handshake is over: who is it, and may they?"""
        self.peer = peer_of(self.transport)
        self.own_uri = own_uri(self.transport)
        problem = tls.refuse(self.peer)
        if problem is not None:
            log.info("%s: connection of %s refused: %s", self.http.name, self.remote, problem)
            self.closing = True
            self.transport.abort()
        elif self.peer is not None:
            self.xfcc = certificate_header(self.peer, self.own_uri, self.http.settings.certificate_details)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        current, self.current, self._reading = self.current, None, None
        self.waiting.clear()
        if current is not None:
            current.client_gone()
        self.http.closed(self)

    def eof_received(self) -> bool:
        """The client sends no more. As in Envoy that means it has gone: an upstream that is still at work for
        it is let go.
        """
        return False

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self._feeding = True
        self._long = len(data) > self.http.settings.max_head
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except HttpParserError as error:
            self._parse_error(error)
        finally:
            self._feeding = False
        if self._reading is not None:
            self._check_head_size(len(data))
        current = self.current
        if current is not None and current.deferred is not None:
            current.send_deferred()

    def pause_writing(self) -> None:
        """The client reads slower than the upstream sends: stop reading from the upstream."""
        self.write_paused = True
        if self.current is not None:
            self.current.pause_upstream()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.current is not None:
            self.current.resume_upstream()

    # -- the parser's events, in order --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reading = exchange = Exchange(self)
        self._headers = exchange.headers
        self._seen = 0

    def on_url(self, url: bytes) -> None:
        assert self._reading is not None
        self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self._reading
        assert exchange is not None
        self._headers = _TRAILERS
        parser = self._parser
        exchange.method = parser.get_method()
        exchange.keep_alive = parser.should_keep_alive()
        take_head(exchange, parser.get_http_version(), parser.should_upgrade())
        if self._long or self._seen:
            self._check_whole_head(exchange)
        self.requests += 1
        if self.requests == self.http.settings.max_requests:
            exchange.keep_alive = False
        if self.current is None:
            self.current = exchange
            exchange.start()
        else:
            self.waiting.append(exchange)
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        assert self._reading is not None
        self._reading.request_body(body)

    def on_message_complete(self) -> None:
        exchange, self._reading = self._reading, None
        assert exchange is not None
        exchange.request_end()

    # -- what the exchange asks for -----------------------------------------------------------------------

    @property
    def feeding(self) -> bool:
        """Whether more of the request may be in the bytes being parsed right now."""
        return self._feeding

    def pause_reading(self) -> None:
        """Take no more from this client for now: the upstream is slower, or requests are waiting."""
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self.waiting and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def exchange_done(self, reusable: bool) -> None:
        """The answer is out. Serve the next request, or close if this one was the last."""
        self.current = None
        http = self.http
        self.last_active = http.now()
        if not reusable or self.closing:
            self.close()
        elif self.waiting:
            self.current = self.waiting.popleft()
            self.resume_reading()
            self.current.start()
        elif http.draining:
            self.close()
        elif self.read_paused:
            self.resume_reading()

    def close(self) -> None:
        """Close after what is written; read on for a moment when the client may still be sending."""
        self.closing = True
        transport = self.transport
        if transport.is_closing():
            return
        if self._reading is None or self.tls:
            transport.close()
            return
        transport.write_eof()
        self.read_paused = False
        transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER, transport.close)

    # -- errors -------------------------------------------------------------------------------------------

    def _check_head_size(self, size: int) -> None:
        """A head that does not end may not grow for ever."""
        if self._reading is None or self._reading.method:
            return
        self._seen += size
        if self._seen > self.http.settings.max_head:
            self._refuse(431, b"Request Header Fields Too Large")

    def _check_whole_head(self, exchange: Exchange) -> None:
        """The head came in a long read, or in several: count it."""
        size = len(exchange.target) + sum(len(name) + len(value) for name, value in exchange.headers)
        if size > self.http.settings.max_head:
            exchange.refusal = reply.HEADERS_TOO_LARGE

    def _parse_error(self, error: Exception) -> None:
        if isinstance(error, HttpParserCallbackError):
            cause = error.__context__ or error
            log.error("%s: a request from %s broke the proxy", self.http.name, self.remote, exc_info=cause)
            self.transport.abort()
            return
        self._refuse(400, b"Bad Request")

    def _refuse(self, status: int, text: bytes) -> None:
        """Answer bytes that are no request. The parser cannot go on, so neither can the connection."""
        self.closing = True
        self.http.protocol_errors += 1
        current = self.current
        if current is not None and current is not self._reading:
            return  # the answer under way goes out first, then `exchange_done` closes
        if current is not None and current.deferred is not None:
            current.send_deferred()
            return
        if current is not None:
            self.current = None
            current.abandon(reply.Flag.DOWNSTREAM_PROTOCOL_ERROR)
        if current is None or not current.head_sent:
            self.transport.write(reply.bare(status, text, self.http.settings.server_name))
        self.transport.close()

    def _after_upgrade(self, rest: bytes) -> None:
        """httptools stops at a request that asks for an upgrade. `take_head` has refused that request or, as
        for h2c, taken it for plain HTTP/1.1, which goes on here with a parser of its own.
        """
        self._parser = HttpRequestParser(self)
        if rest and not self.closing:
            try:
                self._parser.feed_data(rest)
            except HttpParserUpgrade:
                self._refuse(400, b"Bad Request")
            except HttpParserError as error:
                self._parse_error(error)
