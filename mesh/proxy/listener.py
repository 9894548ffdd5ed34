"""Sockets that clients connect to: accept, choose the filter chain, start TLS, hand over to HTTP or TCP.

Zeroth step of a request. With PERMISSIVE mutual TLS one port takes both: the first bytes are only looked at
(`MSG_PEEK`), the chain is chosen by them, and then TLS starts, or not, on the untouched connection (Envoy's
`tls_inspector`).

A listener that goes stops accepting and drains; its connections end when their requests have. A listener whose
address stays the same keeps its socket, so that no connection attempt meets a closed port, and hands the
connections of unchanged doors to its successor: their next request meets the new rules. (Envoy drains those
too, and so lets an old connection live by the old rules for a while. A DENY should not wait for that.)
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mesh.proxy.codec import ServerConnection
from mesh.proxy.hcm import DRAINING_IDLE
from mesh.proxy.hello import ClientHello, NeedMore, read_hello
from mesh.proxy.identity import SecretMissing
from mesh.proxy.listener_spec import ChainSpec, ListenerSpec
from mesh.proxy.original import Address, original_destination
from mesh.proxy.tcp import ClientConnection
from mesh.proxy.tls_stream import TlsStream

if TYPE_CHECKING:
    from mesh.proxy.hcm import HttpChain
    from mesh.proxy.tcp import TcpChain

log = logging.getLogger(__name__)

BACKLOG = 1024
PEEK = 16 * 1024
"""Bytes of a TLS ClientHello at most: one record."""
PEEK_AGAIN = 0.005
PEEK_LONGEST = 0.25
"""Seconds between looks at a ClientHello that comes in pieces."""


class Chain:
    """A filter chain at work."""

    __slots__ = ("http", "spec", "tcp")

    def __init__(self, spec: ChainSpec, http: HttpChain | None, tcp: TcpChain | None) -> None:
        self.spec = spec
        self.http = http
        self.tcp = tcp


class Listener:
    """A bound socket and the chains behind it."""

    __slots__ = (
        "_by_port",
        "_chains",
        "_default",
        "_find",
        "_loop",
        "_socket",
        "_tasks",
        "accepted",
        "rejected",
        "spec",
    )

    def __init__(
        self,
        spec: ListenerSpec,
        chains: Sequence[Chain],
        listening: socket.socket | None,
        find: Callable[[Address], Listener | None] = lambda _: None,
    ) -> None:
        """`find` knows the unbound listener for a destination."""
        self.spec = spec
        self._find = find
        self._socket: socket.socket | None = listening
        self._chains = [chain for chain in chains if chain.spec is not spec.default_chain]
        self._by_port = _by_port(self._chains)
        self._default = next((chain for chain in chains if chain.spec is spec.default_chain), None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.accepted = 0
        self.rejected = 0

    @property
    def chains(self) -> list[Chain]:
        return self._chains if self._default is None else [*self._chains, self._default]

    @property
    def port(self) -> int:
        """The bound port."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else 0

    def start(self) -> None:
        """Begin to accept (an unbound listener is given its connections)."""
        if self._socket is None:
            return
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def hand_over(self) -> socket.socket:
        """Stop accepting, but leave the socket open for the listener that takes this one's place."""
        listening, self._socket = self._socket, None
        assert listening is not None
        self._loop.remove_reader(listening.fileno())
        return listening

    def succeed(self, predecessor: Listener) -> None:
        """Take over the connections that came in by a door this listener has too; the others drain."""
        doors = {chain.spec.door: chain.http for chain in self.chains if chain.http is not None}
        for chain in predecessor.chains:
            if chain.http is None:
                continue
            heir = doors.get(chain.spec.door)
            if heir is not None:
                heir.take_over(chain.http)
            else:
                chain.http.drain()

    def close(self) -> None:
        """Stop accepting and drain."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self.drain()

    def drain(self) -> None:
        """HTTP connections end with their requests. TCP has no such moment: its connections stay."""
        for chain in self.chains:
            if chain.http is not None:
                chain.http.drain()

    def sweep(self, draining_idle: float = DRAINING_IDLE) -> None:
        """Close connections that have been silent for too long."""
        for chain in self.chains:
            if chain.http is not None:
                chain.http.sweep(draining_idle)
                chain.http.sweep_streams()
            if chain.tcp is not None:
                chain.tcp.sweep()

    @property
    def connections(self) -> int:
        return sum(len(chain.http.connections) for chain in self.chains if chain.http is not None)

    # -- a new connection ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take all that have come, but not so many that those already here must wait."""
        for _ in range(64):
            if self._socket is None:
                return
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("listener %s: cannot accept: %s; trying again in 1 s", self.spec.name, error)
                self._pause_accepting()
                return
            connection.setblocking(False)
            self.accepted += 1
            task = self._loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _pause_accepting(self) -> None:
        """Out of file descriptors: leave the connections in the backlog for a second."""
        assert self._socket is not None
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(1.0, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            meant: Address | None = None
            heir: Listener | None = None
            if self.spec.original_destination:
                meant = original_destination(connection)
                heir = self._find(meant) if self.spec.hands_off else None
            await (heir or self)._take(connection, meant)
        except (OSError, ssl.SSLError, TimeoutError, EOFError, SecretMissing) as error:
            self.rejected += 1
            log.debug("listener %s: connection refused: %s", self.spec.name, error)
            connection.close()

    async def _take(self, connection: socket.socket, meant: Address | None) -> None:
        """Find the chain for a connection that was meant for that address (None: for ours)."""
        hello = await self._hello(connection) if self.spec.inspect_tls else None
        chain = self._choose(hello, meant or self.spec.address)
        if chain is None:
            self.rejected += 1
            connection.close()
            return
        await self._start(chain, connection, hello.server_name if hello else "", meant)

    async def _hello(self, connection: socket.socket) -> ClientHello | None:
        try:
            return await self._inspect(connection)
        except TimeoutError:
            if self.spec.waits_for_hello:
                raise
            return None

    async def _inspect(self, connection: socket.socket) -> ClientHello | None:
        """Look at the first bytes without taking them: a TLS ClientHello, or None for anything else."""
        async with asyncio.timeout(self.spec.inspect_seconds):
            first = b""
            while len(first) < PEEK:
                first = await peek(connection, len(first))
                try:
                    return read_hello(first)
                except NeedMore:
                    continue
            return ClientHello()

    def _choose(self, hello: ClientHello | None, meant: Address) -> Chain | None:
        """The chain for a connection that was meant for this address, in Envoy's order: only chains of that
        port come into question, if there are any; of those the ones of the narrowest network around the
        address; then what the ClientHello says.
        """
        chains = self._by_port.get(meant[1]) or self._by_port.get(0) or []
        near = [(chain.spec.match.network_score(meant[0]), chain) for chain in chains]
        narrowest = max((score for score, _ in near if score is not None), default=None)
        best: tuple[tuple[int, int, int], Chain] | None = None
        for network, chain in near:
            if network is None or network != narrowest:
                continue
            if not self.spec.inspect_tls:
                match = chain.spec.match
                if not match.server_names and not match.alpn and match.transport in ("", "raw_buffer"):
                    return chain
                continue
            score = chain.spec.match.score(hello)
            if score is not None and (best is None or score > best[0]):
                best = (score, chain)
        return best[1] if best is not None else self._default

    async def _start(
        self, chain: Chain, connection: socket.socket, server_name: str, meant: Address | None
    ) -> None:
        tls = chain.spec.tls
        factory: Callable[[], asyncio.Protocol]
        if chain.http is not None:
            factory = partial(ServerConnection, chain.http, tls, server_name, meant)
        else:
            assert chain.tcp is not None
            factory = partial(ClientConnection, chain.tcp, tls, server_name, meant)
        if tls is None:
            await self._loop.connect_accepted_socket(factory, connection)
            return
        stream = TlsStream(factory(), tls.context(), server=True)
        await self._loop.connect_accepted_socket(lambda: stream, connection)
        await stream.established


def _by_port(chains: Sequence[Chain]) -> dict[int, list[Chain]]:
    """Chains by the destination port they want; those that want none under 0."""
    found: dict[int, list[Chain]] = {}
    for chain in chains:
        found.setdefault(chain.spec.match.port, []).append(chain)
    return found


async def peek(connection: socket.socket, beyond: int) -> bytes:
    """Wait until more than `beyond` bytes have come, and look at them. Raises EOFError if none will."""
    loop = asyncio.get_running_loop()
    pause = PEEK_AGAIN
    while True:
        try:
            data = connection.recv(PEEK, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await _readable(loop, connection)
            continue
        if not data:
            raise EOFError("the client closed before it said anything")
        if len(data) > beyond:
            return data
        if _hung_up(connection):
            raise EOFError("the client closed in the middle of its ClientHello")
        # What is not taken keeps the socket readable, so there is no event to wait for: look again, less and
        # less often, so that many such clients cost little.
        await asyncio.sleep(pause)
        pause = min(pause * 2, PEEK_LONGEST)


def _hung_up(connection: socket.socket) -> bool:
    """Whether the other side has closed, as far as the system can tell with bytes still unread (Linux)."""
    closed = getattr(select, "POLLRDHUP", 0)
    if not closed:
        return False
    poll = select.poll()
    poll.register(connection, closed)
    return bool(poll.poll(0))


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.fileno(), _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
