"""HTTP/1.1 as clients speak it, well and badly. What Envoy does with the same bytes is in tests/oracle."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import xds
from tests.support.proxies import Lab, until

GET = b"GET /%b HTTP/1.1\r\nhost: test\r\n\r\n"


async def test_requests_sent_ahead_are_answered_in_order(lab: Lab) -> None:
    client = await lab.connect()
    await client.send(GET % b"a?delay=0.05" + GET % b"b" + GET % b"c?delay=0.01")
    paths = [(await client.answer()).json()["path"] for _ in range(3)]
    assert paths == ["/a?delay=0.05", "/b", "/c?delay=0.01"]


async def test_bodies_sent_ahead_reach_their_own_request(lab: Lab) -> None:
    client = await lab.connect()
    post = b"POST /%b HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n%b"
    await client.send(post % (b"a?delay=0.05", 3, b"abc") + post % (b"b", 5, b"hello") + GET % b"c")
    bodies = [(await client.answer()).json()["body"] for _ in range(3)]
    assert bodies == [3, 5, 0]


async def test_many_requests_sent_ahead_wait_without_loss(lab: Lab) -> None:
    client = await lab.connect()
    count = 500
    sender = asyncio.create_task(client.send(b"".join(GET % str(n).encode() for n in range(count))))
    for number in range(count):
        assert (await client.answer()).json()["path"] == f"/{number}"
    await sender


async def test_a_request_in_any_pieces_is_the_same_request(lab: Lab) -> None:
    whole = b"POST /x HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwiki\r\n3\r\nabc\r\n0\r\n\r\n"
    client = await lab.connect()
    for size in (1, 2, 7):
        for start in range(0, len(whole), size):
            await client.send(whole[start : start + size])
            await asyncio.sleep(0)
        assert (await client.answer()).json()["body"] == 7


async def test_expect_100_continue_is_answered_before_the_body(lab: Lab) -> None:
    client = await lab.connect()
    await client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
    assert (await client.answer()).status == 100
    await client.send(b"hello")
    answer = await client.answer()
    assert answer.json()["body"] == 5
    assert "expect" not in dict(answer.json()["headers"])


async def test_a_refused_upload_is_answered_at_once_and_the_connection_closed(lab: Lab) -> None:
    await lab.route({"match": {"prefix": "/"}, "direct_response": {"status": 413}})
    client = await lab.connect()
    await client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\nsome")
    answer = await client.answer()
    assert (answer.status, answer.header("connection")) == (413, "close")
    await client.closed()


async def test_a_refused_small_post_keeps_its_connection(lab: Lab) -> None:
    await lab.route({"match": {"prefix": "/"}, "direct_response": {"status": 418}})
    client = await lab.connect()
    for _ in range(2):
        assert (await client.request(method="POST", body=b"hello")).status == 418


async def test_http_10_is_served_where_it_is_accepted(lab: Lab) -> None:
    await lab.push(
        xds.listener(
            "web", lab.address, 8080, xds.hcm("routes", http_protocol_options={"accept_http_10": True})
        )
    )
    client = await lab.connect()
    await client.send(b"GET /?chunked=1 HTTP/1.0\r\nhost: test\r\n\r\n")
    answer = await client.answer()
    assert answer.status == 200 and answer.header("transfer-encoding") is None
    kept = await lab.connect()
    for _ in range(2):
        await kept.send(b"GET / HTTP/1.0\r\nhost: test\r\nconnection: keep-alive\r\n\r\n")
        assert (await kept.answer()).header("connection") == "keep-alive"


async def test_a_head_that_never_ends_is_cut_off(lab: Lab) -> None:
    client = await lab.connect()
    await client.send(b"GET / HTTP/1.1\r\nhost: test\r\n")
    try:
        for number in range(200):
            await client.send(b"x-%d: %b\r\n" % (number, b"a" * 1000))
    except ConnectionError:
        pass
    else:
        assert (await client.answer()).status == 431


async def test_a_client_that_leaves_frees_the_upstream_connection(lab: Lab) -> None:
    client = await lab.connect()
    await client.send(GET % b"?delay=30")
    cluster = lab.proxy.runtime.clusters["one"]
    await until(lambda: cluster.breaker.requests == 1)
    client.close()
    await until(lambda: cluster.breaker.requests == 0 and cluster.breaker.connections == 0)


ATTACKS = [
    b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: t\r\nx: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: t\r\nx: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: t\nx: a\n\n",
    b"GET / HTTP/1.1\r\nhost: t\r\nhost: u\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_could_smuggle_is_refused_and_nothing_behind_it_served(lab: Lab, attack: bytes) -> None:
    client = await lab.connect()
    await client.send(attack + GET % b"smuggled")
    received = await client.closed()
    assert received.startswith((b"HTTP/1.1 400", b"HTTP/1.1 426", b"HTTP/1.1 501"))
    assert received.count(b"HTTP/1.1") == 1
    assert lab.one.requests == 0


_PIECES = [
    b"GET ", b"POST ", b"/", b"a", b"*", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"host: test", b": ",
    b"content-length: ", b"transfer-encoding: chunked", b"connection: ", b"close", b"upgrade", b"keep-alive",
    b"expect: 100-continue", b"0", b"5", b"ffffffff", b"hello", b"\x00", b"\xff", b";", b"\r\n\r\n", b"0\r\n\r\n",
    b"http://", b"%2e%2e/", b"GET / HTTP/1.1\r\nhost: test\r\n\r\n",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=12)), max_size=14))
def test_no_bytes_break_the_parser(pieces: list[bytes]) -> None:
    from tests.support.offline import converse

    sent, problems = converse(b"".join(pieces))
    assert problems == []
    assert sent == b"" or sent.startswith(b"HTTP/1.1 ")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_where_the_bytes_are_cut_makes_no_difference(data: st.DataObject) -> None:
    from tests.support.offline import converse

    whole = data.draw(st.sampled_from([*ATTACKS, GET % b"x" + GET % b"y", b"GET / HTTP/1.0\r\n\r\n"]))
    cut = data.draw(st.integers(0, len(whole)))
    assert converse(whole[:cut], whole[cut:])[0].split(b"\r\n")[0] == converse(whole)[0].split(b"\r\n")[0]
