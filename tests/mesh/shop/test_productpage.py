"""The four services as one shop: chained through a real forward proxy, the way a sidecar stands between
them.
"""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from mesh.shop.productpage import VERSION_HEADER, productpage
from mesh.shop.services import details, ratings, reviews


class ForwardProxy:
    """A proxy for absolute-form requests that knows where the services are and remembers who asked for
    what.
    """

    def __init__(self):
        self.routes = {}
        self.seen = []
        self.connections = set()
        self.server = web.Server(self.handle)

    async def handle(self, request):
        self.seen.append((request.raw_path, request.headers.copy()))
        self.connections.add(request.transport.get_extra_info("peername"))
        host = request.url.host
        if host not in self.routes:
            return web.Response(status=503, text="no healthy upstream")
        target = self.routes[host]
        if isinstance(target, web.Response):
            return web.Response(status=target.status)
        async with (
            aiohttp.ClientSession() as session,
            session.get(target + request.url.path_qs, headers=request.headers) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read())

    def headers_to(self, host):
        return [headers for path, headers in self.seen if path.startswith(f"http://{host}:9080/")]


@pytest.fixture
async def proxy(serve, monkeypatch):
    made = ForwardProxy()
    monkeypatch.setenv("http_proxy", await serve(made.server))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("POD_NAME", "some-pod")
    for name in ("DETAILS", "REVIEWS", "RATINGS"):
        monkeypatch.delenv(f"{name}_SERVICE_PORT", raising=False)
        monkeypatch.delenv(f"{name}_HOSTNAME", raising=False)
    made.routes = {
        "details": await serve(details("v1")),
        "reviews": await serve(reviews("v2")),
        "ratings": await serve(ratings("v1")),
    }
    return made


async def test_every_hop_goes_through_the_proxy_with_keep_alive(proxy, serve, http):
    shop = await serve(productpage("v1"))
    for _ in range(3):
        async with http.get(f"{shop}/productpage") as answer:
            html = await answer.text()
            assert answer.status == 200
            assert answer.headers[VERSION_HEADER] == "v2"
            assert "Two pairs of twins" in html and "5 of 5 stars" in html
    paths = sorted(path for path, _ in proxy.seen)
    assert paths == sorted(
        3
        * [
            "http://details:9080/details/0",
            "http://reviews:9080/reviews/0",
            "http://ratings:9080/ratings/0",
        ]
    )
    assert len(proxy.connections) == 3  # two from the product page, one from reviews; each used three times


async def test_passes_on_what_ties_hops_together(proxy, serve, http):
    shop = await serve(productpage("v1"))
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-request-id": "a-request",
        "x-b3-traceid": "463ac35c9f6413ad",
        "user-agent": "iPhone",
        "end-user": "jason",
        "x-private": "stays here",
    }
    async with http.get(f"{shop}/productpage", headers=sent) as answer:
        assert answer.status == 200
    for host in ("details", "reviews", "ratings"):
        (got,) = proxy.headers_to(host)
        assert {name: got.get(name) for name in sent} == sent | {"x-private": None}


async def test_who_signs_in_travels_as_end_user(proxy, serve, http):
    shop = await serve(productpage("v1"))
    async with http.post(f"{shop}/login", data={"username": "jason"}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "productpage")
    async with http.get(f"{shop}/productpage") as answer:
        assert "Signed in as <b>jason</b>" in await answer.text()
    assert proxy.headers_to("reviews")[-1]["end-user"] == "jason"
    assert proxy.headers_to("ratings")[-1]["end-user"] == "jason"
    await (await http.get(f"{shop}/logout")).read()
    assert "end-user" not in proxy.headers_to("reviews")[-1]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 65, "日本"])
async def test_a_name_that_fits_no_header_signs_nobody_in(proxy, serve, http, name):
    shop = await serve(productpage("v1"))
    async with http.post(f"{shop}/login", data={"username": name}, allow_redirects=False) as answer:
        assert answer.status == 302 and "Set-Cookie" not in answer.headers


async def test_the_page_comes_without_ratings(proxy, serve, http):
    del proxy.routes["ratings"]
    async with http.get(f"{await serve(productpage('v1'))}/productpage") as answer:
        html = await answer.text()
        assert answer.status == 200
        assert html.count("Ratings service is currently unavailable") == 2
        assert answer.headers[VERSION_HEADER] == "v2"


async def test_the_page_comes_without_details_and_reviews(proxy, serve, http):
    proxy.routes = {}
    async with http.get(f"{await serve(productpage('v1'))}/productpage") as answer:
        html = await answer.text()
        assert answer.status == 200 and answer.headers[VERSION_HEADER] == "unavailable"
        assert "product details are currently unavailable" in html
        assert "product reviews are currently unavailable" in html
    assert len(proxy.headers_to("reviews")) == 2  # Bookinfo tries reviews twice
    assert len(proxy.headers_to("details")) == 1


async def test_a_slow_service_costs_its_part_of_the_page_only(proxy, serve, http, monkeypatch):
    monkeypatch.setattr("mesh.shop.productpage.TIMEOUT_S", 0.05)

    async def never(request):
        await asyncio.sleep(60)

    proxy.routes["reviews"] = await serve(web.Server(never))
    async with http.get(f"{await serve(productpage('v1'))}/productpage") as answer:
        html = await answer.text()
    assert "product reviews are currently unavailable" in html and "1234567890" in html


async def test_the_api_tells_the_codes(proxy, serve, http):
    shop = await serve(productpage("v1"))

    async def get(path):
        async with http.get(shop + path) as answer:
            return answer.status, json.loads(await answer.read())

    status, products = await get("/api/v1/products")
    assert status == 200 and products[0]["title"] == "The Comedy of Errors"
    assert (await get("/api/v1/products/0"))[1]["author"] == "William Shakespeare"
    assert (await get("/api/v1/products/0/reviews"))[1]["version"] == "v2"
    assert (await get("/api/v1/products/0/ratings"))[1]["ratings"]["Reviewer1"] == 5
    assert (await get("/api/v1/products/7"))[0] == 404
    proxy.routes["ratings"] = web.Response(status=418)
    assert (await get("/api/v1/products/0/ratings"))[0] == 418


async def test_health_and_static(proxy, serve, http):
    shop = await serve(productpage("v1"))
    async with http.get(f"{shop}/health") as answer:
        assert await answer.text() == "Product page is healthy"
    async with http.get(f"{shop}/static/favicon.svg") as answer:
        assert answer.status == 200 and answer.content_type == "image/svg+xml"
