"""How every shop process listens: one loop, one address, quiet, and gone within seconds of SIGTERM."""

import asyncio
import logging
import os
import socket

from aiohttp import web

log = logging.getLogger(__name__)

# Longer than the idle time after which a proxy closes its own side (Envoy: one hour), so that it is always
# the caller who ends an idle connection and no request meets a server that is just hanging up.
KEEPALIVE_S = 3630.0
SHUTDOWN_S = 2.0


def bind_address() -> str:
    """The address to listen on: what a wildcard means in this pod (LAB_BIND_ADDRESS), or every address."""
    return os.environ.get("LAB_BIND_ADDRESS") or "0.0.0.0"


def pod_name() -> str:
    """This pod's name: POD_NAME (downward API), HOSTNAME as Kubernetes sets it, or the host's name."""
    return os.environ.get("POD_NAME") or os.environ.get("HOSTNAME") or socket.gethostname()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop, or the standard one (same work, about twice the CPU) where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run(app: web.Application, port: int, name: str) -> None:
    """Serve `app` until SIGTERM or SIGINT; requests under way get SHUTDOWN_S seconds to end.

    Raises OSError when the port is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    log.info("%s listens on %s:%d", name, bind_address(), port)
    web.run_app(
        app,
        host=bind_address(),
        port=port,
        loop=loop,
        print=None,
        access_log=None,
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=SHUTDOWN_S,
    )
