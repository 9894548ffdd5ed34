"""Bytes that every request needs and that never change: status lines, names of headers with a meaning of
their own, the date of this second.

Used by `codec` (requests) and `router` (answers). Everything here is rendered once, so that the path of a
request only joins bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]
"""Header names in lower case, in the order they came; values as they came."""

CRLF = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

MAX_HEAD = 60 * 1024
"""Bytes of a request's head at most: Envoy's default of `max_request_headers_kb`."""
MAX_HEADERS = 100
"""Header lines of a request at most: Envoy's default of `max_headers_count`."""

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
"""Headers that speak of one connection and never pass through (RFC 9110, section 7.6.1)."""


def _status_lines() -> dict[int, bytes]:
    lines = {code: b"HTTP/1.1 %d Unknown" % code for code in range(100, 1000)}
    for status in HTTPStatus:
        lines[status.value] = f"HTTP/1.1 {status.value} {status.phrase}".encode()
    return lines


STATUS_LINES = _status_lines()
"""The first line of an answer by status code, without its line end."""


class Date:
    """The `date` header's value, made anew once a second (RFC 9110, section 6.6.1)."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def __call__(self) -> bytes:
        """The value."""
        return self.line()[len("date: ") :]

    def line(self) -> bytes:
        """The whole header line, without its end."""
        second = int(time.time())
        if second != self._second:
            self._second, self._line = second, b"date: " + formatdate(second, usegmt=True).encode()
        return self._line


http_date = Date()


def lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Header lines without their ends, ready for `b"\\r\\n".join`."""
    return [name + b": " + value for name, value in headers]


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def header(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header, several lines of that name joined by comma (RFC 9110, section 5.3), or None."""
    found = [value for key, value in headers if key == name]
    if not found:
        return None
    return found[0] if len(found) == 1 else b",".join(found)
