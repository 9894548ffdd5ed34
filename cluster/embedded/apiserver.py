"""The API server as a process: its parts wired, TLS, and the start. How a request is answered: `front.py`.

    python -m cluster.embedded.apiserver --address 127.77.0.1 --port 6443 --state-dir DIR \\
        --service-range 127.77.128.0/17
"""

import argparse
import asyncio
import contextlib
import gc
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from cluster.embedded import certificates, lifeline
from cluster.embedded.addresses import Allocator
from cluster.embedded.admission import Admission
from cluster.embedded.auth import Tokens
from cluster.embedded.bootstrap import Bootstrap
from cluster.embedded.certificates import Credentials
from cluster.embedded.crds import Definitions
from cluster.embedded.delete import Deleter
from cluster.embedded.front import Front, make_request
from cluster.embedded.kinds import Registry
from cluster.embedded.openapi import OpenApi
from cluster.embedded.rbac import Authorizer
from cluster.embedded.serviceproxy import Proxy
from cluster.embedded.store import Store
from cluster.embedded.subresources import Subresources
from cluster.embedded.verbs import Verbs
from cluster.embedded.webhooks import Webhooks
from cluster.embedded.write import Writer

IDLE_SECONDS = 600.0
"""How long a connection is kept for the client's next request."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. `ready` is called once with {"server", "kubeconfig"} when requests are answered."""

    address: str
    port: int
    state_dir: Path
    service_range: str
    ready: Callable[[dict[str, str]], None] | None = None


class ApiServer:
    """All parts of the server, wired."""

    def __init__(self, options: Options) -> None:
        self.server = f"https://{options.address}:{options.port}"
        store, registry = Store(), Registry()
        allocator = Allocator(store, options.service_range)
        where = (options.address, options.port, allocator.api_address)
        self.credentials = certificates.prepare(options.state_dir, *where)
        self.webhooks, self.proxy = Webhooks(store), Proxy(store)
        admission = Admission(store, self.webhooks)
        bootstrap = Bootstrap(store, registry, self.credentials.ca_file.read_text())
        writer = Writer(store, admission, allocator)
        self.verbs = Verbs(store, writer, Deleter(store, admission), Definitions(store, registry), bootstrap)
        tokens, authorizer = Tokens(store, self.credentials.admin_token), Authorizer(store)
        self.front = Front(
            server=self.server,
            state_dir=options.state_dir,
            store=store,
            registry=registry,
            tokens=tokens,
            authorizer=authorizer,
            verbs=self.verbs,
            subresources=Subresources(self.verbs, tokens, authorizer, registry),
            openapi=OpenApi(registry),
            proxy=self.proxy,
        )
        bootstrap.run(*where)

    async def close(self) -> None:
        """Close the connections to others."""
        await self.proxy.close()
        await self.webhooks.close()


def _tls(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate_file, credentials.key_file)
    context.load_verify_locations(credentials.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # connections are kept; nobody resumes a session
    context.set_alpn_protocols(["http/1.1"])
    return context


async def serve(options: Options) -> None:
    """Serve until cancelled. Raises OSError if the address is taken."""
    gc.set_threshold(20_000, 20, 50)  # the store is long-lived: walking it often for garbage finds none
    server = ApiServer(options)
    http = web.Server(
        server.front.handle,
        request_factory=make_request,
        handler_cancellation=True,
        keepalive_timeout=IDLE_SECONDS,
    )
    runner = web.ServerRunner(http, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, options.address, options.port, ssl_context=_tls(server.credentials), backlog=512
        )
        await site.start()
        if options.ready:
            options.ready({"server": server.server, "kubeconfig": str(server.credentials.kubeconfig)})
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        await server.close()


def run(options: Options) -> None:
    """Serve on the fastest event loop there is until SIGINT or cancellation."""
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(options))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.embedded.apiserver", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--address", required=True, help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--state-dir", type=Path, required=True, help="where credentials and pod logs lie")
    parser.add_argument(
        "--service-range", required=True, help="range of the Services' addresses, e.g. 127.77.128.0/17"
    )
    given = parser.parse_args()
    lifeline.die_with_parent()  # whoever starts it by hand or from a test is its owner

    def ready(where: dict[str, str]) -> None:
        print(json.dumps(where), flush=True)

    options = Options(given.address, given.port, given.state_dir, given.service_range, ready)
    with contextlib.suppress(KeyboardInterrupt):
        run(options)


if __name__ == "__main__":
    main()
