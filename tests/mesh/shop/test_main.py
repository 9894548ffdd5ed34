"""Services as processes: how they start, refuse to start, and end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import pytest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def start(*arguments, **environ):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "LAB_BIND_ADDRESS": "127.0.0.1"} | environ
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, env=env, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("module", [("mesh.shop", "details"), ("mesh.shop.visitors",)])
async def test_serves_until_told_to_stop(http, module):
    port = free_port()
    process = await start(*module, "--port", str(port))
    said = b""
    while f"listens on 127.0.0.1:{port}".encode() not in said:
        said = await process.stderr.readline()
    async with http.get(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.status == 200  # and the connection stays open, idle
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "sentence"),
    [
        (("mesh.shop", "basket"), {}, 2, "invalid choice: 'basket'"),
        (
            ("mesh.shop", "reviews", "--version", "v9"),
            {},
            2,
            "reviews comes as v1, v2, v3; for 'v9' set STAR_COLOR",
        ),
        (("mesh.shop.visitors",), {"VISITORS_RATE": "fast"}, 2, "VISITORS_RATE is no number: 'fast'"),
    ],
)
async def test_says_in_a_sentence_why_it_does_not_start(arguments, environ, status, sentence):
    process = await start(*arguments, **environ)
    _, said = await process.communicate()
    assert process.returncode == status and sentence in said.decode()
    assert "Traceback" not in said.decode()


async def test_a_taken_port_is_said(serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start("mesh.shop", "ratings", "--port", str(taken.getsockname()[1]))
        _, said = await process.communicate()
    assert process.returncode == 1
    assert "shop: ratings cannot listen on port" in said.decode() and "in use" in said.decode().lower()
