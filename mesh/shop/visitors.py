"""`python -m mesh.shop.visitors`: people who visit the shop, and the HTTP API on port 9090 that steers them.

    GET    /api/plan    what they do now
    PUT    /api/plan    change some fields of it and start counting anew; a bad field changes nothing and is
                        answered 400 with its path
    GET    /api/stats   what came of the plan so far; ?window=10 for the last 10 seconds of it
    DELETE /api/stats   start counting anew
    GET    /health

They rest until told otherwise, unless VISITORS_RATE (requests a second) says how to begin; VISITORS_URL says
where.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

from mesh.shop.load import Load
from mesh.shop.plan import BadPlan, Plan, changed
from mesh.shop.serve import run
from mesh.shop.stats import KEEP_S, summary

log = logging.getLogger(__name__)

LOAD = web.AppKey("LOAD", Load)
FIRST_PLAN = web.AppKey("FIRST_PLAN", Plan)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body) + "\n", status=status, content_type="application/json")


async def _get_plan(request: web.Request) -> web.Response:
    return _json(request.app[LOAD].plan.model_dump())


async def _put_plan(request: web.Request) -> web.Response:
    load = request.app[LOAD]
    try:
        plan = changed(load.plan, json.loads(await request.read()))
    except BadPlan as error:
        problems = [{"path": path, "message": sentence} for path, sentence in error.problems]
        return _json({"error": str(error), "problems": problems}, 400)
    except ValueError as error:
        return _json({"error": f"the plan is no JSON: {error}", "problems": []}, 400)
    await load.follow(plan)
    log.info("new plan: %s", plan.model_dump_json(exclude_defaults=True))
    return _json(plan.model_dump())


async def _get_stats(request: web.Request) -> web.Response:
    load = request.app[LOAD]
    tally = load.stats.total
    if "window" in request.query:
        try:
            window = float(request.query["window"])
        except ValueError:
            window = 0.0
        if not 0 < window <= KEEP_S:
            return _json({"error": f"window: give seconds, above 0 and up to {KEEP_S}"}, 400)
        tally = load.stats.last(window, load.now())
    state = {
        "behind": load.behind,
        "in_flight": load.in_flight,
        "skipped": load.skipped,
        "running": load.running,
        "done": load.done,
    }
    return _json({**summary(tally), **state})


async def _delete_stats(request: web.Request) -> web.Response:
    request.app[LOAD].stats.reset()
    return web.Response(status=204)


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="visitors are healthy")


async def _visiting(app: web.Application) -> AsyncIterator[None]:
    load = app[LOAD] = Load()
    await load.follow(app[FIRST_PLAN])
    yield
    await load.close()


def visitors(plan: Plan) -> web.Application:
    """The visitors and their steering API, beginning with `plan`."""
    app = web.Application()
    app[FIRST_PLAN] = plan
    app.cleanup_ctx.append(_visiting)
    app.router.add_get("/api/plan", _get_plan)
    app.router.add_put("/api/plan", _put_plan)
    app.router.add_get("/api/stats", _get_stats)
    app.router.add_delete("/api/stats", _delete_stats)
    app.router.add_get("/health", _health)
    return app


def first_plan(environ: Mapping[str, str]) -> Plan:
    """The plan that VISITORS_RATE and VISITORS_URL ask for. Raises BadPlan."""
    change: dict[str, Any] = {}
    if environ.get("VISITORS_RATE"):
        try:
            change["rate"] = float(environ["VISITORS_RATE"])
        except ValueError:
            raise BadPlan([("rate", f"VISITORS_RATE is no number: {environ['VISITORS_RATE']!r}")]) from None
    if environ.get("VISITORS_URL"):
        change["url"] = environ["VISITORS_URL"]
    return changed(Plan(), change)


def main(argv: list[str] | None = None) -> int:
    """Run the visitors until told to stop. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mesh.shop.visitors", description="People who visit the shop."
    )
    parser.add_argument("--port", type=int, default=9090)
    chosen = parser.parse_args(argv)
    try:
        run(visitors(first_plan(os.environ)), chosen.port, "visitors")
    except BadPlan as error:
        print(f"visitors: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"visitors: cannot listen on port {chosen.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
