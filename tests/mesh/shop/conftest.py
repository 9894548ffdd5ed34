"""The real services, served in the test's own loop on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """serve(app or low-level server) -> base URL."""
    runners: list[web.BaseRunner[Any]] = []

    async def start(app: web.Application | web.Server[Any]) -> str:
        runner: web.BaseRunner = (
            web.AppRunner(app, shutdown_timeout=0.1)
            if isinstance(app, web.Application)
            else web.ServerRunner(app, shutdown_timeout=0.1)
        )
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    yield start
    for runner in reversed(runners):
        await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session
