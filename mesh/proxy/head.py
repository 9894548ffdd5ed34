"""A request's head, sorted: what it asks for, what is only about this connection, what makes it impossible.

Called by `codec` when the head is complete. Pure: it reads and writes the exchange, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.proxy import reply, wire
from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange


def take_head(exchange: Exchange, version: str, upgrade: bool) -> None:
    """Sort a request's headers: those about the connection act here and go no further.

    Sets `authority`, `chunked`, `has_body`, ..., and `refusal` when the request cannot be served (RFC 9112,
    sections 3.2, 6.1; RFC 9110, sections 7.6.1, 7.8, 10.1.1).
    """
    kept: Headers = []
    hosts = 0
    for pair in exchange.headers:
        name = pair[0]
        if name not in _ACTED_UPON:
            kept.append(pair)
        elif name == b"host":
            hosts += 1
            exchange.authority = pair[1]
        elif name in _DROPPED:
            pass
        elif name == b"x-request-id":
            exchange.request_id = pair[1]
            kept.append(pair)
        elif name == b"x-forwarded-proto":
            exchange.forwarded_proto = pair[1]
            kept.append(pair)
        elif name == b"x-forwarded-client-cert":
            exchange.has_certificate_header = True
            kept.append(pair)
        elif name == b"content-length":
            exchange.has_body = pair[1].strip(b"0") != b""
            kept.append(pair)
        elif name == b"transfer-encoding":
            exchange.chunked = exchange.has_body = True
            if pair[1].lower() != b"chunked":
                exchange.refusal = reply.TRANSFER_CODING_UNKNOWN
        elif name == b"expect":
            exchange.expects_continue = pair[1].lower() == b"100-continue"
        elif name == b"upgrade" and upgrade:
            if pair[1].lower() != b"h2c":
                exchange.refusal = reply.UPGRADE_REFUSED
        elif name == b"te" and pair[1].lower() == b"trailers":
            kept.append(pair)
        elif name in _PEER_CLAIMS:
            _peer_claim(exchange, pair, kept)
    if len(exchange.headers) > wire.MAX_HEADERS:
        exchange.refusal = reply.HEADERS_TOO_LARGE
    if not exchange.has_body and exchange.method in _WITH_BODY and (b"content-length", b"0") not in kept:
        kept.append((b"content-length", b"0"))
    exchange.headers = kept
    exchange.http11 = version == "1.1"
    _take_target(exchange, hosts, version)


_PEER_CLAIMS = (b"x-envoy-peer-metadata", b"x-envoy-peer-metadata-id")
_DROPPED = (b"http2-settings", b"x-envoy-internal")
"""Part of an upgrade that is not made; a claim that only a gateway may make."""
_WITH_BODY = (b"POST", b"PUT", b"PATCH")
_NOTED = (b"x-request-id", b"x-forwarded-proto", b"x-forwarded-client-cert")
_ACTED_UPON = wire.HOP_BY_HOP | {b"host", b"content-length", b"expect", *_DROPPED, *_NOTED, *_PEER_CLAIMS}


def _peer_claim(exchange: Exchange, pair: tuple[bytes, bytes], kept: Headers) -> None:
    """Who the peer says it is, for metric labels: heard by an inbound sidecar, dropped by everyone else."""
    role = exchange.http.settings.peer_claims
    if role == "hear":
        if pair[0] == b"x-envoy-peer-metadata":
            exchange.peer_claim = pair[1]
        else:
            exchange.peer_id = pair[1]
    elif role == "pass":
        kept.append(pair)


def _take_target(exchange: Exchange, hosts: int, version: str) -> None:
    """The request target: origin form, or absolute form whose authority wins (RFC 9112, section 3.2)."""
    target = exchange.target
    if exchange.method == b"CONNECT":
        exchange.refusal = reply.NO_CONNECT
    elif b"#" in target:
        exchange.refusal = reply.FRAGMENT_IN_PATH
    elif target[:1] != b"/" and target != b"*":
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            exchange.refusal = reply.MISSING_HOST
            return
        end = min((place for place in (rest.find(b"/"), rest.find(b"?")) if place >= 0), default=len(rest))
        exchange.authority, path = rest[:end], rest[end:]
        exchange.target = path if path.startswith(b"/") else b"/" + path
    if version not in ("1.0", "1.1") or (not exchange.http11 and not exchange.http.settings.accept_http10):
        exchange.refusal = reply.UPGRADE_REQUIRED
    elif hosts > 1 or (not exchange.authority and hosts == 0 and exchange.http11):
        exchange.refusal = reply.MISSING_HOST
