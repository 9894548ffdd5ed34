"""Our proxy in a process of its own, for tests in a pod: `python -m tests.support.pod_proxy ADS_ADDRESS`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from mesh.proxy.app import Proxy
from mesh.proxy.bootstrap import Bootstrap
from mesh.proxy.xds import Upstream
from tests.support.proxies import signer, until


async def main() -> None:
    proxy = Proxy(Bootstrap(os.environ), Upstream(sys.argv[1], "", None, None), signer("bookinfo-web"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, proxy.stopping.set)
    running = asyncio.create_task(proxy.run())
    await until(lambda: proxy.ready, 30.0)
    print("ready", flush=True)
    await running


asyncio.run(main())
