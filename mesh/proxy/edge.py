"""What a request carries about its own way here: request id, forwarded headers, the path's normal form.

First step of a request after its head is read, before the route is looked up, as in Envoy's connection
manager (`ConnectionManagerUtility::mutateRequestHeaders`). A gateway (`use_remote_address`) believes nothing
that comes from outside; a sidecar passes on what its peer says.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from random import getrandbits
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from mesh.proxy import reply
from mesh.proxy.reply import LocalReply
from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.hcm import Settings

_INTERNAL_ONLY = frozenset(
    (
        b"x-envoy-decorator-operation",
        b"x-envoy-downstream-service-cluster",
        b"x-envoy-downstream-service-node",
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-force-trace",
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-internal",
        b"x-envoy-external-address",
        b"x-envoy-ip-tags",
        b"x-envoy-max-retries",
        b"x-envoy-original-url",
        b"x-envoy-retriable-header-names",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-upstream-alt-stat-name",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
        b"x-envoy-upstream-rq-timeout-alt-response",
        b"x-envoy-upstream-rq-timeout-ms",
    )
)
"""Headers that steer proxies: an outside client may not send them."""


def prepare(exchange: Exchange) -> LocalReply | None:
    """Complete and clean the request's own headers. Returns an answer if it cannot be served."""
    settings = exchange.http.settings
    conn = exchange.conn
    if settings.use_remote_address:
        _distrust(exchange)
    if exchange.forwarded_proto is None:
        exchange.forwarded_proto = b"https" if conn.tls else b"http"
        exchange.headers.append((b"x-forwarded-proto", exchange.forwarded_proto))
    if exchange.request_id is None and settings.generate_request_id:
        exchange.request_id = request_id()
        exchange.headers.append((b"x-request-id", exchange.request_id))
    if conn.xfcc is not None or exchange.has_certificate_header:
        _client_certificate(exchange, settings)
    target = exchange.target
    path, mark, query = target.partition(b"?")
    if settings.normalize_path and needs_normalizing(path):
        normal = normalize(path, settings)
        if normal is None:
            return reply.BAD_PATH
        path, exchange.target = normal, normal + mark + query
    exchange.path = path
    return None


_VARIANT = "89ab"


def request_id() -> bytes:
    """A random UUID (RFC 9562, version 4), as Envoy gives each request. It names, it does not protect."""
    bits = getrandbits(128)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[bits & 3]}{digits[17:20]}-{digits[20:]}".encode()


# -- paths ------------------------------------------------------------------------------------------------


def needs_normalizing(path: bytes) -> bool:
    """Whether the path has anything that `normalize` might change; most have not."""
    return b"/." in path or b"//" in path or b"%" in path or b"\\" in path


def normalize(path: bytes, settings: Settings) -> bytes | None:
    """Remove dot segments and decode what needs no escape (RFC 3986, section 6.2.2), so that `/a/../admin`
    meets the rules for `/admin`. None if the path is not valid.

    Fields: `normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`.
    """
    if settings.escaped_slashes != "keep" and _has_escaped_slash(path):
        if settings.escaped_slashes == "reject":
            return None
        path = _replace(path, (b"%2f", b"%2F"), b"/")
        path = _replace(path, (b"%5c", b"%5C"), b"\\")
    path = _decode_unreserved(path).replace(b"\\", b"/")
    if settings.merge_slashes:
        while b"//" in path:
            path = path.replace(b"//", b"/")
    return _remove_dot_segments(path)


def _has_escaped_slash(path: bytes) -> bool:
    lower = path.lower()
    return b"%2f" in lower or b"%5c" in lower


def _replace(path: bytes, escapes: tuple[bytes, ...], by: bytes) -> bytes:
    for escape in escapes:
        path = path.replace(escape, by)
    return path


_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _decode_unreserved(path: bytes) -> bytes:
    """Decode only the escapes of characters that mean the same unescaped; others stay as they came."""
    first, *rest = path.split(b"%")
    parts = [first]
    for part in rest:
        character = unquote_to_bytes(b"%" + part[:2])
        if len(character) == 1 and character[0] in _UNRESERVED:
            parts.append(character + part[2:])
        else:
            parts.append(b"%" + part)
    return b"".join(parts)


def _remove_dot_segments(path: bytes) -> bytes | None:
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        bare = segment.partition(b";")[0]  # some servers read `..;x` as `..`, so it has to count as such here
        if bare == b"..":
            if kept:
                kept.pop()
            if last:
                kept.append(b"")
        elif bare == b".":
            if last:
                kept.append(b"")
        else:
            kept.append(segment)
    return b"/" + b"/".join(kept)


# -- who the client is ------------------------------------------------------------------------------------


def _distrust(exchange: Exchange) -> None:
    """At the edge: the address of the connection counts, not what headers say (`use_remote_address`)."""
    address = exchange.conn.remote[0]
    internal = is_internal(address)
    forwarded = exchange.header(b"x-forwarded-for")
    hops = exchange.http.settings.trusted_hops
    drop = {b"x-forwarded-for", b"x-envoy-external-address", b"x-envoy-internal"}
    if not (internal and forwarded is None):
        drop |= _INTERNAL_ONLY
    if hops == 0:
        drop.add(b"x-forwarded-proto")
        exchange.forwarded_proto = None
    if exchange.request_id is not None and not exchange.http.settings.keep_request_id and not internal:
        drop.add(b"x-request-id")
        exchange.request_id = None
    kept: Headers = [pair for pair in exchange.headers if pair[0] not in drop]
    chain = address.encode() if forwarded is None else forwarded + b"," + address.encode()
    kept.append((b"x-forwarded-for", chain))
    if internal and forwarded is None:
        kept.append((b"x-envoy-internal", b"true"))
    else:
        kept.append((b"x-envoy-external-address", address.encode()))
    exchange.headers = kept


@lru_cache(maxsize=1024)
def is_internal(address: str) -> bool:
    """Whether Envoy counts the address as internal: RFC 1918, loopback and IPv6 unique local ones."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback or any(
        parsed in network for network in _PRIVATE if network.version == parsed.version
    )


_PRIVATE = [
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
]


def _client_certificate(exchange: Exchange, settings: Settings) -> None:
    """The x-forwarded-client-cert header (`forward_client_cert_details`)."""
    mode = settings.certificate_header
    if mode == "pass":
        return
    mine = exchange.conn.xfcc
    theirs = None
    if mode in ("append", "forward") and mine is not None:
        theirs = exchange.header(b"x-forwarded-client-cert")
    headers = [pair for pair in exchange.headers if pair[0] != b"x-forwarded-client-cert"]
    if mode not in ("append", "set"):
        mine = None
    values = [value for value in (theirs, mine) if value]
    if values:
        headers.append((b"x-forwarded-client-cert", b",".join(values)))
    exchange.headers = headers
