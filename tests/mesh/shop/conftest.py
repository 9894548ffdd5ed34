"""The real services, served in the test's own loop on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mesh.shop.http import App, serving

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """serve(app of ours, or low-level server of aiohttp) -> base URL."""
    async with AsyncExitStack() as stack:

        async def start(app: App | web.Server[Any]) -> str:
            if isinstance(app, App):
                port = await stack.enter_async_context(serving(app, "127.0.0.1", 0))
                return f"http://127.0.0.1:{port}"
            runner = web.ServerRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        yield start


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session
