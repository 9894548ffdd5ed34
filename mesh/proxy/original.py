"""Whom did a client mean whose connection the kernel redirected to us?

With interception REDIRECT (`mesh.proxy.redirect`) every connection of the pod arrives on two ports of the proxy.
The kernel's connection tracking remembers where each was going: socket option `SO_ORIGINAL_DST` of Linux
(netfilter), which Envoy's `original_dst` listener filter reads too.
"""

from __future__ import annotations

import socket
import struct
import sys

Address = tuple[str, int]

_SO_ORIGINAL_DST = 80
"""The same number for IPv4 and IPv6 (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h)."""
_SIZE_V4, _SIZE_V6 = 16, 28


def original_destination(connection: socket.socket) -> Address:
    """The address a connection was made to; where nothing was redirected, its own end."""
    own: Address = connection.getsockname()[:2]
    if sys.platform != "linux":
        return own
    try:
        if connection.family == socket.AF_INET6:
            return _read_v6(connection.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SIZE_V6))
        return _read_v4(connection.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SIZE_V4))
    except OSError:  # connection tracking does not know it: it came straight to us
        return own


def _read_v4(raw: bytes) -> Address:
    """`struct sockaddr_in`: family, port and address, the last two in network order."""
    _, port, address = struct.unpack_from("!HH4s", raw)
    return socket.inet_ntop(socket.AF_INET, address), port


def _read_v6(raw: bytes) -> Address:
    """`struct sockaddr_in6`: family, port, flow, address."""
    _, port, _, address = struct.unpack_from("!HHI16s", raw)
    return socket.inet_ntop(socket.AF_INET6, address), port
