"""The visitors against real servers: the open loop, the counts and the steering API."""

import asyncio
import json

import pytest
from aiohttp import web

from mesh.shop.plan import BadPlan, Plan
from mesh.shop.productpage import VERSION_HEADER
from mesh.shop.visitors import first_plan, visitors


class Shop:
    """A page that takes as long as told and remembers its visitors."""

    def __init__(self, delay_s=0.0, status=200):
        self.delay_s, self.status = delay_s, status
        self.visits = []
        self.server = web.Server(self.page)

    async def page(self, request):
        self.visits.append(request.headers.copy())
        await asyncio.sleep(self.delay_s)
        version = "v3" if "iPhone" in request.headers["user-agent"] else "v1"
        return web.Response(status=self.status, headers={VERSION_HEADER: version})


class Steering:
    def __init__(self, http, base):
        self.http, self.base = http, base

    async def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body)
        async with self.http.request(method, self.base + path, data=data) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def until(self, enough):
        """Stats as soon as they are enough; the test's timeout is the limit."""
        while not enough(stats := (await self.call("GET", "/api/stats"))[1]):
            await asyncio.sleep(0.01)
        return stats


@pytest.fixture
async def steer(serve, http):
    return Steering(http, await serve(visitors(Plan())))


async def test_rests_until_told(steer):
    status, stats = await steer.call("GET", "/api/stats")
    assert status == 200 and stats["sent"] == 0 and not stats["running"]


async def test_visits_on_schedule_and_counts_what_was_served(serve, steer):
    shop = Shop()
    mix = [
        {"weight": 1, "name": "iphone", "headers": {"User-Agent": "iPhone"}},
        {"weight": 1, "name": "other", "headers": {}},
    ]
    plan = {"rate": 400, "arrivals": "even", "duration": 0.25, "url": await serve(shop.server), "mix": mix}
    assert (await steer.call("PUT", "/api/plan", plan))[0] == 200
    stats = await steer.until(lambda s: s["ok"] == 100)
    assert stats["sent"] == 100 and stats["by_code"] == {"200": 100} and not stats["running"]
    iphones = sum("iPhone" in headers["user-agent"] for headers in shop.visits)
    assert stats["by_version"] == {"v1": 100 - iphones, "v3": iphones}
    assert stats["by_mix"]["iphone"]["by_version"] == {"v3": iphones}
    assert stats["latency_ms"]["p50"] < 100
    assert (await steer.call("GET", "/api/stats?window=60"))[1]["ok"] == 100
    assert (await steer.call("DELETE", "/api/stats"))[0] == 204
    assert (await steer.call("GET", "/api/stats"))[1]["sent"] == 0


async def test_a_slow_shop_gets_no_fewer_visitors(serve, steer):
    """The open loop: ten times slower, same number sent in the same time."""
    base = {"rate": 200, "arrivals": "even", "duration": 0.5, "concurrency": 200}
    for delay_s in (0.02, 0.3):
        shop = Shop(delay_s)
        await steer.call("PUT", "/api/plan", {**base, "url": await serve(shop.server)})
        stats = await steer.until(lambda s: not s["running"])
        assert stats["sent"] == 100 and stats["behind"] == 0
        stats = await steer.until(lambda s: s["ok"] == 100)
        assert stats["latency_ms"]["p50"] >= delay_s * 1000 * 0.96


async def test_waiting_for_a_free_place_counts_as_latency(serve, steer):
    """One at a time, 50 ms each, and twenty who come within 50 ms: the last waits for nineteen others."""
    shop = Shop(0.05)
    plan = {"rate": 400, "arrivals": "even", "duration": 0.05, "concurrency": 1}
    await steer.call("PUT", "/api/plan", {**plan, "url": await serve(shop.server)})
    stats = await steer.until(lambda s: s["behind"] > 10)
    assert stats["in_flight"] == 1 and stats["sent"] < 10
    stats = await steer.until(lambda s: s["ok"] == 20)
    assert stats["latency_ms"]["p99"] > 800 and stats["latency_ms"]["p50"] > 350


async def test_a_new_plan_takes_over_at_once(serve, steer):
    shop = Shop(30)
    url = await serve(shop.server)
    await steer.call("PUT", "/api/plan", {"rate": 500, "concurrency": 2, "url": url})
    await steer.until(lambda s: s["behind"] > 5)
    await steer.call("PUT", "/api/plan", {"rate": 0})
    _, stats = await steer.call("GET", "/api/stats")
    assert stats["behind"] == 0 and stats["skipped"] > 5 and not stats["running"]
    assert stats["sent"] == 0 and stats["done"]  # counts are the new plan's; the old one's two go on


async def test_done_when_all_of_a_count_have_come_back(serve, steer):
    shop = Shop(0.1)
    await steer.call("PUT", "/api/plan", {"rate": 1000, "count": 37, "url": await serve(shop.server)})
    assert not (await steer.call("GET", "/api/stats"))[1]["done"]
    stats = await steer.until(lambda s: s["done"])
    assert stats["ok"] == stats["sent"] == len(shop.visits) == 37


async def test_failures_are_told_apart(serve, steer):
    plan = {"rate": 200, "arrivals": "even", "duration": 0.01, "timeout": 0.05}
    for shop, code in ((Shop(status=503), "503"), (Shop(delay_s=9), "timeout")):
        await steer.call("PUT", "/api/plan", {**plan, "url": await serve(shop.server)})
        stats = await steer.until(lambda s: s["failed"] == 2)
        assert stats["by_code"] == {code: 2}
    await steer.call("PUT", "/api/plan", {**plan, "url": "http://127.0.0.1:1/"})
    assert (await steer.until(lambda s: s["failed"] == 2))["by_code"] == {"connect": 2}


async def test_a_bad_plan_changes_nothing(steer):
    _, before = await steer.call("PUT", "/api/plan", {"seed": 9})
    status, body = await steer.call("PUT", "/api/plan", {"seed": 1, "rate": -3})
    assert status == 400 and body["problems"][0]["path"] == "rate"
    assert "rate: input should be greater than or equal to 0 (got -3)" in body["error"]
    async with steer.http.put(f"{steer.base}/api/plan", data="{") as answer:
        assert answer.status == 400 and "no JSON" in (await answer.json())["error"]
    assert (await steer.call("GET", "/api/plan"))[1] == before
    assert (await steer.call("GET", "/api/stats?window=x"))[0] == 400


def test_first_plan_from_the_environment():
    assert first_plan({}).rate == 0
    plan = first_plan({"VISITORS_RATE": "10", "VISITORS_URL": "http://shop/"})
    assert (plan.rate, plan.url) == (10, "http://shop/")
    for bad in ("ten", "-1", "nan"):
        with pytest.raises(BadPlan, match="rate"):
            first_plan({"VISITORS_RATE": bad})
