"""Details, reviews and ratings: three small JSON services with Bookinfo's paths and answers.

Reviews is the one that comes in versions, and what every lesson routes to: v1 shows no stars, v2 asks
ratings and shows black ones, v3 shows red ones. Ratings comes in Bookinfo's troubled variants too
(v-faulty, v-delayed, v-unavailable, v-unhealthy), for lessons on resilience.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from mesh.shop.client import Peer, Unavailable, forwarded
from mesh.shop.http import App, Refused, Request, Response, json_response
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


def _health(name: str) -> Response:
    return json_response({"status": f"{name} is healthy"})


def _product_id(request: Request) -> int:
    text = request.matched["id"]
    if not text.isdecimal():
        error = f"please give a number as product id, not '{text}'"
        raise Refused(json_response({"error": error}, 400))
    return int(text)


# -- details -----------------------------------------------------------------------------------


def _details(request: Request) -> Response:
    return json_response(
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


def _details_health(request: Request) -> Response:
    return _health("Details")


def details(version: str) -> App:
    """The details service: GET /details/0, GET /health."""
    app = App()
    app.route("GET", "/details/{id}", _details)
    app.route("GET", "/health", _details_health)
    return app


# -- reviews -----------------------------------------------------------------------------------


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
        self._ratings = Peer("ratings")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Closes the connections to ratings when the service ends."""
        yield
        await self._ratings.close()

    async def reviews(self, request: Request) -> Response:
        """All reviews of a product, each with its rating where this version shows ratings."""
        product = _product_id(request)
        stars = await self._stars(product, request) if self.colour else None
        found = [
            {"reviewer": reviewer, "text": text}
            | ({} if stars is None else {"rating": self._rating(stars, reviewer)})
            for reviewer, text in REVIEWS
        ]
        body = {"id": str(product), "podname": pod_name(), "clustername": "null", "version": self.version}
        return json_response(body | {"reviews": found})

    async def _stars(self, product: int, request: Request) -> dict[str, Any]:
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


def _reviews_health(request: Request) -> Response:
    return _health("Reviews")


def reviews(version: str) -> App:
    """The reviews service: GET /reviews/0, GET /health."""
    service = Reviews(version)
    app = App(service.running)
    app.route("GET", "/reviews/{id}", service.reviews)
    app.route("GET", "/health", _reviews_health)
    return app


# -- ratings -----------------------------------------------------------------------------------


class Ratings:
    """The ratings service; what was posted lives in this process only, as Bookinfo's v1 keeps it."""

    def __init__(self, version: str, rng: random.Random | None = None) -> None:
        self.version = version
        self._rng = rng or random.Random()
        self._posted: dict[int, dict[str, int]] = {}
        self._started = time.monotonic()

    def _in_bad_minute(self) -> bool:
        return int((time.monotonic() - self._started) / VARIANT_PERIOD_S) % 2 == 1

    def get(self, request: Request) -> Response | Awaitable[Response]:
        """The stars each reviewer gave; in a troubled variant late, or not at all."""
        product = _product_id(request)
        stars = self._posted.get(product, {"Reviewer1": 5, "Reviewer2": 4})
        answer = json_response({"id": product, "ratings": stars})
        bad_luck = self.version in ("v-faulty", "v-delayed") and self._rng.random() < 0.5
        if bad_luck and self.version == "v-delayed":
            return _later(answer)
        if bad_luck or (self.version == "v-unavailable" and self._in_bad_minute()):
            return json_response({"error": "Service unavailable"}, 503)
        return answer

    def post(self, request: Request) -> Response:
        """Replaces the stars of a product: a JSON object of reviewer to 1..5."""
        product = _product_id(request)
        try:
            stars = json.loads(request.body)
        except ValueError:
            return json_response({"error": "please provide valid ratings JSON"}, 400)
        valid = isinstance(stars, dict) and all(type(n) is int and 1 <= n <= 5 for n in stars.values())
        if not valid or len(stars) > 100:
            return json_response({"error": 'please provide ratings as {"reviewer": 1..5}'}, 400)
        self._posted = {product: stars}
        return json_response({"id": product, "ratings": stars})

    def health(self, request: Request) -> Response:
        """Healthy, except v-unhealthy in every second minute."""
        if self.version == "v-unhealthy" and self._in_bad_minute():
            return json_response({"status": "Ratings is not healthy"}, 500)
        return _health("Ratings")


async def _later(answer: Response) -> Response:
    await asyncio.sleep(VARIANT_DELAY_S)
    return answer


def ratings(version: str) -> App:
    """The ratings service: GET and POST /ratings/0, GET /health."""
    service = Ratings(version)
    app = App()
    app.route("GET", "/ratings/{id}", service.get)
    app.route("POST", "/ratings/{id}", service.post)
    app.route("GET", "/health", service.health)
    return app
