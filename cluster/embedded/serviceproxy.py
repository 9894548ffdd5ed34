"""`/api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT]/proxy/PATH`: HTTP through the API server into the
cluster.

This is how a notebook reaches the mesh on every kind of cluster, without port-forward. Bodies stream both
ways; an upgrade (WebSocket) is refused. The same for pods. (kubernetes `pkg/registry/core/service/proxy.go`.)
"""

import logging
import ssl
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from cluster.embedded import endpoints
from cluster.embedded.paths import Target
from cluster.embedded.status import ApiError, bad_request, unavailable
from cluster.embedded.store import Store

log = logging.getLogger(__name__)

HOP_BY_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
              "transfer-encoding", "upgrade", "proxy-connection"}  # fmt: skip
PRIVATE = {"authorization", "host", "content-length", "expect"}
"""Request headers that are the API server's own business: a backend must not see the caller's credentials."""


@dataclass(frozen=True, slots=True)
class Name:
    """`[SCHEME:]NAME[:PORT]`"""

    scheme: str
    name: str
    port: str


def read_name(text: str) -> Name:
    """Raises BadRequest."""
    parts = text.split(":")
    if len(parts) == 1:
        return Name("http", parts[0], "")
    if len(parts) == 2:
        return Name("http", parts[0], parts[1])
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return Name(parts[0] or "http", parts[1], parts[2])
    raise bad_request(f'invalid name in a proxy request: "{text}"; write [http:|https:]NAME[:PORT]')


def backend(store: Store, target: Target) -> URL:
    """The URL of the Service's or pod's server, without path. Raises NotFound, BadRequest,
    ServiceUnavailable.
    """
    wanted = read_name(target.name)
    if target.resource == "services":
        address, port = endpoints.pick(store, target.namespace, wanted.name, wanted.port)
    else:
        address, port = _pod_address(store, target.namespace, wanted)
    return URL.build(scheme=wanted.scheme, host=address, port=port)


def _pod_address(store: Store, namespace: str, wanted: Name) -> tuple[str, int]:
    pod = store.get("pods", namespace, wanted.name).object
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise unavailable(f'pod "{wanted.name}" has no address yet; wait until it runs')
    ports = [port for c in pod["spec"]["containers"] for port in c.get("ports") or []]
    if wanted.port.isdecimal():
        return address, int(wanted.port)
    for port in ports:
        if not wanted.port or port.get("name") == wanted.port:
            return address, int(port["containerPort"])
    if not wanted.port:
        return address, 80
    raise bad_request(f'pod "{wanted.name}" has no port named "{wanted.port}"')


class Proxy:
    """Relays requests."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def relay(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Answer with what the backend answers. Raises ApiError where there is none to ask."""
        if "upgrade" in request.headers.get("Connection", "").lower():
            raise ApiError(
                400, "BadRequest", "proxy: upgrading a connection is not supported by the embedded cluster"
            )
        base = backend(self._store, target)
        url = URL(
            f"{base}/{target.rest}" + (f"?{query}" if (query := request.rel_url.raw_query_string) else ""),
            encoded=True,
        )
        try:
            return await self._exchange(request, url)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise unavailable(f"error trying to reach service: {reason}") from error

    async def _exchange(self, request: web.BaseRequest, url: URL) -> web.StreamResponse:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=10)
            self._session = aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        async with self._session.request(
            request.method,
            url,
            headers=_request_headers(request),
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            ssl=_unverified() if url.scheme == "https" else True,
            skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
        ) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for key, value in answer.headers.items():
                if key.lower() not in HOP_BY_HOP:
                    response.headers.add(key, value)
            await response.prepare(request)
            try:
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
            except aiohttp.ClientError as error:
                log.warning("%s broke off: %s", url, error)
                cut_off(request)
            return response


def cut_off(request: web.BaseRequest) -> None:
    """Close the connection in the middle of an answer, so that nobody takes it for a whole one."""
    if request.transport:
        request.transport.abort()


def _request_headers(request: web.BaseRequest) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for key, value in request.headers.items():
        if key.lower() not in HOP_BY_HOP | PRIVATE:
            headers.add(key, value)
    if length := request.headers.get("Content-Length"):
        headers["Content-Length"] = length
    peer = request.remote
    if peer:
        before = request.headers.get("X-Forwarded-For")
        headers["X-Forwarded-For"] = f"{before}, {peer}" if before else peer
    return headers


def _unverified() -> ssl.SSLContext:
    """As in Kubernetes, `https:` in a proxy URL encrypts but does not check who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
