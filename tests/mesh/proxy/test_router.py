"""What happens between a route and an answer: timeouts, retries, breakers, faults, streaming."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import Any

import pytest

from tests.support import xds
from tests.support.proxies import Lab, until

FAULT = "envoy.filters.http.fault"
ALWAYS = {"numerator": 100, "denominator": "HUNDRED"}


async def test_a_slow_upstream_is_given_up(lab: Lab) -> None:
    await lab.route(xds.rule("one", route={"timeout": "0.05s"}))
    client = await lab.connect()
    answer = await client.request("/?delay=5")
    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    assert (await client.request("/")).status == 200
    assert lab.proxy.runtime.clusters["one"].breaker.requests == 0


async def test_each_try_has_its_own_timeout(lab: Lab) -> None:
    policy = {"retry_on": "reset", "num_retries": 2, "per_try_timeout": "0.05s"}
    await lab.route(xds.rule("one", route={"retry_policy": policy, "timeout": "0s"}))
    client = await lab.connect()
    assert (await client.request("/?delay=5")).status == 504
    assert lab.one.connections == 3


async def test_retries_go_to_another_endpoint(lab: Lab) -> None:
    await lab.push(xds.endpoints("one", ("127.0.0.1", 1), lab.two.address))
    policy = {
        "retry_on": "connect-failure",
        "num_retries": 3,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}],
        "retry_back_off": {"base_interval": "0.001s"},
    }
    await lab.route(xds.rule("one", route={"retry_policy": policy}))
    client = await lab.connect()
    for _ in range(6):
        assert (await client.request()).header("x-upstream") == "two"


async def test_a_body_is_sent_again_with_a_retry(lab: Lab) -> None:
    policy = {"retry_on": "5xx", "num_retries": 1, "retry_back_off": {"base_interval": "0.001s"}}
    await lab.route(xds.rule("one", route={"retry_policy": policy}))
    client = await lab.connect()
    answer = await client.request("/?status=500", method="POST", body=b"hello")
    assert (answer.status, answer.json()["body"]) == (500, 5)
    assert lab.one.requests == 2


async def test_the_breaker_refuses_what_is_too_much(lab: Lab) -> None:
    limits = {"thresholds": [{"max_requests": 1, "max_connections": 1, "max_pending_requests": 1}]}
    await lab.push(xds.cluster("one", circuit_breakers=limits))
    first, second = await lab.connect(), await lab.connect()
    under_way = asyncio.create_task(first.request("/?delay=0.2"))
    await until(lambda: lab.proxy.runtime.clusters["one"].breaker.requests == 1)
    answer = await second.request()
    assert (answer.status, answer.header("x-envoy-overloaded")) == (503, "true")
    assert (await under_way).status == 200
    assert (await second.request()).status == 200


async def test_waiting_requests_get_the_connection_that_becomes_free(lab: Lab) -> None:
    await lab.push(xds.cluster("one", circuit_breakers={"thresholds": [{"max_connections": 1}]}))
    clients = [await lab.connect() for _ in range(4)]
    answers = await asyncio.gather(*(client.request("/?delay=0.02") for client in clients))
    assert {answer.status for answer in answers} == {200}
    assert lab.one.connections == 1


async def test_faults_delay_and_abort(lab: Lab) -> None:
    manager = xds.hcm("routes", filters=[{"name": FAULT, "typed_config": {"@type": xds.FAULT}}])
    await lab.push(xds.listener("web", lab.address, 8080, manager))
    config = {
        "@type": xds.FAULT,
        "delay": {"fixed_delay": "0.1s", "percentage": ALWAYS},
        "abort": {"http_status": 418, "percentage": ALWAYS},
        "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}],
    }
    await lab.route(xds.rule("one", typed_per_filter_config={FAULT: config}))
    client = await lab.connect()
    assert (await client.request()).status == 200
    began = time.perf_counter()
    answer = await client.request(headers={"end-user": "jason"})
    assert (answer.status, answer.body) == (418, b"fault filter abort")
    assert time.perf_counter() - began >= 0.1


async def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(lab: Lab) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    await lab.push(xds.endpoints("one", server.sockets[0].getsockname()[:2]))
    client = await lab.connect()
    with pytest.raises(asyncio.IncompleteReadError):
        await client.request()
    server.close()


async def test_an_answer_that_is_no_http_is_a_bad_gateway(lab: Lab) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"what?\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    await lab.push(xds.endpoints("one", server.sockets[0].getsockname()[:2]))
    client = await lab.connect()
    answer = await client.request()
    assert answer.status in (502, 503) and b"protocol error" in answer.body
    server.close()


async def test_interim_answers_are_not_taken_for_the_answer(lab: Lab) -> None:
    async def hints(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        )
        await writer.drain()

    server = await asyncio.start_server(hints, "127.0.0.1", 0)
    await lab.push(xds.endpoints("one", server.sockets[0].getsockname()[:2]))
    client = await lab.connect()
    answer = await client.request()
    assert (answer.status, answer.body) == (200, b"ok")
    server.close()


SIZE = 64 * 1024 * 1024


async def _peak(work: Any) -> int:
    """The most memory that Python held more than before while `work` ran, in bytes."""
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_a_large_answer_to_a_slow_client_needs_little_memory(lab: Lab) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
        piece = b"x" * 65536
        for _ in range(SIZE // len(piece)):
            writer.write(piece)
            await writer.drain()

    async def download() -> None:
        client = await lab.connect()
        await client.send(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)  # the client does not read: everything on the way has to fill up
        left = SIZE
        while left:
            left -= len(await client.reader.read(262144))

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    await lab.push(xds.endpoints("one", server.sockets[0].getsockname()[:2]))
    assert await _peak(download()) < 8 * 1024 * 1024
    server.close()


async def test_a_large_upload_to_a_slow_upstream_needs_little_memory(lab: Lab) -> None:
    async def sip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        left = SIZE
        while left:
            left -= len(await reader.read(262144))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def upload() -> None:
        client = await lab.connect()
        await client.send(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n" % SIZE)
        piece = b"x" * 65536
        for _ in range(SIZE // len(piece)):
            await client.send(piece)
        assert (await client.answer()).status == 200

    server = await asyncio.start_server(sip, "127.0.0.1", 0)
    await lab.push(xds.endpoints("one", server.sockets[0].getsockname()[:2]))
    assert await _peak(upload()) < 8 * 1024 * 1024
    server.close()


async def test_endpoints_that_come_and_go_fail_no_request(lab: Lab) -> None:
    stop = asyncio.Event()
    names: list[str | None] = []

    async def visit() -> None:
        client = await lab.connect()
        while not stop.is_set():
            answer = await client.request("/?delay=0.001")
            assert answer.status == 200
            names.append(answer.header("x-upstream"))

    visitors = [asyncio.create_task(visit()) for _ in range(4)]
    for number in range(20):
        places = [lab.two.address] if number % 2 else [lab.one.address, lab.two.address]
        await lab.push(xds.endpoints("one", *places))
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*visitors)
    assert set(names) == {"one", "two"}


async def test_an_endpoint_that_only_fails_rests(lab: Lab) -> None:
    detection = {"consecutive_5xx": 3, "base_ejection_time": "0.3s", "max_ejection_percent": 100}
    await lab.push(
        xds.cluster("one", outlier_detection=detection, common_lb_config={"healthy_panic_threshold": {}}),
        xds.endpoints("one", lab.one.address, lab.two.address),
    )
    await lab.route(xds.rule("one", {"prefix": "/"}))
    client = await lab.connect()
    cluster = lab.proxy.runtime.clusters["one"]
    while not any(endpoint.ejected for endpoint in cluster.endpoints.values()):
        await client.request("/?status=500")
    alone = {(await client.request()).header("x-upstream") for _ in range(4)}
    assert len(alone) == 1
    await until(lambda: not any(endpoint.ejected for endpoint in cluster.endpoints.values()))
    assert {(await client.request()).header("x-upstream") for _ in range(8)} == {"one", "two"}


async def test_hosts_outside_the_mesh_are_reached_by_their_address(lab: Lab) -> None:
    passthrough = {
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": ":authority"},
    }
    await lab.push(xds.cluster("passthrough", **passthrough))
    await lab.route(xds.rule("passthrough"))
    client = await lab.connect()
    host, port = lab.two.address
    assert (await client.request(host=f"{host}:{port}")).header("x-upstream") == "two"
    assert (await client.request(host="nowhere.example")).status == 503


async def test_copies_go_to_the_mirror_and_its_answers_nowhere(lab: Lab) -> None:
    seen: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            if b"content-length: 5" in seen[-1]:
                seen.append(await reader.readexactly(5))
            writer.write(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")

    server = await asyncio.start_server(record, "127.0.0.1", 0)
    await lab.push(xds.endpoints("two", server.sockets[0].getsockname()[:2]))
    await lab.route(
        xds.rule("one", route={"request_mirror_policies": [{"cluster": "two"}, {"cluster": "none"}]})
    )
    client = await lab.connect()
    answer = await client.request("/a", host="test:80")
    assert (answer.status, answer.header("x-upstream")) == (200, "one")
    await until(lambda: len(seen) == 1)
    assert seen[0].startswith(b"GET /a HTTP/1.1\r\nhost: test-shadow:80\r\n")
    assert (await client.request("/b", method="POST", body=b"hello")).json()["body"] == 5
    await until(lambda: len(seen) == 3)
    assert seen[1].startswith(b"POST /b") and seen[2] == b"hello"
    breaker = lab.proxy.runtime.clusters["two"].breaker
    await until(lambda: breaker.requests == 0)
    server.close()


async def test_only_the_wanted_share_is_mirrored(lab: Lab) -> None:
    half = {"default_value": {"numerator": 50, "denominator": "HUNDRED"}}
    await lab.route(
        xds.rule("one", route={"request_mirror_policies": [{"cluster": "two", "runtime_fraction": half}]})
    )
    client = await lab.connect()
    for _ in range(200):
        await client.request()
    await until(lambda: lab.proxy.runtime.clusters["two"].breaker.requests == 0)
    assert 60 < lab.two.requests < 140


async def test_a_request_in_which_nothing_moves_is_ended(lab: Lab) -> None:
    await lab.push(xds.listener("web", lab.address, 8080, xds.hcm("routes", stream_idle_timeout="0.05s")))
    await lab.route(xds.rule("one", route={"timeout": "0s"}))
    client = await lab.connect()
    pending = asyncio.create_task(client.request("/?delay=30"))
    while not pending.done():
        lab.proxy.runtime.sweep()
        await asyncio.sleep(0.02)
    assert (pending.result().status, pending.result().body) == (504, b"stream timeout")


async def test_a_connection_ends_with_its_last_allowed_request(lab: Lab) -> None:
    options = {"max_requests_per_connection": 2}
    await lab.push(
        xds.listener("web", lab.address, 8080, xds.hcm("routes", common_http_protocol_options=options))
    )
    client = await lab.connect()
    assert [(await client.request()).header("connection") for _ in range(2)] == [None, "close"]


async def test_idle_connections_are_closed_on_both_sides(lab: Lab) -> None:
    options = {"idle_timeout": "0.05s"}
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http = {
        "@type": xds.TYPE + kind,
        "common_http_protocol_options": options,
        "explicit_http_config": {"http_protocol_options": {}},
    }
    await lab.push(
        xds.cluster("one", typed_extension_protocol_options={kind: http}),
        xds.listener("web", lab.address, 8080, xds.hcm("routes", common_http_protocol_options=options)),
    )
    client = await lab.connect()
    await client.request()
    await asyncio.sleep(0.1)
    lab.proxy.runtime.sweep()
    await client.closed()
    await until(lambda: not lab.one.open)


@pytest.mark.parametrize(
    ("version", "start"), [("V1", b"PROXY TCP4 127.0.0.1 "), ("V2", b"\r\n\r\n\x00\r\nQUIT\n")]
)
async def test_the_proxy_protocol_tells_the_upstream_who_the_client_is(
    lab: Lab, version: str, start: bytes
) -> None:
    seen: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"host: test\r\n"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    kind = xds.TYPE + "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
    raw = xds.TYPE + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    config = {
        "@type": kind,
        "config": {"version": version},
        "transport_socket": {"name": "raw", "typed_config": {"@type": raw}},
    }
    await lab.push(
        xds.cluster("one", transport_socket={"name": "proxy", "typed_config": config}),
        xds.endpoints("one", server.sockets[0].getsockname()[:2]),
    )
    client = await lab.connect()
    for _ in range(2):
        assert (await client.request()).status == 200
    assert len(seen) == 2 and all(each.startswith(start) for each in seen)
    server.close()


async def test_connections_are_kept_alive_and_replaced_when_they_are_old(lab: Lab) -> None:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": xds.TYPE + kind,
        "common_http_protocol_options": {"max_connection_duration": "0.05s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    keepalive = {"tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 10, "keepalive_interval": 5}}
    await lab.push(
        xds.cluster(
            "one", upstream_connection_options=keepalive, typed_extension_protocol_options={kind: options}
        )
    )
    client = await lab.connect()
    await client.request()
    await client.request("/?delay=0.06")
    await client.request()
    assert lab.one.connections == 2


async def test_a_retry_budget_grows_with_what_is_under_way(lab: Lab) -> None:
    from mesh.proxy.breaker import Breaker

    breaker = Breaker(retry_budget=(0.2, 3))
    breaker.retries = 3
    assert not breaker.may_retry
    breaker.requests = 20
    assert breaker.may_retry


async def test_failures_to_connect_may_be_counted_apart(lab: Lab) -> None:
    detection = {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "consecutive_5xx": 0,
        "enforcing_consecutive_local_origin_failure": 100,
        "max_ejection_percent": 100,
    }
    await lab.push(
        xds.cluster("one", outlier_detection=detection, common_lb_config={"healthy_panic_threshold": {}}),
        xds.endpoints("one", ("127.0.0.1", 1), lab.two.address),
    )
    client = await lab.connect()
    cluster = lab.proxy.runtime.clusters["one"]
    for _ in range(8):
        await client.request()
    assert [endpoint.ejected for endpoint in cluster.endpoints.values()] == [True, False]
