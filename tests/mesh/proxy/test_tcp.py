"""Ports that are not HTTP: bytes both ways, half-close, servers that speak first, access by certificate."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support import xds
from tests.support.http import connect
from tests.support.logs import LogServer
from tests.support.proxies import Lab, until


async def _serve(lab: Lab, handler: Any, **fields: Any) -> asyncio.Server:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    await lab.push(
        xds.cluster("raw"),
        xds.endpoints("raw", server.sockets[0].getsockname()[:2]),
        xds.listener("tcp", lab.address, 7000, xds.tcp_proxy("raw", **fields)),
    )
    await until(lambda: "raw" in lab.proxy.runtime.clusters and "tcp" in lab.proxy.runtime.listeners)
    return server


async def test_each_side_may_end_first(lab: Lab) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()  # until the client ends
        writer.write(b"%d" % len(data))
        writer.close()

    server = await _serve(lab, count)
    client = await connect(lab.address, 7000)
    await client.send(b"x" * 300_000)
    client.writer.write_eof()
    assert await client.closed() == b"300000"
    server.close()


async def test_a_server_may_speak_first(lab: Lab) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.write(await reader.readline())
        writer.close()

    server = await _serve(lab, greet)
    client = await connect(lab.address, 7000)
    assert await client.reader.readline() == b"220 hello\r\n"
    await client.send(b"bye\r\n")
    assert await client.closed() == b"bye\r\n"
    server.close()


async def test_without_an_endpoint_the_connection_is_closed(lab: Lab) -> None:
    await lab.push(xds.listener("tcp", lab.address, 7000, xds.tcp_proxy("nothing")))
    client = await connect(lab.address, 7000)
    try:
        assert await client.closed() == b""
    except ConnectionResetError:
        pass


async def test_connections_are_logged(lab: Lab) -> None:
    logs = await LogServer().start()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    kind = xds.TYPE + "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"
    log = xds.access_log("inbound", "logs")
    log["typed_config"]["@type"] = kind
    await lab.push(xds.cluster("logs"), xds.endpoints("logs", ("127.0.0.1", logs.port)))
    server = await _serve(lab, echo, access_log=[log])
    client = await connect(lab.address, 7000)
    await client.send(b"hello")
    client.writer.write_eof()
    assert await client.closed() == b"hello"
    client.close()
    [(name, entry)] = await logs.tcp_entries(1)
    assert name == "inbound"
    assert entry.common_properties.upstream_cluster == "raw"
    assert (entry.connection_properties.received_bytes, entry.connection_properties.sent_bytes) == (5, 5)
    server.close()
    await logs.stop()


async def test_access_rules_hold_for_connections_too(lab: Lab) -> None:
    rbac = {
        "name": "envoy.filters.network.rbac",
        "typed_config": {
            "@type": xds.TYPE + "envoy.extensions.filters.network.rbac.v3.RBAC",
            "stat_prefix": "x",
            "rules": {
                "action": "DENY",
                "policies": {
                    "p": {"permissions": [{"destination_port": 7000}], "principals": [{"any": True}]}
                },
            },
        },
    }
    chain = {"filters": [rbac, xds.tcp_proxy("one")]}
    await lab.push(xds.listener("tcp", lab.address, 7000, chain))
    client = await connect(lab.address, 7000)
    try:
        assert await client.closed() == b""
    except ConnectionResetError:
        pass
    assert lab.one.connections == 0


async def test_a_connection_over_which_nothing_goes_is_closed(lab: Lab) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await _serve(lab, wait, idle_timeout="0.05s")
    client = await connect(lab.address, 7000)
    closed = asyncio.create_task(client.closed())
    while not closed.done():
        lab.proxy.runtime.sweep()
        await asyncio.sleep(0.02)
    server.close()
