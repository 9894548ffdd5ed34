"""How every shop process runs: one loop, one address, quiet, and gone within seconds of SIGTERM."""

import asyncio
import logging
import os
import signal
import socket

from mesh.shop.http import App, serving

log = logging.getLogger(__name__)

SHUTDOWN_S = 2.0


def bind_address() -> str:
    """The address to listen on: what a wildcard means in this pod (LAB_BIND_ADDRESS), or every address."""
    return os.environ.get("LAB_BIND_ADDRESS") or "0.0.0.0"


def pod_name() -> str:
    """This pod's name: POD_NAME (downward API), HOSTNAME as Kubernetes sets it, or the host's name."""
    return os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname()


def run(app: App, port: int, name: str) -> None:
    """Serve `app` until SIGTERM or SIGINT; requests under way get SHUTDOWN_S seconds to end.

    Raises OSError when the port is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(app, port, name))


async def _serve(app: App, port: int, name: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(app, bind_address(), port, SHUTDOWN_S):
        log.info("%s listens on %s:%d", name, bind_address(), port)
        await stop.wait()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop, or the standard one (same work, about twice the CPU) where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
