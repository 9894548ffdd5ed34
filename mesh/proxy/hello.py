"""Reads a TLS ClientHello without answering it: is it TLS at all, for which name, for which protocols?

Pure, used by `listener` on bytes that are only looked at (RFC 8446, section 4.1.2; RFC 6066, section 3;
RFC 7301, section 3.1).
"""

from __future__ import annotations

_HANDSHAKE = 0x16
_CLIENT_HELLO = 0x01
_SERVER_NAME = 0
_ALPN = 16


class ClientHello:
    """What a client says in the open before TLS begins."""

    __slots__ = ("alpn", "server_name")

    def __init__(self, server_name: str = "", alpn: tuple[str, ...] = ()) -> None:
        self.server_name = server_name
        self.alpn = alpn


class NeedMore(Exception):
    """It looks like a ClientHello, but its end has not come yet."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise NeedMore
        self._at += count
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> _Reader:
        """A part that is preceded by its length, a number of `size` bytes."""
        return _Reader(self.take(self.number(size)))

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def read_hello(data: bytes) -> ClientHello | None:
    """The ClientHello these bytes begin with, or None if they are not TLS. Raises NeedMore."""
    if data[:1] and data[0] != _HANDSHAKE:
        return None
    record = _Reader(data)
    if record.number(1) != _HANDSHAKE or record.number(1) != 3:
        return None
    record.take(1)
    body = record.block(2)
    try:
        if body.number(1) != _CLIENT_HELLO:
            return None
        return _client_hello(body.block(3))
    except (NeedMore, UnicodeDecodeError):
        return ClientHello()  # complete as a record, odd inside: OpenSSL will say so


def _client_hello(hello: _Reader) -> ClientHello:
    hello.take(2 + 32)  # version, random
    hello.block(1)  # session id
    hello.block(2)  # cipher suites
    hello.block(1)  # compression methods
    server_name = ""
    alpn: tuple[str, ...] = ()
    extensions = hello.block(2) if hello else _Reader(b"")
    while extensions:
        kind, content = extensions.number(2), extensions.block(2)
        if kind == _SERVER_NAME and content:
            names = content.block(2)
            names.take(1)
            server_name = names.take(names.number(2)).decode("ascii").lower()
        elif kind == _ALPN:
            alpn = _protocols(content.block(2))
    return ClientHello(server_name, alpn)


def _protocols(names: _Reader) -> tuple[str, ...]:
    found: list[str] = []
    while names:
        found.append(names.take(names.number(1)).decode("ascii"))
    return tuple(found)
