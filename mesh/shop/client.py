"""How one service of the shop calls another: an ordinary HTTP client that a sidecar can capture.

Nothing here knows of the mesh. Three habits make the calls meshable, and any application needs the same
three: it honours `http_proxy` (that is how the sidecar gets the request where there is no iptables), it
asks by service name, and it passes on the headers that let proxies tie the hops of one page view together
(https://istio.io/latest/docs/tasks/observability/distributed-tracing/overview/).
"""

import asyncio
import contextlib
import json
import os
import socket
import urllib.request
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

# Trace context (W3C, B3, and what common tracers use), the request id that Envoy and our proxy set, and what
# routing rules like to match on. Bookinfo passes on the same ones.
FORWARDED_HEADERS = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "user-agent",
    "end-user",
    "cookie",
    "authorization",
    "jwt",
)


class Unavailable(Exception):
    """The other service gave no usable answer. `status` is its HTTP code, or 500 when there was none."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def forwarded(incoming: Mapping[str, str]) -> dict[str, str]:
    """The headers of an incoming request that every request made on its behalf carries on."""
    return {name: incoming[name] for name in FORWARDED_HEADERS if name in incoming}


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this URL (`http_proxy`, `no_proxy`), or None to call
    directly.
    """
    parts = urlsplit(url)
    # The environment only: getproxies() would also ask macOS for the user's own proxy, which knows no cluster.
    proxies = urllib.request.getproxies_environment()
    bypassed = urllib.request.proxy_bypass_environment(parts.hostname or "", proxies)  # type: ignore[attr-defined]
    if parts.scheme not in proxies or bypassed:
        return None
    return proxies[parts.scheme]


class PythonResolver(AbstractResolver):
    """Resolves through Python's own `socket.getaddrinfo`.

    The embedded cluster has no DNS server: it teaches exactly that function the cluster's names, and an event
    loop's resolver (uvloop's) would pass it by. On a real cluster it is the system's resolver as always.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError (socket.gaierror) when it has none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host,
                host=str(sockaddr[0]),
                port=int(sockaddr[1]),
                family=found_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found_family, _, proto, _, sockaddr in found
        ]

    async def close(self) -> None:
        """Nothing is held open."""


def socket_from_pod(info: tuple[Any, ...]) -> socket.socket:
    """A socket that calls from this pod's own address.

    Pods of the embedded cluster share one loopback device, where the kernel would pick 127.0.0.1 for all of
    them; whoever is called could not tell who calls. On a real cluster a pod has an address of its own.
    """
    family, kind, proto, _, address = info
    made = socket.socket(family, kind, proto)
    own = os.environ.get("LAB_BIND_ADDRESS", "")
    if own.startswith("127.") and str(address[0]).startswith("127."):
        no_port = getattr(
            socket, "IP_BIND_ADDRESS_NO_PORT", None
        )  # Linux: take the port only when connecting
        if no_port is not None:
            made.setsockopt(socket.IPPROTO_IP, no_port, 1)
        with contextlib.suppress(OSError):  # not our address on this host: call as the kernel likes
            made.bind((own, 0))
    return made


def new_session(connections: int = 100) -> aiohttp.ClientSession:
    """A client session with keep-alive and at most `connections` connections. Needs a running loop."""
    connector = aiohttp.TCPConnector(
        limit=connections,
        resolver=PythonResolver(),
        socket_factory=cast(Any, socket_from_pod),
        keepalive_timeout=30.0,  # shorter than the servers': see serve.KEEPALIVE_S
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def service_url(name: str) -> str:
    """Base URL of another service, from Bookinfo's environment variables: `NAME_HOSTNAME`,
    `NAME_SERVICE_PORT` (Kubernetes sets the latter too) and `SERVICES_DOMAIN`; by default just its name at
    port 9080.
    """
    host = os.environ.get(f"{name.upper()}_HOSTNAME") or name
    domain = os.environ.get("SERVICES_DOMAIN", "")
    port = os.environ.get(f"{name.upper()}_SERVICE_PORT") or "9080"
    return f"http://{host}{'.' + domain if domain else ''}:{port}"


class Peer:
    """Another service of the shop, as seen from here: its base URL, and the proxy on the way to it."""

    def __init__(self, session: aiohttp.ClientSession, name: str) -> None:
        self.name = name
        self._session = session
        self._base = service_url(name)
        self._proxy = proxy_for(self._base)

    async def get(self, path: str, headers: Mapping[str, str], timeout_s: float) -> Any:
        """GET `path` and return the decoded JSON. Raises Unavailable for whatever is no JSON with code
        200.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.get(
                self._base + path, headers=headers, proxy=self._proxy, timeout=timeout
            ) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise Unavailable(answer.status, f"{self.name}{path} answered {answer.status}")
                return json.loads(body)
        except TimeoutError:
            raise Unavailable(500, f"{self.name}{path} gave no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(500, f"{self.name}{path}: {error}") from error
