"""What a cluster wants of its connections below HTTP: TCP keep-alive, and the PROXY protocol's first line."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_STREAM_4, _STREAM_6 = 0x11, 0x21


def keep_alive(transport: asyncio.BaseTransport, settings: tuple[int, int, int]) -> None:
    """Have the system probe a silent connection: (probes, seconds until the first, seconds between)."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Where the system has no such option (`TCP_KEEPIDLE` is Linux's), its own times hold.
    for name, value in zip(("TCP_KEEPCNT", "TCP_KEEPIDLE", "TCP_KEEPINTVL"), settings, strict=True):
        option = getattr(socket, name, None)
        if value and option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def proxy_line(version: int, client: tuple[str, int], server: tuple[str, int]) -> bytes:
    """The header by which the upstream learns who the client is
    (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 and 2.2).
    """
    source, target = ipaddress.ip_address(client[0]), ipaddress.ip_address(server[0])
    if version == 1:
        family = "TCP4" if source.version == 4 else "TCP6"
        return f"PROXY {family} {source} {target} {client[1]} {server[1]}\r\n".encode()
    ports = client[1].to_bytes(2, "big") + server[1].to_bytes(2, "big")
    addresses = source.packed + target.packed + ports
    family_byte = _STREAM_4 if source.version == 4 else _STREAM_6
    return _SIGNATURE + bytes((0x21, family_byte)) + len(addresses).to_bytes(2, "big") + addresses
