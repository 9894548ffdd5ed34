"""The front of the server: one handler for every request, between HTTP and the verbs.

The order of a request: who (`auth`) -> what (`paths`) -> may they (`rbac`) -> do it (`verbs`, `subresources`) ->
answer. Every refusal becomes a `Status` here.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from cluster.embedded import auth, discovery, logs, paths, tables
from cluster.embedded.auth import ANONYMOUS, Tokens, User
from cluster.embedded.call import Call
from cluster.embedded.kinds import Registry
from cluster.embedded.openapi import SWAGGER_PROTOBUF, OpenApi
from cluster.embedded.paths import Target
from cluster.embedded.rbac import Ask, Authorizer
from cluster.embedded.serviceproxy import Proxy, cut_off
from cluster.embedded.status import (
    ApiError,
    Object,
    bad_request,
    internal,
    method_not_supported,
    unknown_path,
)
from cluster.embedded.store import Store, encode
from cluster.embedded.subresources import Subresources
from cluster.embedded.verbs import Verbs

log = logging.getLogger(__name__)
LARGEST_BODY = 3 * 1024 * 1024
"""Bytes; Kubernetes' limit for a request."""


@dataclass(frozen=True, slots=True)
class Front:
    """Answers requests. `server` is the URL that clients know, `state_dir` where the kubelet writes logs."""

    server: str
    state_dir: Path
    store: Store
    registry: Registry
    tokens: Tokens
    authorizer: Authorizer
    verbs: Verbs
    subresources: Subresources
    openapi: OpenApi
    proxy: Proxy

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every refusal becomes a Status."""
        try:
            return await self._answer(request)
        except ApiError as error:
            return _json(error.code, encode(error.status()))
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("%s %s", request.method, request.path_qs)
            refusal = internal(f"{type(error).__name__}: {error}")
            return _json(500, encode(refusal.status()))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        user = self._impersonated(self._user(request), request)
        target = paths.read(request.method, request.rel_url.raw_path, request.query)
        if not target.resource:
            self.authorizer.check(user, Ask(target.verb, path=target.path))
            return await self._outside(target, request.headers.get("Accept", ""))
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        kind = self.registry.get(target.group, target.version, target.resource)
        self._check_scope(kind.namespaced, target)
        if target.subresource and target.subresource not in kind.subresources:
            raise unknown_path()
        self.authorizer.check(user, _ask(target))
        if not kind.namespaced:  # a namespace's own path says "in itself", which only authorization asks for
            target = replace(target, namespace="")
        if target.subresource == "proxy":
            return await self.proxy.relay(request, target)
        call = Call(
            target=target,
            kind=kind,
            query=request.query,
            user=user,
            body=await _body(request),
            content_type=request.headers.get("Content-Type", "application/json"),
            user_agent=request.headers.get("User-Agent", ""),
        )
        return await self._serve(request, call)

    @staticmethod
    def _check_scope(namespaced: bool, target: Target) -> None:
        if not namespaced and target.namespace and target.resource != "namespaces":
            raise unknown_path()
        if namespaced and not target.namespace and target.verb not in ("list", "watch", "deletecollection"):
            raise (
                bad_request("an empty namespace may not be set during this request")
                if target.verb == "create"
                else unknown_path()
            )

    async def _serve(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        wish = tables.read_wish(request.headers.get("Accept", ""), request.query.get("includeObject", ""))
        if call.target.subresource == "log":
            return await _stream(request, logs.open_log(self.store, self.state_dir, call), "text/plain")
        if call.target.subresource in ("exec", "attach", "portforward"):
            raise _not_here(call.target.subresource)
        if handler := self.subresources.handler(call):
            answer = await handler(call)
        elif call.target.verb == "watch":
            return await _stream(request, self.verbs.watch(call, wish).lines())
        else:
            answer = await self.verbs.run(call, wish)
        response = _json(answer.code, answer.body)
        for warning in dict.fromkeys(call.warnings):
            response.headers.add("Warning", f"299 - {json.dumps(warning)}")
        return response

    def _user(self, request: web.BaseRequest) -> User:
        """Who asks: client certificate, bearer token, or nobody in particular. Raises Unauthorized."""
        peer = request.transport.get_extra_info("peercert") if request.transport else None
        if peer and (user := auth.from_certificate(peer)):
            return user
        header = request.headers.get("Authorization")
        if header is None:
            return ANONYMOUS
        return self.tokens.user(auth.bearer(header))[0]

    def _impersonated(self, user: User, request: web.BaseRequest) -> User:
        """Whom the user wants to be (`kubectl --as`). Raises Forbidden."""
        name, groups = (
            request.headers.get("Impersonate-User"),
            request.headers.getall("Impersonate-Group", []),
        )
        if not name:
            if groups:
                raise bad_request("requested impersonation of groups without impersonating a user")
            return user
        other = auth.impersonate(name, tuple(groups))
        for resource, wanted in [("users", name), *(("groups", group) for group in groups)]:
            self.authorizer.check(user, Ask("impersonate", resource=resource, name=wanted))
        return other

    async def _outside(self, target: Target, accept: str) -> web.Response:
        """Paths that are no resource: health, version, discovery."""
        if target.verb not in ("get", "head"):
            raise method_not_supported(target.verb)
        parts = [part for part in target.path.split("/") if part]
        match parts:
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["version"]:
                document: Object = discovery.version()
            case ["api"]:
                document = discovery.core_versions(self.server.removeprefix("https://"))
            case ["api", "v1"]:
                document = discovery.resources(self.registry, "", "v1")
            case ["apis"]:
                document = discovery.groups(self.registry)
            case ["apis", name]:
                document = discovery.group(self.registry, name)
            case ["apis", name, version]:
                document = discovery.resources(self.registry, name, version)
            case ["openapi", "v2"] if "openapi.spec.v2" in accept and "protobuf" in accept:
                return web.Response(body=self.openapi.swagger_protobuf(), content_type=SWAGGER_PROTOBUF)
            case ["openapi", "v2"]:
                return _json(200, await asyncio.to_thread(self.openapi.swagger))
            case ["openapi", "v3"]:
                document = self.openapi.index()
            case ["openapi", "v3", "api", version]:
                return _json(200, await asyncio.to_thread(self.openapi.document, "", version))
            case ["openapi", "v3", "apis", name, version]:
                return _json(200, await asyncio.to_thread(self.openapi.document, name, version))
            case ["openid", "v1", "jwks"]:
                document = self.tokens.jwks()
            case [".well-known", "openid-configuration"]:
                document = auth.openid_configuration(self.server)
            case _:
                raise unknown_path()
        return _json(200, encode(document))


def _ask(target: Target) -> Ask:
    return Ask(target.verb, target.group, target.resource, target.subresource, target.namespace, target.name)


def _json(code: int, body: bytes) -> web.Response:
    return web.Response(status=code, body=body, content_type="application/json")


async def _body(request: web.BaseRequest) -> bytes:
    if not request.body_exists:
        return b""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        why = f"the request is larger than {LARGEST_BODY} bytes"
        raise ApiError(413, "RequestEntityTooLarge", why) from error


def _not_here(subresource: str) -> ApiError:
    why = f"pods/{subresource} is not supported by the embedded cluster; use a kind cluster (--backend kind) for it"
    return ApiError(501, "NotImplemented", why)


async def _stream(
    request: web.BaseRequest, lines: AsyncIterator[bytes], media: str = "application/json"
) -> web.StreamResponse:
    """Send lines as they come; those that are ready together go out together."""
    response = web.StreamResponse(headers={"Content-Type": media, "Cache-Control": "no-cache, private"})
    await response.prepare(request)
    try:
        async for line in lines:
            await response.write(line)
        await response.write_eof()
    except ConnectionResetError:
        raise
    except (OSError, ValueError, LookupError, TypeError):
        log.exception("%s %s: broken off", request.method, request.path_qs)
        cut_off(request)
    finally:
        await lines.aclose()  # type: ignore[attr-defined]
    return response


def make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY)
