"""The sidecar's hooks where Kubernetes has no sidecar containers."""

from __future__ import annotations

import asyncio

import pytest

from mesh.proxy import wait
from tests.support.echo import EchoServer


async def test_it_waits_until_the_proxy_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    server = EchoServer()
    await server.start()
    monkeypatch.setenv("ISTIO_HEALTH_PORT", str(server.address[1]))
    assert await asyncio.to_thread(wait.main, ["until-ready"]) == 0
    await server.stop()


def test_it_gives_up_on_a_proxy_that_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "LONGEST", 0.0)
    monkeypatch.setenv("ISTIO_HEALTH_PORT", "1")
    assert wait.main(["until-ready"]) == 1


def test_what_it_understands() -> None:
    assert wait.main(["seconds", "0"]) == 0
    assert wait.main([]) == wait.main(["seconds", "x"]) == 2
