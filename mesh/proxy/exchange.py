"""One request and its answer: everything known about it, and its way through the proxy.

The order: `codec` reads the head and calls `start`; the route is found; the filters decide one after the
other; the last step, `router`, sends the request on and brings the answer; `finish` tells metrics and the
access log. Nothing here waits: each step returns, and the next event (a byte, a timer) goes on from there.
"""

from __future__ import annotations

import asyncio
from time import perf_counter, time
from typing import TYPE_CHECKING

from mesh.proxy import reply, router
from mesh.proxy.edge import prepare
from mesh.proxy.reply import Flag, LocalReply
from mesh.proxy.wire import CRLF, LAST_CHUNK, STATUS_LINES, Headers, chunk, http_date, lines

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Endpoint
    from mesh.proxy.codec import ServerConnection
    from mesh.proxy.filters import Wait
    from mesh.proxy.headers import HeaderEdits
    from mesh.proxy.routes import Route
    from mesh.proxy.upstream import UpstreamConnection

HELD_BODY = 1024 * 1024
"""Bytes of a body kept for a retry at most (Envoy's `per_connection_buffer_limit_bytes`)."""
HELD_UNSENT = 64 * 1024
"""Bytes of a body taken from the client while no upstream connection is ready."""


class Exchange:
    """The facts of one request. Filters, balancers and records read them; few parts write them."""

    __slots__ = (
        "attempts",
        "authority",
        "began",
        "began_at",
        "body",
        "body_size",
        "chunked",
        "cluster",
        "code",
        "complete",
        "conn",
        "deferred",
        "details",
        "draw",
        "duration",
        "edits",
        "endpoint",
        "expects_continue",
        "flags",
        "forwarded_proto",
        "has_body",
        "has_certificate_header",
        "head_sent",
        "headers",
        "http",
        "http11",
        "keep_alive",
        "keep_body",
        "method",
        "on_answer",
        "path",
        "peer_claim",
        "peer_id",
        "pending",
        "refusal",
        "request_bytes",
        "request_id",
        "response_bytes",
        "response_chunked",
        "response_ends",
        "response_head",
        "retrying",
        "route",
        "sent_at",
        "target",
        "timer",
        "tried",
        "try_timer",
        "upstream",
    )

    conn: ServerConnection
    http11: bool
    method: bytes
    target: bytes
    authority: bytes
    began_at: float
    code: int
    flags: str

    def __init__(self, conn: ServerConnection) -> None:
        self.conn = conn
        self.http = conn.http
        self.began = perf_counter()
        self.began_at = time()
        # what the client asks for (set by `codec`)
        self.method = b""
        self.target = b""
        self.path = b""
        self.authority = b""
        self.headers: Headers = []
        self.http11 = True
        self.keep_alive = True
        self.has_body = False
        self.has_certificate_header = False
        self.chunked = False
        self.expects_continue = False
        self.complete = False
        self.refusal: LocalReply | None = None
        self.request_id: bytes | None = None
        self.forwarded_proto: bytes | None = None
        self.peer_claim: bytes | None = None
        self.peer_id: bytes | None = None
        # the body while it cannot, or may have to be sent again
        self.body: list[bytes] = []
        self.body_size = 0
        self.keep_body = False
        # where it goes (set by `routes` and `router`)
        self.route: Route | None = None
        self.cluster: Cluster | None = None
        self.endpoint: Endpoint | None = None
        self.upstream: UpstreamConnection | None = None
        self.pending = False
        self.attempts = 0
        self.retrying = False
        self.tried: tuple[Endpoint, ...] = ()
        self.draw = -1.0
        self.edits: HeaderEdits | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.try_timer: asyncio.TimerHandle | None = None
        self.sent_at = 0.0
        # the answer
        self.deferred: LocalReply | None = None
        self.response_head: bytes | None = None
        self.response_chunked = False
        self.response_ends = False
        self.head_sent = False
        self.code = 0
        self.flags = ""
        self.details = ""
        self.request_bytes = 0
        self.response_bytes = 0
        self.duration = 0.0
        self.on_answer: Headers | None = None

    # -- the request, step by step ------------------------------------------------------------------------

    def start(self) -> None:
        """The head is complete and it is this request's turn."""
        if self.refusal is not None:
            self.reply(self.refusal)
            return
        refusal = prepare(self)
        if refusal is not None:
            self.reply(refusal)
            return
        for complete in self.http.on_head:
            complete(self)
        self.route = self.http.routes.find(self)
        self.run_filters(0)

    def run_filters(self, first: int) -> None:
        """Ask the filters from number `first` on. Each lets the request pass, answers it, or has it wait."""
        steps = self.http.on_request
        for number in range(first, len(steps)):
            verdict = steps[number](self)
            if verdict is None:
                continue
            if isinstance(verdict, LocalReply):
                self.reply(verdict)
            else:
                self._wait(verdict, number + 1)
            return
        router.forward(self)

    def _wait(self, verdict: Wait, following: int) -> None:
        self.add_flag(verdict.flag)
        self.timer = asyncio.get_running_loop().call_later(verdict.seconds, self.run_filters, following)

    def request_body(self, data: bytes) -> None:
        """A piece of the body: on to the upstream, or held until there is one."""
        self.request_bytes += len(data)
        if self.code or self.deferred is not None:
            return  # answered already; the rest is read and dropped
        upstream = self.upstream
        if upstream is not None:
            upstream.send(chunk(data) if self.chunked else data)
            if not self.keep_body:
                return
        self.body.append(data)
        self.body_size += len(data)
        if upstream is None and self.body_size > HELD_UNSENT:
            self.conn.pause_reading()
        elif upstream is not None and self.body_size > HELD_BODY:
            self.keep_body = False
            self.body = []

    def request_end(self) -> None:
        """The client has said all."""
        self.complete = True
        if self.upstream is not None:
            if self.chunked:
                self.upstream.send(LAST_CHUNK)
            if self.has_body:
                router.request_complete(self)

    # -- the answer ---------------------------------------------------------------------------------------

    def send_head(self, code: int, fields: list[bytes], has_length: bool, bodiless: bool) -> None:
        """Make the answer's head from its lines; it leaves together with the first bytes of the body."""
        self.code = code
        conn = self.conn
        if not has_length and code != 204 and code != 304:
            if self.http11:
                self.response_chunked = not bodiless
                fields.append(b"transfer-encoding: chunked")
            else:
                self.keep_alive = False
        if not self.keep_alive or conn.closing or self.http.draining:
            fields.append(b"connection: close")
            self.keep_alive = False
        elif not self.http11:
            fields.append(b"connection: keep-alive")
        fields.append(b"\r\n")
        self.response_head = CRLF.join(fields)

    def response_body(self, data: bytes) -> None:
        """A piece of the answer's body, as it comes."""
        self.response_bytes += len(data)
        if self.response_chunked:
            data = chunk(data)
        head = self.response_head
        if head is not None:
            self.response_head, self.head_sent = None, True
            data = head + data
        self.conn.transport.write(data)

    def flush_head(self) -> None:
        """Send the head alone: no body has come with it."""
        head = self.response_head
        if head is not None:
            self.response_head, self.head_sent = None, True
            self.conn.transport.write(head)

    def response_end(self) -> None:
        """The answer is complete."""
        head = self.response_head
        if head is not None:
            self.response_head, self.head_sent = None, True
            self.conn.transport.write(head + LAST_CHUNK if self.response_chunked else head)
        elif self.response_chunked:
            self.conn.transport.write(LAST_CHUNK)
        self.finish()

    def reply(self, answer: LocalReply) -> None:
        """Answer from here. While the request's bytes are still being parsed, that waits until they are: a
        client whose whole request has come keeps its connection.
        """
        if not self.complete and self.conn.feeding:
            self.deferred = answer
        else:
            self._send_reply(answer)

    def send_deferred(self) -> None:
        answer, self.deferred = self.deferred, None
        if answer is not None:
            self._send_reply(answer)

    def _send_reply(self, answer: LocalReply) -> None:
        self.add_flag(answer.flag)
        self.details = answer.details
        if not self.complete or answer.close:
            self.keep_alive = False
        fields = [STATUS_LINES[answer.status], *lines(answer.head_fields())]
        if self.on_answer:
            fields += lines(self.on_answer)
        fields.append(b"date: " + http_date())
        fields.append(b"server: " + self.http.settings.server_name)
        self.send_head(answer.status, fields, True, False)
        if answer.body and self.method != b"HEAD":
            self.response_body(answer.body)
        self.response_end()

    # -- the end ------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Tell metrics and log, then hand the connection back."""
        self._record()
        self.conn.exchange_done(self.keep_alive and self.complete)

    def abort(self, flag: str, details: str) -> None:
        """The answer broke off after its head was sent: all that is left is to close the connection."""
        self.add_flag(flag)
        self.details = details
        self.keep_alive = False
        self.response_head = None
        self._record()
        self.conn.current = None
        self.conn.closing = True
        self.conn.transport.close()

    def idle(self) -> None:
        """Nothing has moved for too long (`stream_idle_timeout`)."""
        router.cancel(self)
        if self.head_sent or self.response_head is not None:
            self.abort(Flag.STREAM_IDLE_TIMEOUT, "stream_idle_timeout")
        else:
            self.reply(reply.STREAM_TIMEOUT if self.complete else reply.REQUEST_TIMEOUT)

    def client_gone(self) -> None:
        """The client closed before it had its answer."""
        self.details = "downstream_remote_disconnect"
        self.abandon(Flag.DOWNSTREAM_GONE)

    def abandon(self, flag: str) -> None:
        """Stop what runs for this request; nobody waits for the answer any more."""
        self.add_flag(flag)
        self.deferred = None
        router.cancel(self)
        self._record()

    def _record(self) -> None:
        if self.retrying and self.cluster is not None:
            self.cluster.breaker.retries -= 1
            self.retrying = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.duration = perf_counter() - self.began
        for record in self.http.on_finish:
            record(self)

    def add_flag(self, flag: str) -> None:
        """Note a response flag; several are joined by comma, as in Envoy's log."""
        if flag and flag not in self.flags.split(","):
            self.flags = f"{self.flags},{flag}" if self.flags else flag

    # -- flow control -------------------------------------------------------------------------------------

    def pause_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.pause_reading()

    def resume_upstream(self) -> None:
        if self.upstream is not None:
            self.upstream.resume_reading()

    # -- what filters and matchers ask --------------------------------------------------------------------

    @property
    def client_address(self) -> str:
        """Who asked first, as far as it can be trusted: Envoy's trusted client address."""
        settings = self.http.settings
        hops = settings.trusted_hops + (0 if settings.use_remote_address else 1)
        forwarded = (self.header(b"x-forwarded-for") or b"").decode("latin-1")
        chain = [part.strip() for part in forwarded.split(",") if part.strip()]
        if settings.use_remote_address:
            chain = chain[:-1]  # the last one is ours
        return chain[-hops] if hops and len(chain) >= hops else self.conn.remote[0]

    def header(self, name: bytes) -> bytes | None:
        """The value of a request header (name in lower case), several joined by comma, or None."""
        found = None
        for key, value in self.headers:
            if key == name:
                found = value if found is None else found + b"," + value
        return found


__all__ = ["Exchange", "reply"]
