"""The proxy's own pages."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator

import pytest

from tests.support import xds
from tests.support.ads import AdsServer
from tests.support.echo import EchoServer
from tests.support.http import Answer, connect
from tests.support.proxies import environment, own_address, running, until


class Pages:
    def __init__(self, ads: AdsServer, address: str, app: EchoServer) -> None:
        self.ads, self.address, self.app = ads, address, app

    async def get(self, port: int, path: str, method: str = "GET") -> Answer:
        client = await connect(self.address, port)
        return await client.request(path, method=method)


@pytest.fixture
async def pages() -> AsyncIterator[Pages]:
    ads, address = await AdsServer().start(), own_address()
    app = await EchoServer("app").start(address, 9080)
    probers = {
        "/app-health/app/readyz": {"httpGet": {"path": "/healthz?status=200", "port": 9080}},
        "/app-health/app/livez": {"httpGet": {"path": "/?status=500", "port": 9080}},
        "/app-health/app/startupz": {"tcpSocket": {"port": 9080}},
        "/app-health/slow/livez": {"httpGet": {"path": "/?delay=5", "port": 9080}, "timeoutSeconds": 0.05},
        "/app-health/gone/livez": {"tcpSocket": {"port": 1}},
    }
    environ = environment(
        "app-v1",
        LAB_APP_ADDRESS=address,
        LAB_BIND_ADDRESS=address,
        PROXY_ADMIN_PORT="15000",
        STATUS_PORT="15020",
        ISTIO_HEALTH_PORT="15021",
        ISTIO_KUBE_APP_PROBERS=json.dumps(probers),
    )
    async with running(ads.port, environ) as proxy:
        yield_pages = Pages(ads, address, app)
        await until(lambda: _open(address, 15021))
        assert (await yield_pages.get(15021, "/healthz/ready")).status == 503
        await ads.serve(
            xds.cluster("app"),
            xds.endpoints("app", app.address),
            xds.listener("web", address, 8080, xds.hcm("routes")),
            xds.routes("routes", xds.host(xds.rule("app"))),
        )
        await until(lambda: proxy.ready)
        yield yield_pages
    await app.stop()
    await ads.stop()


def _open(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


async def test_ready_once_the_configuration_serves(pages: Pages) -> None:
    assert (await pages.get(15021, "/healthz/ready")).status == 200
    assert (await pages.get(15000, "/ready")).body == b"LIVE\n"


async def test_the_configuration_is_shown_as_envoy_shows_it(pages: Pages) -> None:
    dump = (await pages.get(15000, "/config_dump")).json()
    by_type = {config["@type"].rpartition(".")[2]: config for config in dump["configs"]}
    assert by_type["ClustersConfigDump"]["dynamic_active_clusters"][0]["cluster"]["name"] == "app"
    listener = by_type["ListenersConfigDump"]["dynamic_listeners"][0]
    assert listener["active_state"]["listener"]["address"]["socket_address"]["port_value"] == 8080
    assert by_type["RoutesConfigDump"]["dynamic_route_configs"][0]["route_config"]["name"] == "routes"
    assert by_type["EndpointsConfigDump"]["dynamic_endpoint_configs"]


async def test_clusters_and_listeners(pages: Pages) -> None:
    assert f"app::{pages.address}:9080::rq_total::0\n" in (await pages.get(15000, "/clusters")).body.decode()
    statuses = (await pages.get(15000, "/clusters?format=json")).json()["cluster_statuses"]
    assert statuses[0]["host_statuses"][0]["address"]["socket_address"]["port_value"] == 9080
    assert (await pages.get(15000, "/listeners")).body.decode() == f"web::{pages.address}:8080\n"
    assert (await pages.get(15000, "/listeners?format=json")).json()["listener_statuses"][0]["name"] == "web"


async def test_a_refused_push_shows_in_the_dump(pages: Pages) -> None:
    await pages.ads.serve(xds.routes("routes", xds.host({"match": {"prefix": "/"}})))
    await pages.ads.nacked()
    dump = (await pages.get(15000, "/config_dump")).json()
    routes = next(c for c in dump["configs"] if c["@type"].endswith("RoutesConfigDump"))
    assert "one of route" in routes["error_state"]["details"]


async def test_the_log_level_changes_by_post_only(pages: Pages) -> None:
    assert (await pages.get(15000, "/logging?level=debug")).status == 405
    assert b"debug" in (await pages.get(15000, "/logging?level=debug", "POST")).body
    assert (await pages.get(15000, "/logging?level=loud", "POST")).status == 400
    assert b"info" in (await pages.get(15000, "/logging?level=info", "POST")).body


async def test_drain_asks_clients_to_leave(pages: Pages) -> None:
    assert (await pages.get(15000, "/drain", "POST")).status == 200
    assert (await pages.get(8080, "/")).header("connection") == "close"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/app-health/app/readyz", 200),
        ("/app-health/app/livez", 500),
        ("/app-health/app/startupz", 200),
        ("/app-health/slow/livez", 504),
        ("/app-health/gone/livez", 503),
        ("/app-health/none/livez", 404),
    ],
)
async def test_the_apps_probes_are_asked_through_the_sidecar(pages: Pages, path: str, status: int) -> None:
    assert (await pages.get(15020, path)).status == status


async def test_metrics_are_on_the_merged_port(pages: Pages) -> None:
    await pages.get(8080, "/")
    body = (await pages.get(15020, "/stats/prometheus")).body
    assert b"istio_requests_total{" in body and b"envoy_control_plane_connected_state 1" in body


async def test_other_paths_say_what_there_is(pages: Pages) -> None:
    answer = await pages.get(15000, "/nonsense")
    assert answer.status == 404 and b"/config_dump" in answer.body
    assert (await pages.get(15000, "/help")).status == 200
    for path in ("/certs", "/server_info"):
        assert (await pages.get(15000, path)).json()
