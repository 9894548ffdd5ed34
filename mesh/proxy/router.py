"""The last step of a request: to a cluster, an endpoint, a connection; and the answer back.

What Envoy's router filter does. The route says which cluster (`routes`), the cluster's balancer which endpoint
(`balancer`), its breaker whether one more is allowed (`breaker`), the endpoint's pool brings a connection
(`pool`), and when it fails `retry` says whether to try again.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from mesh.proxy import reply, shadow
from mesh.proxy.reply import Flag, LocalReply
from mesh.proxy.wire import CONTINUE, CRLF, LAST_CHUNK, STATUS_LINES, Headers, chunk, http_date

if TYPE_CHECKING:
    from mesh.proxy.actions import Forward, Share
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.upstream import UpstreamConnection


def forward(exchange: Exchange) -> None:
    """All filters have let the request pass: do what its route says."""
    route = exchange.route
    if route is None:
        exchange.reply(reply.NO_ROUTE)
        return
    answer = route.action.answer(exchange)
    if answer is not None:
        if route.edits.changes_answer:
            exchange.on_answer = route.edits.answer(exchange.on_answer or [], exchange)
        exchange.reply(answer)
        return
    action: Forward = route.action  # type: ignore[assignment]
    exchange.draw = action.draw(exchange)
    share = action.choose(exchange.draw)
    cluster = exchange.http.clusters.get(share.cluster)
    if cluster is None:
        exchange.reply(reply.no_cluster(action.cluster_not_found))
        return
    exchange.cluster = cluster
    if cluster.spec.http2:
        exchange.reply(reply.HTTP2_UPSTREAM)
        return
    if exchange.expects_continue:
        exchange.conn.transport.write(CONTINUE)
    _edit(exchange, action, share)
    exchange.keep_body = exchange.has_body and (action.retry is not None or bool(action.mirrors))
    if action.mirrors and not exchange.has_body:
        shadow.mirror(exchange, action)
    if not exchange.has_body:
        start_timers(exchange)
    attempt(exchange)


def _edit(exchange: Exchange, action: Forward, share: Share) -> None:
    """Change headers, host and path as the route says, in Envoy's order."""
    edits = exchange.edits = share.edits
    if edits.changes_request:
        exchange.headers = edits.request(exchange.headers, exchange)
    if share.host_rewrite is not None and share.host_rewrite != exchange.authority:
        exchange.headers.append((b"x-envoy-original-host", exchange.authority))
        exchange.authority = share.host_rewrite
    action.rewrite(exchange)


def attempt(exchange: Exchange) -> None:
    """Try one endpoint."""
    cluster = exchange.cluster
    assert cluster is not None
    endpoint = cluster.pick(exchange)
    if endpoint is None:
        exchange.reply(reply.NO_HEALTHY_UPSTREAM)
        return
    exchange.endpoint = endpoint
    exchange.attempts += 1
    if not endpoint.pool.acquire(exchange):
        exchange.details = "overflow"
        exchange.reply(reply.OVERFLOW)


def request_complete(exchange: Exchange) -> None:
    """The client has sent the whole body."""
    start_timers(exchange)
    action: Forward = exchange.route.action  # type: ignore[union-attr, assignment]
    if action.mirrors and exchange.keep_body:
        shadow.mirror(exchange, action)


def start_timers(exchange: Exchange) -> None:
    """The route's timeout counts from the end of the request to the end of the answer (`timeout`)."""
    route = exchange.route
    if route is not None and exchange.timer is None and route.action.timeout > 0:
        loop = asyncio.get_running_loop()
        exchange.timer = loop.call_later(route.action.timeout, _timed_out, exchange)


def connected(exchange: Exchange, upstream: UpstreamConnection) -> None:
    """The pool gives a connection: send the head, and what there is of the body, in one write."""
    exchange.pending = False
    exchange.upstream = upstream
    exchange.sent_at = perf_counter()
    data = request_head(exchange)
    if exchange.has_body:
        parts = [data]
        parts += [chunk(piece) for piece in exchange.body] if exchange.chunked else exchange.body
        if exchange.complete and exchange.chunked:
            parts.append(LAST_CHUNK)
        data = b"".join(parts)
        if exchange.complete and exchange.attempts == 1:
            request_complete(exchange)
        if not exchange.keep_body:
            exchange.body = []
        exchange.conn.resume_reading()
    upstream.send(data)
    action: Forward = exchange.route.action  # type: ignore[union-attr, assignment]
    if action.retry is not None and action.retry.per_try_timeout > 0:
        loop = asyncio.get_running_loop()
        exchange.try_timer = loop.call_later(action.retry.per_try_timeout, _try_timed_out, exchange)


def request_head(exchange: Exchange) -> bytes:
    """The request's head as the upstream gets it."""
    parts = [exchange.method + b" " + exchange.target + b" HTTP/1.1", b"host: " + exchange.authority]
    parts += [name + b": " + value for name, value in exchange.headers]
    if exchange.chunked:
        parts.append(b"transfer-encoding: chunked")
    action: Forward = exchange.route.action  # type: ignore[union-attr, assignment]
    if action.count_attempts:
        parts.append(b"x-envoy-attempt-count: %d" % exchange.attempts)
    if action.expected_timeout is not None:
        parts.append(action.expected_timeout if exchange.attempts == 1 else _time_left(exchange, action))
    extra = exchange.http.upstream_lines
    if extra and exchange.endpoint.in_mesh:  # type: ignore[union-attr]
        parts.append(extra)
    parts.append(b"\r\n")
    return CRLF.join(parts)


def _time_left(exchange: Exchange, action: Forward) -> bytes:
    """A retry has less time than the first attempt."""
    left = action.timeout - (perf_counter() - exchange.began)
    return b"x-envoy-expected-rq-timeout-ms: %d" % max(left * 1000, 1)


# -- the answer -------------------------------------------------------------------------------------------

_ACTED_UPON = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"server",
        b"date",
        b"x-envoy-upstream-service-time",
        b"x-envoy-peer-metadata",
        b"x-envoy-peer-metadata-id",
    )
)


_SERVICE_TIME = b"x-envoy-upstream-service-time: %d"
_SERVICE_TIMES = [_SERVICE_TIME % milliseconds for milliseconds in range(256)]


def response_head(exchange: Exchange, status: int, headers: Headers) -> bool:
    """The upstream's head is here. Returns False if the answer is dropped because the request is retried."""
    route = exchange.route
    assert route is not None
    action: Forward = route.action  # type: ignore[assignment]
    if action.retry is not None:
        if action.retry.wants_status(status, headers) and _retry(exchange, f"status {status}"):
            return False
        _stop_try_timer(exchange)
        if exchange.complete or not action.mirrors:
            exchange.body = []
            exchange.keep_body = False
    settings = exchange.http.settings
    keep_claims = settings.peer_claims == "pass"
    fields = [STATUS_LINES[status]]
    server = date = None
    has_length = False
    if exchange.on_answer:
        headers = headers + exchange.on_answer
    edits = exchange.edits
    if edits is not None and edits.changes_answer:
        headers = edits.answer(headers, exchange)
    for name, value in headers:
        if name not in _ACTED_UPON:
            fields.append(name + b": " + value)
        elif name == b"content-length":
            has_length = exchange.response_ends = True
            fields.append(b"content-length: " + value)
        elif name == b"server":
            server = value
        elif name == b"date":
            date = value
        elif name == b"transfer-encoding":
            exchange.response_ends = True
        elif name[:12] == b"x-envoy-peer" and keep_claims:
            fields.append(name + b": " + value)
    fields.append(http_date.line() if date is None else b"date: " + date)
    if settings.overwrite_server or (server is None and settings.server_header != "pass"):
        fields.append(settings.server_line)
    elif server is not None:
        fields.append(b"server: " + server)
    took = int((perf_counter() - exchange.sent_at) * 1000)
    fields.append(_SERVICE_TIMES[took] if took < 256 else _SERVICE_TIME % took)
    exchange.details = "via_upstream"
    bodiless = status == 204 or status == 304 or exchange.method == b"HEAD"
    exchange.send_head(status, fields, has_length, bodiless)
    return True


def response_end(exchange: Exchange) -> None:
    """The upstream's answer is complete, and its connection free again."""
    exchange.upstream = None
    exchange.response_end()


# -- failures ---------------------------------------------------------------------------------------------


def failed(exchange: Exchange, flag: str, kind: str, reason: str) -> None:
    """The attempt broke: no connection, or one that was reset. `kind` is Envoy's `retry_on` word."""
    exchange.upstream = None
    exchange.pending = False
    if exchange.head_sent or exchange.response_head is not None:
        exchange.abort(flag, reason)
        return
    if _retry(exchange, kind):
        return
    answer = reply.reset_reply(flag, reason, f"upstream_reset{{{reason}}}", exchange.attempts > 1)
    exchange.reply(_with_flags(exchange, answer))


def _with_flags(exchange: Exchange, answer: LocalReply) -> LocalReply:
    if exchange.attempts > 1:
        exchange.add_flag(answer.flag)
        exchange.add_flag(Flag.RETRIES_EXHAUSTED)
    return answer


def _retry(exchange: Exchange, kind: str) -> bool:
    """Try again if the route's policy, the breaker and what is left of the request allow it."""
    action: Forward = exchange.route.action  # type: ignore[union-attr, assignment]
    policy = action.retry
    cluster = exchange.cluster
    if policy is None or cluster is None or exchange.attempts > policy.retries or not policy.wants(kind):
        return False
    if exchange.has_body and not exchange.keep_body:
        return False
    breaker = cluster.breaker
    if not exchange.retrying:
        if not breaker.may_retry:
            exchange.add_flag(Flag.OVERFLOW)
            return False
        breaker.retries += 1
        exchange.retrying = True
    _stop_try_timer(exchange)
    upstream, exchange.upstream = exchange.upstream, None
    if upstream is not None:
        upstream.detach()
    if exchange.endpoint is not None:
        exchange.tried = (*exchange.tried, exchange.endpoint)
    delay = policy.delay(exchange.attempts)
    exchange.try_timer = asyncio.get_running_loop().call_later(delay, attempt, exchange)
    return True


def _timed_out(exchange: Exchange) -> None:
    exchange.timer = None
    cancel(exchange)
    if exchange.head_sent or exchange.response_head is not None:
        exchange.abort(Flag.UPSTREAM_TIMEOUT, "response_timeout")
    else:
        exchange.reply(reply.UPSTREAM_TIMEOUT)


def _try_timed_out(exchange: Exchange) -> None:
    """`per_try_timeout`: this attempt took too long."""
    exchange.try_timer = None
    if exchange.head_sent or exchange.response_head is not None:
        return
    if _retry(exchange, "per-try-timeout"):
        return
    cancel(exchange)
    exchange.reply(_with_flags(exchange, reply.UPSTREAM_TIMEOUT))


def _stop_try_timer(exchange: Exchange) -> None:
    if exchange.try_timer is not None:
        exchange.try_timer.cancel()
        exchange.try_timer = None


def cancel(exchange: Exchange) -> None:
    """Stop the attempt that runs: its connection cannot be used again, for an answer may still come on it."""
    _stop_try_timer(exchange)
    upstream, exchange.upstream = exchange.upstream, None
    if upstream is not None:
        upstream.detach()
    elif exchange.pending and exchange.endpoint is not None:
        exchange.endpoint.pool.forget(exchange)
        exchange.pending = False
