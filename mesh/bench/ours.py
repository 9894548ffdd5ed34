"""Runs our proxy on the bench's resources, handed over as a control plane's answers would be.

`python -m mesh.bench.ours DIRECTORY CASE HOST PORT UPSTREAM_PORT` serves until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from mesh.bench import resources
from mesh.bench.loop import run
from mesh.proxy.app import Proxy, calm_collector
from mesh.proxy.bootstrap import Bootstrap
from mesh.proxy.identity import Certificate
from mesh.proxy.subscription import CLUSTER, LISTENER
from mesh.proxy.xds import Upstream

_NOWHERE = Upstream("127.0.0.1:9", "", None, None)


async def serve(directory: Path, case: str, address: tuple[str, int], upstream: tuple[str, int]) -> None:
    """Serve for ever."""
    environ = {"POD_NAME": "bench-0", "POD_NAMESPACE": "default"}
    proxy = Proxy(Bootstrap(environ), _NOWHERE, None)
    if case == "mtls":
        chain = [(directory / name).read_text() for name in ("chain.pem", "root.pem")]
        proxy.secrets.set_certificate(Certificate(chain, (directory / "key.pem").read_bytes()))
    _tell(proxy, CLUSTER, resources.clusters(upstream, case))
    _tell(proxy, LISTENER, [resources.listener(address, case)])
    calm_collector()
    await asyncio.Event().wait()


def _tell(proxy: Proxy, type_url: str, messages: list[Any]) -> None:
    response = discovery_pb2.DiscoveryResponse(type_url=type_url, version_info="1", nonce="1")
    for message in messages:
        response.resources.add().Pack(message)
    proxy.subscription.answer(response)
    if reason := proxy.subscription.kinds[type_url].rejected:
        raise SystemExit(f"mesh.bench: our proxy refuses the resources: {reason}")


if __name__ == "__main__":
    _directory, _case, _host, _port, _upstream = sys.argv[1:]
    run(serve(Path(_directory), _case, (_host, int(_port)), ("127.0.0.1", int(_upstream))))
