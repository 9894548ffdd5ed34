"""Following a collection through everything that can happen to the connection; the API server here plays a
script.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio.client import ApiClient, Configuration

from mesh.control.kube import SERVICES, Kube, KubeError, Resource
from mesh.control.watch import Changes, Key, Reflector, differences

Object = dict[str, Any]
Step = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


def thing(name: str, version: int) -> Object:
    return {"metadata": {"namespace": "default", "name": name, "resourceVersion": str(version)}}


def listed(version: int, *items: Object) -> Step:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert "watch" not in request.query
        return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})

    return answer


def failed(status: int) -> Step:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "message": "as scripted", "code": status}, status=status)

    return answer


def watched(since: int, *events: tuple[str, Object], cut: bool = False) -> Step:
    """The events, then the end of the stream; `cut` in the middle of a line, as when a connection breaks."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true" and request.query["resourceVersion"] == str(since)
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, obj in events:
            await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")
        if cut:
            await response.write(b'{"type": "ADD')
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


class Script:
    """Plays its steps in turn, one a request; the last is a watch in which nothing ever happens."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.over = asyncio.Event()

    async def play(self, request: web.Request) -> web.StreamResponse:
        if self.steps:
            return await self.steps.pop(0)(request)
        self.over.set()
        await asyncio.Event().wait()
        raise AssertionError("nothing happens")


@asynccontextmanager
async def following(script: Script) -> AsyncIterator[tuple[Reflector, list[dict[Key, str]]]]:
    """A reflector that has followed the script to its end, and what it told."""
    app = web.Application()
    app.router.add_get("/api/v1/services", script.play)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    kube = Kube(ApiClient(Configuration(host=f"http://127.0.0.1:{port}")))
    told: list[dict[Key, str]] = []

    def on_change(resource: Resource, changes: Changes) -> None:
        told.append(
            {key: obj["metadata"]["resourceVersion"] if obj else "gone" for key, obj in changes.items()}
        )

    reflector = Reflector(kube, SERVICES, on_change)
    task = asyncio.ensure_future(reflector.run())
    await asyncio.wait_for(script.over.wait(), 10)
    yield reflector, told
    task.cancel()
    await kube.close()
    await runner.cleanup()


A, B = ("default", "a"), ("default", "b")


async def test_list_then_watch_and_go_on_where_the_stream_ended() -> None:
    script = Script(
        listed(5, thing("a", 3)),
        watched(5, ("ADDED", thing("b", 6)), ("BOOKMARK", {"metadata": {"resourceVersion": "9"}})),
        watched(9, ("DELETED", thing("b", 10))),
        watched(10, ("MODIFIED", thing("a", 11))),
    )
    async with following(script) as (reflector, told):
        assert told == [{A: "3"}, {B: "6"}, {B: "gone"}, {A: "11"}]
        assert list(reflector.objects) == [A]


@pytest.mark.parametrize(
    "end",
    [
        [watched(5, ("ERROR", {"code": 410, "message": "too old resource version"}))],
        [watched(5, ("ERROR", {"code": 500, "message": "etcd has gone"}))],
        [failed(410)],
        [failed(503), failed(503)],
        [watched(5, cut=True)],
    ],
    ids=["410 in the stream", "500 in the stream", "410 at once", "503", "cut"],
)
async def test_after_a_failure_it_lists_again_and_tells_only_what_differs(end: list[Step]) -> None:
    script = Script(listed(5, thing("a", 3), thing("b", 4)), *end, listed(20, thing("a", 3), thing("c", 19)))
    async with following(script) as (reflector, told):
        assert told == [{A: "3", B: "4"}, {B: "gone", ("default", "c"): "19"}]
        assert set(reflector.objects) == {A, ("default", "c")}


async def test_a_collection_that_is_not_there_is_empty_until_it_is() -> None:
    script = Script(failed(404), listed(7, thing("a", 7)), failed(404), failed(404), listed(9))
    async with following(script) as (_, told):
        assert told == [{A: "7"}, {A: "gone"}]


async def test_a_refusal_is_told_in_the_servers_words() -> None:
    script = Script(failed(403), listed(1))
    async with following(script) as (reflector, _):
        with pytest.raises(KubeError, match="does not answer"):
            reflector.kube._client.configuration.host = "http://127.0.0.1:1"
            await reflector.kube.list(SERVICES)


collections = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), max_size=4)


@given(collections, collections)
def test_differences_lead_from_the_old_copy_to_the_new_list(old: dict[str, int], new: dict[str, int]) -> None:
    have = {("", name): thing(name, version) for name, version in old.items()}
    items = {("", name): thing(name, version) for name, version in new.items()}
    changes = differences(have, items)
    result = {key: obj for key, obj in {**have, **changes}.items() if obj is not None}
    assert result == items
    assert all(have.get(key) != obj for key, obj in changes.items())
