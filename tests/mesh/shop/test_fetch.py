"""The client against servers that answer in every way servers do."""

import asyncio
import socket
import sys

import pytest
from aiohttp import web

from mesh.shop.fetch import NoConnection, Pool


class Server:
    """Answers each request with the next of some canned byte strings; None closes the connection."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.connections = 0
        self.requests = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        self.server.close()

    async def serve(self, reader, writer):
        self.connections += 1
        while self.answers:
            try:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            answer = self.answers.pop(0)
            if answer is None:
                break
            parts = answer if isinstance(answer, list) else [answer]
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if b"connection: close" in b"".join(parts):
                break
        writer.close()


async def get(pool, timeout_s=5.0):
    return await pool.get("/", {}, timeout_s)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        [OK[i : i + 1] for i in range(len(OK))],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
        [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"],  # ends with the connection
    ],
)
async def test_every_framing(answer):
    async with Server(answer) as server:
        found = await get(Pool(server.url))
        assert (found.status, found.body) == (200, b"ok")


async def test_keeps_connections_and_closes_them_when_told():
    close = [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"]
    async with Server(OK, OK, close, OK) as server:
        pool = Pool(server.url)
        for _ in range(4):
            assert (await get(pool)).status == 200
        assert server.connections == 2
        await pool.close()


async def test_asks_again_when_an_idle_connection_was_closed_but_only_then():
    async with Server(OK, None, OK, None) as server:
        pool = Pool(server.url)
        assert (await get(pool)).body == b"ok"
        assert (await get(pool)).body == b"ok"  # the server closes on the second; a third request is made
        assert server.connections == 2
    async with Server(None) as server:
        with pytest.raises(ConnectionError, match="the connection broke"):
            await get(Pool(server.url))
    half = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nx: connection: close\r\n\r\nok"]
    async with Server(OK, half, OK) as server:
        pool = Pool(server.url)
        await get(pool)
        with pytest.raises(ConnectionError):
            await get(pool)  # half an answer is not asked for again


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"])
async def test_nonsense_is_an_error(nonsense):
    async with Server(nonsense) as server:
        with pytest.raises(ConnectionError, match="no HTTP answer"):
            await get(Pool(server.url))


async def test_a_late_answer_is_a_timeout_and_its_connection_not_used_again():
    async with Server([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"], OK) as server:
        pool = Pool(server.url)
        with pytest.raises(TimeoutError):
            await get(pool, 0.05)
        assert (await get(pool)).body == b"ok" and server.connections == 2


async def test_nobody_there():
    with pytest.raises(NoConnection, match=r"no connection to 127\.0\.0\.1:1: "):
        await get(Pool("http://127.0.0.1:1"))
    with pytest.raises(NoConnection, match=r"no connection to no-such-name\.invalid:80"):
        await get(Pool("http://no-such-name.invalid"))


async def test_through_a_proxy_the_request_names_the_whole_url():
    async with Server(OK) as server:
        await Pool("http://reviews:9080", server.url).get("/reviews/0?a=b", {"end-user": "jason"}, 5)
        head = server.requests[0].decode().split("\r\n")
        assert head[0] == "GET http://reviews:9080/reviews/0?a=b HTTP/1.1"
        assert "host: reviews:9080" in head and "end-user: jason" in head


async def test_names_come_from_pythons_own_function(monkeypatch):
    """That function is where the embedded cluster puts the cluster's names."""
    async with Server(OK) as server:
        port = int(server.url.rpartition(":")[2])
        asked = []

        def getaddrinfo(host, *rest):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        assert (await get(Pool("http://reviews:9080"))).body == b"ok" and asked == ["reviews"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_calls_from_the_pods_own_address(serve, monkeypatch):
    async def who(request):
        return web.Response(text=request.remote)

    base = await serve(web.Server(who))
    monkeypatch.setenv("LAB_BIND_ADDRESS", "127.0.0.77")
    pool = Pool(base)
    assert (await get(pool)).body == b"127.0.0.77"
    await pool.close()
