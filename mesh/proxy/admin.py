"""The proxy's own HTTP pages: administration (15000), metrics and the app's probes (15020), health (15021).

Paths and words as Envoy's admin interface and Istio's agent have them. Administration is for the pod only: it
listens where the app is, never on the pod's address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from httptools import HttpParserError, HttpRequestParser

from mesh.proxy import pages
from mesh.proxy.probe import Prober
from mesh.proxy.wire import CRLF, STATUS_LINES, http_date

if TYPE_CHECKING:
    from mesh.proxy.app import Proxy

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=UTF-8"
JSON = "application/json"


class Page:
    """An answer of one of these servers."""

    __slots__ = ("body", "content_type", "status")

    def __init__(self, body: str | bytes, status: int = 200, content_type: str = TEXT) -> None:
        self.body = body.encode() if isinstance(body, str) else body
        self.status = status
        self.content_type = content_type


Handler = Callable[[str, str, dict[str, str]], Awaitable[Page]]
"""Answers (method, path, query)."""


class Admin:
    """The three servers of one proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        bootstrap = proxy.bootstrap
        self._prober = Prober(bootstrap.probers, bootstrap.probed_address, bootstrap.probe_source)
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self) -> None:
        """Listen. Raises OSError if a port is taken."""
        bootstrap = self._proxy.bootstrap
        for address, port, handler in (
            (bootstrap.app_address, bootstrap.admin_port, self._admin),
            (bootstrap.bind_address, bootstrap.telemetry_port, self._telemetry),
            (bootstrap.bind_address, bootstrap.status_port, self._health),
        ):
            if port:
                self._servers.append(await start_server(handler, address, port))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()

    async def _health(self, method: str, path: str, query: dict[str, str]) -> Page:
        if path == "/healthz/ready":
            return self._ready()
        return Page("not found\n", 404)

    def _ready(self) -> Page:
        proxy = self._proxy
        if proxy.ready:
            return Page("LIVE\n")
        return Page(pages.not_ready(proxy), 503)

    async def _telemetry(self, method: str, path: str, query: dict[str, str]) -> Page:
        if path in ("/stats/prometheus", "/metrics"):
            return Page(
                pages.prometheus(self._proxy), content_type="text/plain; version=0.0.4; charset=utf-8"
            )
        if path == "/healthz/ready":
            return self._ready()
        if path.startswith("/app-health/"):
            status, text = await self._prober.probe(path)
            return Page(text, status)
        if path == "/quitquitquit":
            return self._quit(method)
        return Page("not found\n", 404)

    async def _admin(self, method: str, path: str, query: dict[str, str]) -> Page:
        proxy = self._proxy
        if path == "/ready":
            return self._ready()
        if path == "/config_dump":
            return Page(pages.config_dump(proxy), content_type=JSON)
        if path == "/clusters":
            as_json = query.get("format") == "json"
            text = pages.clusters_json(proxy) if as_json else pages.clusters(proxy)
            return Page(text, content_type=JSON if as_json else TEXT)
        if path == "/listeners":
            as_json = query.get("format") == "json"
            text = pages.listeners_json(proxy) if as_json else pages.listeners(proxy)
            return Page(text, content_type=JSON if as_json else TEXT)
        if path == "/certs":
            return Page(pages.certs(proxy), content_type=JSON)
        if path == "/server_info":
            return Page(pages.server_info(proxy), content_type=JSON)
        if path == "/stats/prometheus":
            return Page(pages.prometheus(proxy), content_type="text/plain; version=0.0.4; charset=utf-8")
        if path == "/logging":
            return self._logging(method, query)
        if path in ("/drain", "/drain_listeners"):
            return self._drain(method)
        if path == "/quitquitquit":
            return self._quit(method)
        if path in ("/", "/help"):
            return Page(pages.HELP)
        return Page(f"invalid path. admin commands are:\n{pages.HELP}", 404)

    def _logging(self, method: str, query: dict[str, str]) -> Page:
        """`POST /logging?level=debug`: how much this process tells."""
        logger = logging.getLogger("mesh.proxy")
        level = query.get("level", "").upper()
        if level:
            if method != "POST":
                return _POST_ONLY
            if level not in logging.getLevelNamesMapping():
                return Page(f"error: unknown level {level.lower()}\n", 400)
            logger.setLevel(level)
        return Page(
            f"active loggers:\n  mesh.proxy: {logging.getLevelName(logger.getEffectiveLevel()).lower()}\n"
        )

    def _drain(self, method: str) -> Page:
        """Ask clients to leave, with the next answer; new connections are still taken."""
        if method != "POST":
            return _POST_ONLY
        self._proxy.runtime.drain()
        return Page("OK\n")

    def _quit(self, method: str) -> Page:
        if method != "POST":
            return _POST_ONLY
        self._proxy.stopping.set()
        return Page("OK\n")


_POST_ONLY = Page("Method Not Allowed: use POST\n", 405)


async def start_server(handler: Handler, address: str, port: int) -> asyncio.AbstractServer:
    """A small HTTP server: one request a connection. Raises OSError."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(handler), address, port)


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._parser = HttpRequestParser(self)
        self._url = b""
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._write(Page("Bad Request\n", 400))

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_message_complete(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        parameters = {key: values[-1] for key, values in parse_qs(query).items()}
        page = await self._handler(self._parser.get_method().decode(), path, parameters)
        self._write(page)

    def _write(self, page: Page) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = [
            STATUS_LINES[page.status],
            b"content-type: " + page.content_type.encode(),
            b"content-length: %d" % len(page.body),
            b"date: " + http_date(),
            b"connection: close",
            b"",
            page.body,
        ]
        self._transport.write(CRLF.join(head))
        self._transport.close()
