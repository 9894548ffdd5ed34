"""How one service of the shop calls another: an ordinary HTTP client that a sidecar can capture.

Nothing here knows of the mesh. Three habits make the calls meshable, and any application needs the same
three: it honours `http_proxy` (that is how the sidecar gets the request where there is no iptables), it
asks by service name, and it passes on the headers that let proxies tie the hops of one page view together
(https://istio.io/latest/docs/tasks/observability/distributed-tracing/overview/).
"""

import json
import os
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mesh.shop.fetch import Pool

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
    # what the gateway found out about the client, for rules deeper in the mesh
    "x-geo-country",
    "x-geo-region",
    "x-geo-city",
    "x-device-family",
    "x-device-os",
    "x-device-type",
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
    # The environment only: getproxies() would also ask macOS for the user's own proxy, which knows no
    # cluster.
    proxies = urllib.request.getproxies_environment()
    bypassed = urllib.request.proxy_bypass_environment(parts.hostname or "", proxies)  # type: ignore[attr-defined]
    if parts.scheme not in proxies or bypassed:
        return None
    return proxies[parts.scheme]


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
    """Another service of the shop, as seen from here."""

    def __init__(self, name: str) -> None:
        self.name = name
        url = service_url(name)
        self._pool = Pool(url, proxy_for(url))

    async def close(self) -> None:
        """Close the connections to it."""
        await self._pool.close()

    async def get(self, path: str, headers: Mapping[str, str], timeout_s: float) -> Any:
        """GET `path` and return the decoded JSON. Raises Unavailable for whatever is no JSON with code
        200.
        """
        try:
            answer = await self._pool.get(path, headers, timeout_s)
            if answer.status != 200:
                raise Unavailable(answer.status, f"{self.name}{path} answered {answer.status}")
            return json.loads(answer.body)
        except TimeoutError:
            raise Unavailable(500, f"{self.name}{path} gave no answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise Unavailable(500, f"{self.name}{path}: {error}") from error
