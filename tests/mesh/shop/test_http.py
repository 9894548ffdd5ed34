"""The server, spoken to byte by byte and by a client of another make."""

import asyncio

import pytest

from mesh.shop.http import LARGEST_BODY, App, Request, Response, json_response, serving, text_response


async def slowly(request):
    await asyncio.sleep(0.02)
    return text_response(f"slow {request.path}")


def broken(request):
    raise RuntimeError("on purpose")


async def broken_later(request):
    raise RuntimeError("on purpose")


def echo(request: Request) -> Response:
    told = {"path": request.path, "query": request.query, "headers": request.headers, "form": request.form}
    return json_response({**told, "matched": request.matched})


@pytest.fixture
async def base(serve):
    app = App()
    app.route("GET", "/slow/{what}", slowly)
    app.route("GET", "/broken", broken)
    app.route("GET", "/broken-later", broken_later)
    app.route("GET", "/echo/{name}", echo)
    app.route("POST", "/echo/{name}", echo)
    return await serve(app)


async def say(base, *parts, until=b""):
    """Send bytes; everything that comes back until the server closes or `until` appears."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    got = await (reader.readuntil(until) if until else reader.read())
    writer.close()
    return got


async def test_path_query_headers_and_form(base, http):
    async with http.post(f"{base}/echo/a%20b?x=1&y=", data={"name": "é"}, headers={"X-A": "1"}) as answer:
        told = await answer.json()
    assert told["path"] == "/echo/a b" and told["matched"] == {"name": "a b"}
    assert told["query"] == {"x": "1", "y": ""} and told["form"] == {"name": "é"}
    assert told["headers"]["x-a"] == "1"


async def test_a_request_in_single_bytes(base):
    request = b"GET /echo/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    got = await say(base, *(request[i : i + 1] for i in range(len(request))))
    assert got.startswith(b"HTTP/1.1 200 OK\r\n") and b"connection: close" in got


async def test_requests_sent_ahead_are_answered_in_order(base):
    requests = b"".join(b"GET /slow/%d HTTP/1.1\r\nhost: a\r\n\r\n" % i for i in range(5))
    got = await say(base, requests + b"GET /echo/last HTTP/1.1\r\nconnection: close\r\n\r\n")
    positions = [got.index(b"slow /slow/%d" % i) for i in range(5)] + [got.index(b"/echo/last")]
    assert positions == sorted(positions)


async def test_head_absolute_form_and_http_1_0(base):
    got = await say(base, b"HEAD http://shop:9080/echo/x HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"\r\n\r\n")
    got = await say(base, b"GET /echo/x HTTP/1.0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200") and b"connection: close" in got


async def test_an_upgrade_is_answered_as_a_plain_request(base):
    request = b"GET /echo/x HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert (await say(base, request)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/broken", "/broken-later"])
async def test_a_broken_handler_breaks_one_request_only(base, http, path):
    for _ in range(2):
        async with http.get(base + path) as answer:
            assert answer.status == 500
    async with http.get(f"{base}/slow/x") as answer:
        assert await answer.text() == "slow /slow/x"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /nowhere HTTP/1.1\r\nconnection: close\r\n\r\n", b"404"),
        (b"DELETE /echo/x HTTP/1.1\r\nconnection: close\r\n\r\n", b"404"),
        (
            b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: %s\r\n" % (i, b"x" * 4000) for i in range(20)) + b"\r\n",
            b"431",
        ),
    ],
)
async def test_what_is_refused(base, request_bytes, status):
    assert (await say(base, request_bytes)).startswith(b"HTTP/1.1 " + status)


async def test_too_large_a_body_is_refused(base):
    head = b"POST /echo/x HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (2 * LARGEST_BODY)
    assert (await say(base, head + b"x" * (LARGEST_BODY + 1), until=b"\r\n")).startswith(b"HTTP/1.1 413 ")


async def test_requests_under_way_end_when_the_server_does():
    app = App()
    app.route("GET", "/slow/{what}", slowly)
    async with serving(app, "127.0.0.1", 0, grace_s=5) as port:
        asked = asyncio.create_task(say(f":{port}", b"GET /slow/x HTTP/1.1\r\n\r\n"))
        idle = asyncio.create_task(say(f":{port}"))
        await asyncio.sleep(0.01)
    assert b"slow /slow/x" in await asked
    assert await idle == b""
