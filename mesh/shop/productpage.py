"""The product page: the shop's front door. Asks details and reviews at once and shows what they said.

When one of them fails the page still comes, with code 200 and a sentence in its place, as Bookinfo's does:
a part that fails costs a part of the page. Who is signed in travels on as header `end-user`; Istio's
samples route by it.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web

from mesh.shop import page
from mesh.shop.client import Peer, Unavailable, forwarded, new_session
from mesh.shop.serve import pod_name

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

# Bookinfo's: three seconds a call, and for reviews a second try whatever went wrong with the first.
TIMEOUT_S = 3.0
REVIEWS_TRIES = 2

# Tells a client (our visitors) which version of reviews this page shows, without parsing HTML.
VERSION_HEADER = "x-shop-reviews-version"
UNAVAILABLE = "unavailable"

# The session is just the name: there is no password either, so a signature would prove nothing.
COOKIE = "session"
LONGEST_NAME = 64

_SUMMARY = (
    "<p>Two brothers lost at sea as infants share one name, and so do their servants. One day all four walk "
    "through the same town, and every message, dinner and gold chain reaches the wrong man. It is "
    "Shakespeare's shortest play, and the only one whose whole plot is a routing mistake.</p>"
)
PRODUCTS = [{"id": 0, "title": "The Comedy of Errors", "descriptionHtml": _SUMMARY}]

Answer = tuple[int, dict[str, Any]]


def signed_in(request: web.Request) -> str:
    """The name in the session cookie, or "" for somebody who is not signed in."""
    name = unquote(request.cookies.get(COOKIE, ""))
    return name if acceptable_name(name) else ""


def acceptable_name(name: str) -> bool:
    """Whether a name can travel in an HTTP header: printable ASCII, not empty, not long."""
    return 0 < len(name) <= LONGEST_NAME and name.isascii() and name.isprintable()


def onward_headers(request: web.Request) -> dict[str, str]:
    """What details and reviews get to see of this request: trace headers, browser and who is signed in."""
    headers = forwarded(request.headers)
    user = signed_in(request)
    if user:
        headers["end-user"] = user
    return headers


class ProductPage:
    """The handlers of the product page service."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._details: Peer
        self._reviews: Peer
        self._ratings: Peer

    async def client(self, app: web.Application) -> AsyncIterator[None]:
        """Opens the client session for as long as the application runs."""
        async with new_session() as session:
            self._details, self._reviews, self._ratings = (
                Peer(session, name) for name in ("details", "reviews", "ratings")
            )
            yield

    async def _ask(self, peer: Peer, product: int, headers: dict[str, str], tries: int = 1) -> Answer:
        """Code and JSON of a peer's answer; after the last failed try, its code and a sentence to show."""
        for left in reversed(range(tries)):
            try:
                return 200, await peer.get(f"/{peer.name}/{product}", headers, TIMEOUT_S)
            except Unavailable as error:
                log.warning("%s (%d tries left)", error, left)
                status = error.status
        return status, {"error": f"Sorry, product {peer.name} are currently unavailable for this book."}

    async def page(self, request: web.Request) -> web.Response:
        """GET /productpage."""
        headers = onward_headers(request)
        (details_status, details), (reviews_status, reviews) = await asyncio.gather(
            self._ask(self._details, 0, headers), self._ask(self._reviews, 0, headers, REVIEWS_TRIES)
        )
        version = str(reviews.get("version", "unknown")) if reviews_status == 200 else UNAVAILABLE
        html = page.product_page(
            product=PRODUCTS[0],
            details=details if details_status == 200 else None,
            reviews=reviews if reviews_status == 200 else None,
            version=version,
            user=headers.get("end-user", ""),
            pod=pod_name(),
        )
        return web.Response(text=html, content_type="text/html", headers={VERSION_HEADER: version})

    async def api(self, request: web.Request) -> web.Response:
        """GET /api/v1/products/0[/reviews|/ratings]: the raw answers, with their own codes."""
        product = int(request.match_info["id"])
        if product >= len(PRODUCTS):
            return _json({"error": f"there is no product {product}"}, 404)
        what = request.match_info.get("what")
        headers = onward_headers(request)
        if what == "ratings":
            status, body = await self._ask(self._ratings, product, headers)
        elif what == "reviews":
            status, body = await self._ask(self._reviews, product, headers, REVIEWS_TRIES)
        else:
            status, body = await self._ask(self._details, product, headers)
        return _json(body, status)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type="application/json")


async def _index(request: web.Request) -> web.Response:
    return web.Response(text=page.index_page(), content_type="text/html")


async def _health(request: web.Request) -> web.Response:
    return web.Response(text="Product page is healthy")


async def _products(request: web.Request) -> web.Response:
    return _json(PRODUCTS)


async def _login(request: web.Request) -> web.Response:
    name = str((await request.post()).get("username", "")).strip()
    # A relative Location keeps working behind any prefix, such as the API server's service proxy.
    answer = web.Response(status=302, headers={"Location": "productpage"})
    if acceptable_name(name):
        answer.set_cookie(COOKIE, quote(name), httponly=True, samesite="Lax")
    return answer


async def _logout(request: web.Request) -> web.Response:
    answer = web.Response(status=302, headers={"Location": "productpage"})
    answer.del_cookie(COOKIE)
    return answer


def productpage(version: str) -> web.Application:
    """The product page service with Bookinfo's paths."""
    service = ProductPage(version)
    app = web.Application()
    app.cleanup_ctx.append(service.client)
    app.router.add_get("/productpage", service.page)
    app.router.add_get("/", _index)
    app.router.add_get("/index.html", _index)
    app.router.add_get("/health", _health)
    app.router.add_post("/login", _login)
    app.router.add_get("/logout", _logout)
    app.router.add_get("/api/v1/products", _products)
    app.router.add_get(r"/api/v1/products/{id:\d+}", service.api)
    app.router.add_get(r"/api/v1/products/{id:\d+}/{what:reviews|ratings}", service.api)
    app.router.add_static("/static", STATIC)
    return app
