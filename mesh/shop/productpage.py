"""The product page: the shop's front door. Asks details and reviews at once and shows what they said.

When one of them fails the page still comes, with code 200 and a sentence in its place, as Bookinfo's does:
a part that fails costs a part of the page. Who is signed in travels on as header `end-user`; Istio's
samples route by it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

from mesh.shop import page
from mesh.shop.client import Peer, Unavailable, forwarded
from mesh.shop.http import App, Request, Response, json_response, text_response
from mesh.shop.serve import pod_name

log = logging.getLogger(__name__)

HTML = "text/html; charset=utf-8"

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


def signed_in(request: Request) -> str:
    """The name in the session cookie, or "" for somebody who is not signed in."""
    name = unquote(request.cookie(COOKIE))
    return name if acceptable_name(name) else ""


def acceptable_name(name: str) -> bool:
    """Whether a name can travel in an HTTP header: printable ASCII, not empty, not long."""
    return 0 < len(name) <= LONGEST_NAME and name.isascii() and name.isprintable()


def onward_headers(request: Request) -> dict[str, str]:
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
        self._details, self._reviews, self._ratings = map(Peer, ("details", "reviews", "ratings"))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Closes the connections to the other services when this one ends."""
        yield
        for peer in (self._details, self._reviews, self._ratings):
            await peer.close()

    async def _ask(self, peer: Peer, product: int, headers: dict[str, str], tries: int = 1) -> Answer:
        """Code and JSON of a peer's answer; after the last failed try, its code and a sentence to show."""
        for left in reversed(range(tries)):
            try:
                return 200, await peer.get(f"/{peer.name}/{product}", headers, TIMEOUT_S)
            except Unavailable as error:
                log.warning("%s (%d tries left)", error, left)
                status = error.status
        return status, {"error": f"Sorry, product {peer.name} are currently unavailable for this book."}

    async def page(self, request: Request) -> Response:
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
        return Response(html.encode(), content_type=HTML, headers={VERSION_HEADER: version})

    async def api(self, request: Request) -> Response:
        """GET /api/v1/products/0[/reviews|/ratings]: the raw answers, with their own codes."""
        product, what = request.matched["id"], request.matched.get("what", "details")
        if (
            not product.isdecimal()
            or int(product) >= len(PRODUCTS)
            or what not in ("details", "reviews", "ratings")
        ):
            return json_response({"error": f"there is no {request.path}"}, 404)
        headers = onward_headers(request)
        peer = {"details": self._details, "reviews": self._reviews, "ratings": self._ratings}[what]
        tries = REVIEWS_TRIES if what == "reviews" else 1
        status, body = await self._ask(peer, int(product), headers, tries)
        return json_response(body, status)


def _index(request: Request) -> Response:
    return Response(page.index_page().encode(), content_type=HTML)


def _health(request: Request) -> Response:
    return text_response("Product page is healthy")


def _products(request: Request) -> Response:
    return json_response(PRODUCTS)


def _static(request: Request) -> Response:
    found = page.STATIC.get(request.matched["name"])
    if found is None:
        return text_response("there is no such file\n", 404)
    content_type, body = found
    return Response(body, content_type=content_type, headers={"cache-control": "max-age=3600"})


def _login(request: Request) -> Response:
    name = request.form.get("username", "").strip()
    # A relative Location keeps working behind any prefix, such as the API server's service proxy.
    headers = {"location": "productpage"}
    if acceptable_name(name):
        headers["set-cookie"] = f"{COOKIE}={quote(name)}; Path=/; HttpOnly; SameSite=Lax"
    return Response(status=302, headers=headers)


def _logout(request: Request) -> Response:
    gone = f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    return Response(status=302, headers={"location": "productpage", "set-cookie": gone})


def productpage(version: str) -> App:
    """The product page service with Bookinfo's paths."""
    service = ProductPage(version)
    app = App(service.running)
    app.route("GET", "/productpage", service.page)
    app.route("GET", "/", _index)
    app.route("GET", "/index.html", _index)
    app.route("GET", "/health", _health)
    app.route("POST", "/login", _login)
    app.route("GET", "/logout", _logout)
    app.route("GET", "/api/v1/products", _products)
    app.route("GET", "/api/v1/products/{id}", service.api)
    app.route("GET", "/api/v1/products/{id}/{what}", service.api)
    app.route("GET", "/static/{name}", _static)
    return app
