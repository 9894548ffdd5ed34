"""TLS between two ends without a network, its records cut anywhere."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.ca.identity import Identity
from mesh.ca.issue import issue
from mesh.proxy.identity import Certificate, Secrets, new_key_and_request
from mesh.proxy.tls import TlsSpec
from mesh.proxy.tls_stream import TlsStream
from tests.support.proxies import root


def secrets() -> Secrets:
    key, csr = new_key_and_request()
    identity = Identity("cluster.local", "default", "a")
    found = Secrets()
    found.set_certificate(
        Certificate(issue(root(), csr, identity, timedelta(hours=1), datetime.now(UTC)), key)
    )
    return found


SECRETS = secrets()
SPEC = TlsSpec("default", "ROOTCA")


class Inner(asyncio.Protocol):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.events: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")


class Wire:
    """A real transport as far as TlsStream needs one: keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def take(self, count: int) -> bytes:
        piece, self.sent = self.sent[:count], self.sent[count:]
        return piece

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


class Ends:
    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        self.inner = Inner(), Inner()
        self.wires = Wire(), Wire()
        self.streams = (
            TlsStream(self.inner[0], client, server=False),
            TlsStream(self.inner[1], server, server=True),
        )
        for stream, wire in zip(self.streams, self.wires, strict=True):
            stream.connection_made(cast(asyncio.Transport, wire))

    def carry(self, cuts: list[int]) -> None:
        """Move all bytes, in pieces of the given sizes in turn."""
        turn = 0
        while self.wires[0].sent or self.wires[1].sent:
            for side in (0, 1):
                if self.wires[side].sent:
                    self.streams[1 - side].data_received(self.wires[side].take(cuts[turn % len(cuts)]))
                    turn += 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 1), st.binary(min_size=1, max_size=40_000)), max_size=6),
)
def test_what_goes_in_comes_out_however_records_are_cut(
    cuts: list[int], said: list[tuple[int, bytes]]
) -> None:
    async def talk() -> None:
        ends = Ends(SECRETS.client_context(SPEC), SECRETS.server_context(SPEC, True))
        ends.carry(cuts)
        assert all(stream.is_open and stream.established.done() for stream in ends.streams)
        for side, data in said:
            ends.streams[side].write(data)
            ends.carry(cuts)
        for side in (0, 1):
            assert ends.inner[1 - side].heard == b"".join(data for who, data in said if who == side)
        ends.streams[0].close()
        ends.carry(cuts)
        assert ends.wires[1].closed  # told by close_notify

    asyncio.run(talk())


async def test_a_refused_handshake_fails_and_the_inner_side_hears_nothing() -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    ends = Ends(stranger, SECRETS.server_context(SPEC, True))
    ends.carry([65536])
    with pytest.raises(ssl.SSLError, match="CERTIFICATE"):
        await ends.streams[1].established
    assert ends.inner[1].events == [] and ends.wires[1].closed


async def test_plain_bytes_are_no_handshake() -> None:
    ends = Ends(SECRETS.client_context(SPEC), SECRETS.server_context(SPEC, True))
    ends.streams[1].data_received(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await ends.streams[1].established


async def test_a_broken_record_ends_the_connection() -> None:
    ends = Ends(SECRETS.client_context(SPEC), SECRETS.server_context(SPEC, True))
    ends.carry([65536])
    ends.streams[0].write(b"secret")
    record = bytearray(ends.wires[0].take(65536))
    record[-1] ^= 1
    ends.streams[1].data_received(bytes(record))
    assert ends.inner[1].heard == b"" and ends.wires[1].closed


async def test_both_hear_that_the_connection_is_lost() -> None:
    ends = Ends(SECRETS.client_context(SPEC), SECRETS.server_context(SPEC, True))
    ends.carry([65536])
    for stream in ends.streams:
        stream.connection_lost(None)
    assert [inner.events for inner in ends.inner] == [["made", "lost"], ["made", "lost"]]
