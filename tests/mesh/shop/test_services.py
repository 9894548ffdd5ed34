"""Details, reviews and ratings one by one."""

import json
import random

import pytest

from mesh.shop.http import App
from mesh.shop.services import Ratings, details, ratings, reviews, star_colour


async def get(http, url):
    async with http.get(url) as answer:
        return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize(
    ("service", "path"), [(details, "details"), (reviews, "reviews"), (ratings, "ratings")]
)
async def test_healthy_and_strict_about_the_product_id(serve, http, service, path):
    base = await serve(service("v1"))
    assert await get(http, f"{base}/health") == (200, {"status": f"{path.capitalize()} is healthy"})
    status, body = await get(http, f"{base}/{path}/first")
    assert status == 400 and "not 'first'" in body["error"]


async def test_reviews_v1_never_asks_for_ratings(serve, http, monkeypatch):
    monkeypatch.setenv("RATINGS_HOSTNAME", "does-not-exist.invalid")
    status, body = await get(http, f"{await serve(reviews('v1'))}/reviews/0")
    assert status == 200 and body["version"] == "v1"
    assert [set(review) for review in body["reviews"]] == [{"reviewer", "text"}] * 2


@pytest.mark.parametrize(("version", "colour"), [("v2", "black"), ("v3", "red")])
async def test_reviews_with_stars(serve, http, monkeypatch, version, colour):
    host, port = (await serve(ratings("v1"))).removeprefix("http://").split(":")
    monkeypatch.setenv("RATINGS_HOSTNAME", host)
    monkeypatch.setenv("RATINGS_SERVICE_PORT", port)
    _, body = await get(http, f"{await serve(reviews(version))}/reviews/0")
    assert [review["rating"] for review in body["reviews"]] == [
        {"stars": 5, "color": colour},
        {"stars": 4, "color": colour},
    ]


def test_star_colours(monkeypatch):
    assert (star_colour("v1"), star_colour("v2"), star_colour("v3")) == (None, "black", "red")
    with pytest.raises(ValueError, match="for 'v4' set STAR_COLOR"):
        star_colour("v4")
    monkeypatch.setenv("STAR_COLOR", "green")
    assert star_colour("v4") == "green"


async def test_posted_ratings_are_shown(serve, http):
    base = await serve(ratings("v1"))
    async with http.post(f"{base}/ratings/0", data='{"Reviewer1": 1}') as answer:
        assert answer.status == 200
    assert (await get(http, f"{base}/ratings/0"))[1]["ratings"] == {"Reviewer1": 1}
    for bad in ("{", "[]", '{"Reviewer1": 6}', '{"Reviewer1": true}', '{"Reviewer1": "5"}'):
        async with http.post(f"{base}/ratings/0", data=bad) as answer:
            assert answer.status == 400
    assert (await get(http, f"{base}/ratings/0"))[1]["ratings"] == {"Reviewer1": 1}


async def test_faulty_ratings_fail_half_of_the_time(serve, http):
    service = Ratings("v-faulty", random.Random(7))
    app = App()
    app.route("GET", "/ratings/{id}", service.get)
    base = await serve(app)
    codes = [(await get(http, f"{base}/ratings/0"))[0] for _ in range(60)]
    assert set(codes) == {200, 503} and 15 < codes.count(503) < 45
