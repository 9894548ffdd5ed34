"""Finished requests reach the access log service, and its absence hurts nobody."""

from __future__ import annotations

from tests.support import xds
from tests.support.logs import LogServer
from tests.support.proxies import Lab, until


async def _log_to(lab: Lab, port: int) -> None:
    log = xds.access_log("outbound", "logs", additional_request_headers_to_log=["x-mine"])
    await lab.push(
        xds.cluster("logs"),
        xds.endpoints("logs", ("127.0.0.1", port)),
        xds.listener("web", lab.address, 8080, xds.hcm("routes", access_log=[log])),
    )


async def test_an_entry_says_what_happened(lab: Lab) -> None:
    logs = await LogServer().start()
    await _log_to(lab, logs.port)
    await lab.route(xds.rule("missing", {"prefix": "/missing"}), xds.rule("one", name="all"))
    client = await lab.connect()
    await client.request(
        "/a?b=c", headers={"x-mine": "yes", "user-agent": "test"}, method="POST", body=b"hello"
    )
    await client.request("/missing")
    (name, good), (_, bad) = await logs.entries(2)
    assert (name, logs.nodes[0].id) == ("outbound", lab.proxy.bootstrap.node_id)
    common, request, response = good.common_properties, good.request, good.response
    assert (request.path, request.authority, request.user_agent) == ("/a?b=c", "test", "test")
    assert (request.request_body_bytes, dict(request.request_headers)) == (5, {"x-mine": "yes"})
    assert (response.response_code.value, response.response_code_details) == (200, "via_upstream")
    assert (common.upstream_cluster, common.route_name) == ("one", "all")
    assert common.upstream_remote_address.socket_address.port_value == lab.one.address[1]
    assert 0 < common.duration.nanos < 10**9
    assert bad.response.response_code.value == 503
    assert bad.common_properties.response_flags.no_cluster_found
    await logs.stop()


async def test_requests_are_served_while_the_service_is_away_and_told_when_it_returns(lab: Lab) -> None:
    logs = await LogServer().start()
    port = logs.port
    await logs.stop()
    await _log_to(lab, port)
    client = await lab.connect()
    for _ in range(5):
        assert (await client.request()).status == 200
    again = await LogServer().start(port)
    assert len(await again.entries(5, seconds=20)) == 5
    await again.stop()


async def test_what_does_not_fit_is_counted(lab: Lab, monkeypatch: object) -> None:
    from mesh.proxy import access_log

    await _log_to(lab, 1)
    limit, access_log.HELD = access_log.HELD, 3
    try:
        client = await lab.connect()
        for _ in range(5):
            await client.request()
        await until(lambda: lab.proxy.access_logs.streams[0].dropped == 2)
    finally:
        access_log.HELD = limit
