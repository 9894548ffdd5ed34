"""Answers the proxy gives itself, with Envoy's wording and Envoy's response flags.

A learner who sees `503 ... NC` in an access log finds here what it stands for. Sources: Envoy's
`%RESPONSE_FLAGS%` and, for the texts, what the real Envoy says (tests/oracle compares).
"""

from __future__ import annotations

from mesh.proxy.wire import CRLF, STATUS_LINES, Headers, http_date, lines


class Flag:
    """Envoy's short response flags: why an answer is not simply the upstream's."""

    NO_ROUTE = "NR"
    NO_CLUSTER = "NC"
    NO_HEALTHY_UPSTREAM = "UH"
    CONNECT_FAILURE = "UF"
    OVERFLOW = "UO"
    UPSTREAM_TIMEOUT = "UT"
    UPSTREAM_RESET = "UR"
    UPSTREAM_CLOSED = "UC"
    UPSTREAM_PROTOCOL_ERROR = "UPE"
    RETRIES_EXHAUSTED = "URX"
    DELAY_INJECTED = "DI"
    FAULT_INJECTED = "FI"
    RATE_LIMITED = "RL"
    DOWNSTREAM_GONE = "DC"
    DOWNSTREAM_PROTOCOL_ERROR = "DPE"
    STREAM_IDLE_TIMEOUT = "SI"


class LocalReply:
    """An answer made here: status, text, flag, extra headers. Immutable; most are constants below.

    `details` is Envoy's `%RESPONSE_CODE_DETAILS%`.
    """

    __slots__ = ("body", "close", "details", "flag", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        flag: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        details: str = "",
        close: bool = False,
    ) -> None:
        self.status = status
        self.close = close
        """Whether the connection ends with this answer, for what follows on it cannot be trusted."""
        self.body = body
        self.flag = flag
        self.headers = headers
        self.details = details

    def head_fields(self) -> Headers:
        """Headers of this answer in Envoy's order, without date and server."""
        fields: Headers = []
        if self.body:
            fields.append((b"content-length", b"%d" % len(self.body)))
            fields.append((b"content-type", b"text/plain"))
        elif self.status != 204 and self.status != 304:
            fields.append((b"content-length", b"0"))
        fields.extend(self.headers)
        return fields


_BEFORE_HEADERS = b"upstream connect error or disconnect/reset before headers. "


def reset_reply(flag: str, reason: str, details: str, retried: bool = False) -> LocalReply:
    """The upstream failed before it answered: Envoy's text for each way."""
    extra = ((b"x-envoy-overloaded", b"true"),) if flag == Flag.OVERFLOW else ()
    which = b"retried and the latest reset reason: " if retried else b"reset reason: "
    return LocalReply(503, _BEFORE_HEADERS + which + reason.encode(), flag, extra, details)


NO_ROUTE = LocalReply(404, b"", Flag.NO_ROUTE, details="route_not_found")
NO_HEALTHY_UPSTREAM = LocalReply(
    503, b"no healthy upstream", Flag.NO_HEALTHY_UPSTREAM, details="no_healthy_upstream"
)
OVERFLOW = reset_reply(Flag.OVERFLOW, "overflow", "upstream_reset_before_response_started{overflow}")
UPSTREAM_TIMEOUT = LocalReply(
    504, b"upstream request timeout", Flag.UPSTREAM_TIMEOUT, details="response_timeout"
)
RBAC_DENIED = LocalReply(403, b"RBAC: access denied", details="rbac_access_denied")
HTTP2_UPSTREAM = LocalReply(
    503, b"this proxy speaks no HTTP/2 to upstreams", Flag.UPSTREAM_PROTOCOL_ERROR, details="http2_upstream"
)
UPGRADE_REFUSED = LocalReply(403, b"", details="upgrade_failed", close=True)
NO_CONNECT = LocalReply(404, b"", Flag.NO_ROUTE, details="route_not_found", close=True)
MISSING_HOST = LocalReply(400, b"", Flag.DOWNSTREAM_PROTOCOL_ERROR, details="missing_host_header", close=True)
TRANSFER_CODING_UNKNOWN = LocalReply(
    501, b"Not Implemented", Flag.DOWNSTREAM_PROTOCOL_ERROR, details="unknown_transfer_coding", close=True
)
HEADERS_TOO_LARGE = LocalReply(
    431,
    b"Request Header Fields Too Large",
    Flag.DOWNSTREAM_PROTOCOL_ERROR,
    details="headers_too_large",
    close=True,
)
UPGRADE_REQUIRED = LocalReply(426, b"Upgrade Required", details="low_version", close=True)
BAD_PATH = LocalReply(400, b"", details="path_normalization_failed", close=True)
FRAGMENT_IN_PATH = LocalReply(400, b"", details="path_with_fragment", close=True)
REQUEST_TIMEOUT = LocalReply(408, b"stream timeout", Flag.STREAM_IDLE_TIMEOUT, details="stream_idle_timeout")
STREAM_TIMEOUT = LocalReply(504, b"stream timeout", Flag.STREAM_IDLE_TIMEOUT, details="stream_idle_timeout")


def no_cluster(status: int = 503) -> LocalReply:
    """The route names a cluster that is not there (yet)."""
    return LocalReply(status, b"", Flag.NO_CLUSTER, details="cluster_not_found")


def bare(status: int, text: bytes, server: bytes) -> bytes:
    """A whole answer for bytes that were no request: the connection closes after it."""
    fields: Headers = [(b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain")]
    fields += [(b"date", http_date()), (b"server", server), (b"connection", b"close")]
    return CRLF.join([STATUS_LINES[status], *lines(fields), b"", text])
