"""The HTTP API that answers questions about traffic; a notebook reads it through the API server's service
proxy.

    GET /api/series?by=destination_workload,destination_version&window=30&step=1&reporter=destination
    GET /api/requests?limit=20&response_code=503
    GET /api/graph?window=30
    GET /metrics   /ready   /health

`window` and `step` are seconds, `end` seconds since the epoch (now if left out). Every label may be given
as a filter, several times for "one of these". What is not understood is answered 400 with a sentence.
"""

import json
import math
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiohttp import web

from mesh.telemetry import graph
from mesh.telemetry.attributes import Labels
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.recent import KEPT, Recent
from mesh.telemetry.series import KEEP_S, TICK_S, Series, Window, window_before

LABELS = Labels._fields
MOST_STEPS = 2_400


class BadQuery(ValueError):
    """A question nobody can answer; str() is a sentence that names the parameter."""


class Queries:
    """The handlers. `missing` says what telemetry still waits for before it is ready."""

    def __init__(self, series: Series, recent: Recent, metrics: Metrics) -> None:
        self._series, self._recent, self._metrics = series, recent, metrics
        self.missing: Collection[str] = ()

    async def get_series(self, request: web.Request) -> web.Response:
        """Requests over time, by label."""
        now = time.time()
        asked = request.query
        window = _window(asked, now)
        by = [name for name in asked.get("by", "").split(",") if name]
        _known_labels("by", by)
        where = _filters(asked, ("by", "window", "step", "end"))
        lines = self._series.query(by, where, window)
        return _json(
            {
                "now": now,
                "start": window.start,
                "step": window.step,
                "kept_from": self._series.kept_from(now),
                "series": [line.as_json() for line in lines],
            }
        )

    async def get_requests(self, request: web.Request) -> web.Response:
        """The last requests, newest first."""
        limit = _number(request.query, "limit", 50.0)
        if not 1 <= limit <= KEPT or limit != int(limit):
            raise BadQuery(f"limit: give a whole number from 1 to {KEPT}")
        where = _filters(request.query, ("limit",), (*LABELS, "request_id"))
        return _json({"requests": [found.as_json() for found in self._recent.last(int(limit), where)]})

    async def get_graph(self, request: web.Request) -> web.Response:
        """Edges between workloads."""
        now = time.time()
        window = _window({**request.query, "step": str(TICK_S)}, now)
        where = _filters(request.query, ("window", "end"))
        lines = self._series.query(graph.BY, where, window)
        seconds = min(window.end, now) - window.start
        return _json({"now": now, "start": window.start, "edges": graph.edges(lines, seconds)})

    async def get_metrics(self, request: web.Request) -> web.Response:
        """Istio's standard metrics in Prometheus's text format."""
        return web.Response(
            body=self._metrics.exposition(time.time()),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def get_ready(self, request: web.Request) -> web.Response:
        """200 when addresses can be told; 503 with what is missing before."""
        if self.missing:
            return web.Response(status=503, text=f"waiting for {', '.join(self.missing)}\n")
        return web.Response(text="ready\n")


def query_app(queries: Queries) -> web.Application:
    """The HTTP API."""
    app = web.Application(middlewares=[_explain])
    app.router.add_get("/api/series", queries.get_series)
    app.router.add_get("/api/requests", queries.get_requests)
    app.router.add_get("/api/graph", queries.get_graph)
    app.router.add_get("/metrics", queries.get_metrics)
    app.router.add_get("/ready", queries.get_ready)
    app.router.add_get("/health", _health)
    return app


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="telemetry is healthy\n")


@web.middleware
async def _explain(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except BadQuery as error:
        return _json({"error": str(error)}, 400)
    return answer


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type="application/json")


def _number(asked: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(asked.get(name, default))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadQuery(f"{name}: {asked[name]!r} is no number")
    return value


def _window(asked: Mapping[str, str], now: float) -> Window:
    """The window of time a query asks for. Raises BadQuery."""
    length, step, end = (_number(asked, *given) for given in (("window", 30.0), ("step", 1.0), ("end", now)))
    if not 0 < length <= KEEP_S:
        raise BadQuery(f"window: give seconds, above 0 and up to {KEEP_S:g}, which is what telemetry keeps")
    if step < TICK_S or (step / TICK_S) % 1:
        raise BadQuery(f"step: give seconds, a multiple of {TICK_S:g}")
    if length / step > MOST_STEPS:
        raise BadQuery(f"step: {length:g} s make more than {MOST_STEPS} steps of {step:g} s")
    if not now - 10 * KEEP_S <= end <= now + KEEP_S:
        raise BadQuery(f"end: {end:g} is not near now ({now:.0f}), in seconds since the epoch")
    return window_before(end, length, step)


def _filters(
    asked: Any, parameters: Collection[str], names: Collection[str] = LABELS
) -> dict[str, list[str]]:
    """The filters among the parameters of a query. Raises BadQuery for what is neither."""
    given = [name for name in asked if name not in parameters]
    for name in given:
        if name not in names:
            known = ", ".join((*parameters, *names))
            raise BadQuery(f"{name}: there is no such parameter or label; there are {known}")
    return {name: asked.getall(name) for name in given}


def _known_labels(parameter: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in LABELS:
            raise BadQuery(f"{parameter}: there is no label {name!r}; there are {', '.join(LABELS)}")
