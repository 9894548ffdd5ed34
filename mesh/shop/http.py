"""A small HTTP/1.1 server on httptools: what the shop's services need, and nothing else.

A general framework costs three times the CPU and memory of the services it would carry here, and in a lab
that measures what a mesh costs, the shop must not be what is measured. Requests of a connection are
answered one after the other; bodies are small and kept whole.
"""

import asyncio
import contextlib
import email.utils
import json
import logging
import re
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httptools

log = logging.getLogger(__name__)

LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 1024 * 1024

_PHRASES = {int(status): status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A whole request. Header names are lower case; a header that came several times is joined by commas."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    matched: dict[str, str] = field(default_factory=dict)  # the {names} in the route's path

    @property
    def form(self) -> dict[str, str]:
        """The fields of a submitted HTML form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def cookie(self, name: str) -> str:
        """The value of a cookie, "" without it."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return ""


@dataclass(slots=True)
class Response:
    """A whole answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)


def json_response(body: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(json.dumps(body).encode(), status, "application/json")


def text_response(text: str, status: int = 200) -> Response:
    """An answer in plain text."""
    return Response(text.encode(), status)


class Refused(Exception):
    """Raised by a handler instead of answering: the answer to give."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


Handler = Callable[[Request], Response | Awaitable[Response]]


class App:
    """Routes to handlers, plus a context to be entered while it serves (`running`)."""

    def __init__(self, running: Callable[[], AbstractAsyncContextManager[None]] | None = None) -> None:
        self.running = running or contextlib.nullcontext
        self._exact: dict[tuple[str, str], Handler] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Handler]] = []

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Answer `method` on `path` with `handler`; {name} in the path stands for one segment of any text."""
        if "{" in path:
            pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
            self._patterns.append((method, pattern, handler))
        else:
            self._exact[method, path] = handler

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """What the handler answers, or 404."""
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._exact.get((method, request.path))
        if handler is not None:
            return handler(request)
        for of, pattern, handler in self._patterns:
            found = pattern.fullmatch(request.path)
            if found is not None and of == method:
                request.matched = found.groupdict()
                return handler(request)
        return text_response(f"there is no {method} {request.path}\n", 404)


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, app: App, connections: "set[Connection]") -> None:
        self._app = app
        self._connections = connections
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._ending = True
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is no HTTP request: {error}\n")

    def end(self) -> None:
        """Close as soon as the request under way is answered."""
        self._ending = True
        if not self.busy:
            self._transport.close()

    # -- what the parser calls

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = b""
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > LARGEST_HEAD:
            self._refuse(431, "the headers are too large\n")
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self._headers:
            text = f"{self._headers[key]}{'; ' if key == 'cookie' else ', '}{text}"
        self._headers[key] = text

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > LARGEST_BODY:
            self._refuse(413, "the body is too large\n")

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        target = self._url.decode("latin-1")
        if not target.startswith("/"):  # absolute-form, as to a proxy
            parts = urlsplit(target)
            target = f"{parts.path or '/'}?{parts.query}"
        path, _, query = target.partition("?")
        request = Request(
            self._parser.get_method().decode("latin-1"),
            unquote(path) if "%" in path else path,
            dict(parse_qsl(query, keep_blank_values=True)) if query else {},
            self._headers,
            self._body,
        )
        # An upgrade is not taken up: the answer is an ordinary one, and the last, as the parser does not go
        # on.
        last = self._parser.should_upgrade() or not self._parser.should_keep_alive()
        self._waiting.append((request, not last))
        if self._task is None:
            self._next()
        else:
            self._transport.pause_reading()  # a client that sends ahead waits with the rest

    # -- answering

    def _next(self) -> None:
        """Answer what waits, until an answer takes time."""
        while self._waiting and self._task is None and not self._transport.is_closing():
            request, keep_alive = self._waiting.popleft()
            try:
                answer = self._app.answer(request)
            except Refused as refused:
                answer = refused.response
            except Exception:  # noqa: BLE001 - one request must not take the others down
                answer = _broken(request)
            if isinstance(answer, Response):
                self._write(request, answer, keep_alive)
            else:
                self._task = asyncio.ensure_future(self._answer_later(request, answer, keep_alive))
        if self._task is None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _answer_later(self, request: Request, answer: Awaitable[Response], keep_alive: bool) -> None:
        try:
            response = await answer
        except Refused as refused:
            response = refused.response
        except Exception:  # noqa: BLE001 - as above
            response = _broken(request)
        self._task = None
        self._write(request, response, keep_alive)
        self._next()

    def _write(self, request: Request, response: Response, keep_alive: bool) -> None:
        keep_alive = keep_alive and not self._ending
        head = _head(response, keep_alive)
        self._transport.write(head if request.method == "HEAD" else head + response.body)
        if not keep_alive:
            self._transport.close()

    def _refuse(self, status: int, text: str) -> None:
        if not self._transport.is_closing():
            response = text_response(text, status)
            self._transport.write(_head(response, False) + response.body)
            self._transport.close()


def _broken(request: Request) -> Response:
    log.exception("%s %s", request.method, request.path)
    return text_response("something went wrong here; the log of this pod says what\n", 500)


def _head(response: Response, keep_alive: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, '')}\r\n"
        f"content-type: {response.content_type}\r\n"
        f"content-length: {len(response.body)}\r\n"
        f"date: {_date(int(time.time()))}\r\n"
    ]
    lines += [f"{name}: {value}\r\n" for name, value in response.headers.items()]
    if not keep_alive:
        lines.append("connection: close\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)


@contextlib.asynccontextmanager
async def serving(app: App, address: str, port: int, grace_s: float = 0.1) -> AsyncIterator[int]:
    """Serves `app` for as long as the context lasts; gives the port. At its end, requests under way get
    `grace_s` seconds. Raises OSError when the port is taken.
    """
    connections: set[Connection] = set()
    async with app.running():
        loop = asyncio.get_running_loop()
        # A socket of our own: uvloop would start its threads to look up even a numeric address.
        listening = socket.create_server((address, port), backlog=512)
        server = await loop.create_server(lambda: Connection(app, connections), sock=listening)
        try:
            yield listening.getsockname()[1]
        finally:
            server.close()
            for connection in list(connections):
                connection.end()
            deadline = loop.time() + grace_s
            while any(connection.busy for connection in connections) and loop.time() < deadline:
                await asyncio.sleep(0.01)
            for connection in list(connections):
                connection._transport.abort()
