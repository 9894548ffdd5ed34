"""Details, reviews and ratings: three small JSON services with Bookinfo's paths and answers.

Reviews is the one that comes in versions, and what every lesson routes to: v1 shows no stars, v2 asks
ratings and shows black ones, v3 shows red ones. Ratings comes in Bookinfo's troubled variants too
(v-faulty, v-delayed, v-unavailable, v-unhealthy), for lessons on resilience.
"""

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from mesh.shop.client import Peer, Unavailable, forwarded, new_session
from mesh.shop.serve import pod_name

log = logging.getLogger(__name__)

STAR_COLOURS = {"v1": None, "v2": "black", "v3": "red"}

# Bookinfo's own timeouts. That v2 waits longer (10 s) than the product page waits for reviews (3 s, twice)
# is the flaw that the fault-injection task finds:
# https://istio.io/latest/docs/tasks/traffic-management/fault-injection/
RATINGS_TIMEOUT_S = {"black": 10.0}
RATINGS_TIMEOUT_OTHER_S = 2.5

VARIANT_DELAY_S = 7.0
VARIANT_PERIOD_S = 60.0

REVIEWS = (
    (
        "Reviewer1",
        "Two pairs of twins, one busy town, and nobody who stops to ask a second question. "
        "I laughed until the tram conductor took an interest.",
    ),
    (
        "Reviewer2",
        "Short, quick and kinder than it looks. Bring a pencil to keep the brothers apart.",
    ),
)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type="application/json")


def _health(name: str) -> web.Response:
    return _json({"status": f"{name} is healthy"})


def _product_id(request: web.Request) -> int:
    text = request.match_info["id"]
    if not text.isdecimal():
        raise web.HTTPBadRequest(
            text=json.dumps({"error": f"please give a number as product id, not '{text}'"}),
            content_type="application/json",
        )
    return int(text)


# -- details
# ----------------------------------------------------------------------------------------------------


async def _details(request: web.Request) -> web.Response:
    return _json(
        {
            "id": _product_id(request),
            "author": "William Shakespeare",
            "year": 1595,
            "type": "paperback",
            "pages": 200,
            "publisher": "PublisherA",
            "language": "English",
            "ISBN-10": "1234567890",
            "ISBN-13": "123-1234567890",
        }
    )


async def _details_health(request: web.Request) -> web.Response:
    return _health("Details")


def details(version: str) -> web.Application:
    """The details service: GET /details/0, GET /health."""
    app = web.Application()
    app.router.add_get("/details/{id}", _details)
    app.router.add_get("/health", _details_health)
    return app


# -- reviews
# ----------------------------------------------------------------------------------------------------


def star_colour(version: str) -> str | None:
    """The colour of this version's stars, None for a version that shows none. Raises ValueError.

    Bookinfo's environment variables go first, so that a learner can ship a v4 with green stars:
    ENABLE_RATINGS=true, STAR_COLOR=green.
    """
    if os.environ.get("ENABLE_RATINGS", "").lower() == "false":
        return None
    if os.environ.get("STAR_COLOR"):
        return os.environ["STAR_COLOR"]
    if version not in STAR_COLOURS:
        raise ValueError(f"reviews comes as {', '.join(STAR_COLOURS)}; for '{version}' set STAR_COLOR")
    return STAR_COLOURS[version]


class Reviews:
    """One version of the reviews service."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.colour = star_colour(version)
        self._ratings: Peer

    async def client(self, app: web.Application) -> AsyncIterator[None]:
        """Opens the client session for as long as the application runs."""
        async with new_session() as session:
            self._ratings = Peer(session, "ratings")
            yield

    async def reviews(self, request: web.Request) -> web.Response:
        """All reviews of a product, each with its rating where this version shows ratings."""
        product = _product_id(request)
        stars = await self._stars(product, request) if self.colour else None
        found = [
            {"reviewer": reviewer, "text": text}
            | ({} if stars is None else {"rating": self._rating(stars, reviewer)})
            for reviewer, text in REVIEWS
        ]
        body = {"id": str(product), "podname": pod_name(), "clustername": "null", "version": self.version}
        return _json(body | {"reviews": found})

    async def _stars(self, product: int, request: web.Request) -> dict[str, Any]:
        timeout = RATINGS_TIMEOUT_S.get(self.colour or "", RATINGS_TIMEOUT_OTHER_S)
        try:
            answer = await self._ratings.get(f"/ratings/{product}", forwarded(request.headers), timeout)
            return dict(answer["ratings"])
        except (Unavailable, KeyError, TypeError, ValueError) as error:
            log.warning("reviews %s shows no ratings: %s", self.version, error)
            return {}

    def _rating(self, stars: dict[str, Any], reviewer: str) -> dict[str, Any]:
        if reviewer not in stars:
            return {"error": "Ratings service is currently unavailable"}
        return {"stars": stars[reviewer], "color": self.colour}


async def _reviews_health(request: web.Request) -> web.Response:
    return _health("Reviews")


def reviews(version: str) -> web.Application:
    """The reviews service: GET /reviews/0, GET /health."""
    service = Reviews(version)
    app = web.Application()
    app.cleanup_ctx.append(service.client)
    app.router.add_get("/reviews/{id}", service.reviews)
    app.router.add_get("/health", _reviews_health)
    return app


# -- ratings
# ----------------------------------------------------------------------------------------------------


class Ratings:
    """The ratings service; what was posted lives in this process only, as Bookinfo's v1 keeps it."""

    def __init__(self, version: str, rng: random.Random | None = None) -> None:
        self.version = version
        self._rng = rng or random.Random()
        self._posted: dict[int, dict[str, int]] = {}
        self._started = time.monotonic()

    def _in_bad_minute(self) -> bool:
        return int((time.monotonic() - self._started) / VARIANT_PERIOD_S) % 2 == 1

    async def get(self, request: web.Request) -> web.Response:
        """The stars each reviewer gave; in a troubled variant late, or not at all."""
        product = _product_id(request)
        bad_luck = self.version in ("v-faulty", "v-delayed") and self._rng.random() < 0.5
        if bad_luck and self.version == "v-delayed":
            await asyncio.sleep(VARIANT_DELAY_S)
        elif bad_luck or (self.version == "v-unavailable" and self._in_bad_minute()):
            return _json({"error": "Service unavailable"}, 503)
        stars = self._posted.get(product, {"Reviewer1": 5, "Reviewer2": 4})
        return _json({"id": product, "ratings": stars})

    async def post(self, request: web.Request) -> web.Response:
        """Replaces the stars of a product: a JSON object of reviewer to 1..5."""
        product = _product_id(request)
        try:
            stars = json.loads(await request.read())
        except ValueError:
            return _json({"error": "please provide valid ratings JSON"}, 400)
        valid = isinstance(stars, dict) and all(type(n) is int and 1 <= n <= 5 for n in stars.values())
        if not valid or len(stars) > 100:
            return _json({"error": 'please provide ratings as {"reviewer": 1..5}'}, 400)
        self._posted = {product: stars}
        return _json({"id": product, "ratings": stars})

    async def health(self, request: web.Request) -> web.Response:
        """Healthy, except v-unhealthy in every second minute."""
        if self.version == "v-unhealthy" and self._in_bad_minute():
            return _json({"status": "Ratings is not healthy"}, 500)
        return _health("Ratings")


def ratings(version: str) -> web.Application:
    """The ratings service: GET and POST /ratings/0, GET /health."""
    service = Ratings(version)
    app = web.Application()
    app.router.add_get("/ratings/{id}", service.get)
    app.router.add_post("/ratings/{id}", service.post)
    app.router.add_get("/health", service.health)
    return app
