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
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

from mesh.shop.http import App, Request, Response, json_response, text_response
from mesh.shop.load import Load
from mesh.shop.plan import BadPlan, Plan, changed
from mesh.shop.serve import run
from mesh.shop.stats import KEEP_S, summary

log = logging.getLogger(__name__)


class Visitors:
    """The handlers of the steering API."""

    def __init__(self, plan: Plan) -> None:
        self._first_plan = plan
        self._load: Load

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The visitors come as long as this lasts."""
        self._load = Load()
        await self._load.follow(self._first_plan)
        yield
        await self._load.close()

    def get_plan(self, request: Request) -> Response:
        """What they do now."""
        return json_response(self._load.plan.model_dump())

    async def put_plan(self, request: Request) -> Response:
        """Change it."""
        try:
            plan = changed(self._load.plan, json.loads(request.body))
        except BadPlan as error:
            problems = [{"path": path, "message": sentence} for path, sentence in error.problems]
            return json_response({"error": str(error), "problems": problems}, 400)
        except ValueError as error:
            return json_response({"error": f"the plan is no JSON: {error}", "problems": []}, 400)
        await self._load.follow(plan)
        log.info("new plan: %s", plan.model_dump_json(exclude_defaults=True))
        return json_response(plan.model_dump())

    def get_stats(self, request: Request) -> Response:
        """What came of it."""
        load = self._load
        tally = load.stats.total
        if "window" in request.query:
            try:
                window = float(request.query["window"])
            except ValueError:
                window = 0.0
            if not 0 < window <= KEEP_S:
                return json_response({"error": f"window: give seconds, above 0 and up to {KEEP_S}"}, 400)
            tally = load.stats.last(window, load.now())
        state = ("behind", "in_flight", "skipped", "running", "done")
        return json_response({**summary(tally), **{name: getattr(load, name) for name in state}})

    def delete_stats(self, request: Request) -> Response:
        """Start counting anew."""
        self._load.stats.reset()
        return Response(status=204)


def visitors(plan: Plan) -> App:
    """The visitors and their steering API, beginning with `plan`."""
    handlers = Visitors(plan)
    app = App(handlers.running)
    app.route("GET", "/api/plan", handlers.get_plan)
    app.route("PUT", "/api/plan", handlers.put_plan)
    app.route("GET", "/api/stats", handlers.get_stats)
    app.route("DELETE", "/api/stats", handlers.delete_stats)
    app.route("GET", "/health", lambda request: text_response("visitors are healthy\n"))
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
