"""What the control plane tells about itself, over plain HTTP on port 15014: readiness, metrics, who has
which configuration.

Paths as istiod's where it has them (/ready, /metrics, /debug/syncz, /debug/config_dump). Read-only; no
private key passes here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from pydantic import BaseModel

from mesh.control.analyze import analyze
from mesh.control.compile import CLUSTER, ENDPOINT, LISTENER, ROUTE, compile
from mesh.control.publish import Connection, Publisher
from mesh.control.snapshot import ORDER, SHORT
from mesh.control.stream import TypeState
from mesh.control.world import World

DUMP_KEYS = {LISTENER: "listeners", ROUTE: "routes", CLUSTER: "clusters", ENDPOINT: "endpoints"}
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Monitor:
    """The HTTP application. `counts` gives further counters by metric name, with their help text."""

    def __init__(
        self,
        publisher: Publisher,
        ready: Callable[[], str],
        counts: Callable[[], Mapping[str, tuple[str, float]]],
    ) -> None:
        self._publisher, self._ready, self._counts = publisher, ready, counts
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/ready", self._get_ready),
                web.get("/live", self._get_live),
                web.get("/metrics", self._get_metrics),
                web.get("/debug/syncz", self._get_syncz),
                web.get("/debug/config_dump", self._get_config_dump),
                web.get("/debug/world", self._get_world),
                web.get("/debug/analyze", self._get_analyze),
            ]
        )
        return app

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """The metrics, with istiod's names (prometheus_client calls this)."""
        publisher = self._publisher
        refusals = sum(len(connection.refusals) for connection in publisher.connections)
        yield GaugeMetricFamily("pilot_xds", "Connected proxies.", value=len(publisher.connections))
        yield GaugeMetricFamily("pilot_xds_rejected", "Types that proxies refuse at present.", value=refusals)
        yield CounterMetricFamily("pilot_xds_pushes", "Discovery responses sent.", value=publisher.pushes)
        for name, (text, value) in self._counts().items():
            yield CounterMetricFamily(name, text, value=value)

    async def _get_ready(self, request: web.Request) -> web.Response:
        missing = self._ready()
        return web.Response(text=missing or "ready\n", status=503 if missing else 200)

    async def _get_live(self, request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def _get_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": PROMETHEUS})

    async def _get_syncz(self, request: web.Request) -> web.Response:
        connections = sorted(self._publisher.connections, key=lambda connection: connection.name)
        return _json({"proxies": [sync_row(connection) for connection in connections]})

    async def _get_config_dump(self, request: web.Request) -> web.Response:
        name = request.query.get("proxy", "")
        connection = next(
            (one for one in self._publisher.connections if name in (one.name, one.proxy.id)), None
        )
        if connection is None:
            known = ", ".join(sorted(one.name for one in self._publisher.connections)) or "none"
            return _json({"error": f"no connected proxy is called {name!r}; connected are: {known}"}, 404)
        return _json(config_dump(connection))

    async def _get_world(self, request: web.Request) -> web.Response:
        world = self._publisher.world
        return _json(describe(world) if world is not None else {})

    async def _get_analyze(self, request: web.Request) -> web.Response:
        world = self._publisher.world
        return _json({"findings": [asdict(one) for one in analyze(world)] if world is not None else []})


def sync_row(connection: Connection) -> dict[str, Any]:
    """Where one proxy stands, type by type."""
    types = connection.stream.types
    row: dict[str, Any] = {
        "proxy": connection.name,
        "id": connection.proxy.id,
        "type": connection.proxy.type,
        "connected": connection.connected,
        "types": {SHORT[url]: _type_row(connection, url, types[url]) for url in ORDER if url in types},
    }
    return row | ({"problem": connection.problem} if connection.problem else {})


def _type_row(connection: Connection, type_url: str, state: TypeState) -> dict[str, Any]:
    """SYNCED, STALE (an answer is awaited, or it has been refused) or NOT SENT, as istioctl proxy-status
    says it.
    """
    current = connection.stream.is_current(type_url)
    shown = "NOT SENT" if not state.answered_once else "SYNCED" if current else "STALE"
    row = {
        "state": shown,
        "sent": state.sent_version,
        "acked": state.accepted_version,
        "resources": len(state.sent),
    }
    return row | ({"error": state.refusal.reason} if state.refusal else {})


def config_dump(connection: Connection) -> dict[str, Any]:
    """What the proxy is given, resource by resource, with the field names of Envoy's own JSON."""
    if connection.world is None:
        return {key: [] for key in DUMP_KEYS.values()}
    resources = compile(connection.world, connection.proxy).by_type
    return {
        key: [
            MessageToDict(message, preserving_proto_field_name=True)
            for _, message in sorted(resources.get(type_url, {}).items())
        ]
        for type_url, key in DUMP_KEYS.items()
    }


def describe(world: World) -> dict[str, Any]:
    """The world as JSON: names and records."""
    return {
        "mesh": asdict(world.mesh),
        "namespaces": sorted(world.namespaces),
        "services": [_plain(one) for _, one in sorted(world.services.items())],
        "endpoints": {
            ".".join(key): [_plain(one) for one in found] for key, found in sorted(world.endpoints.items())
        },
        "workloads": [_plain(one) for _, one in sorted(world.workloads.items())],
        "config": {
            kind: [_plain(one) for one in found.values()] for kind, found in sorted(world.config.items())
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    if is_dataclass(value) and not isinstance(value, type):
        names = value.__dataclass_fields__
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        text=json.dumps(value, indent=1) + "\n", status=status, content_type="application/json"
    )
