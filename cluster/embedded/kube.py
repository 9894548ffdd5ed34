"""A thin client of the Kubernetes API, for controllers, scheduler, kubelet and kube-proxy.

Why not the official client here: this process is part of every embedded cluster, and that client costs it 25
MB and a third of a second for models that controllers do not want. They copy what they do not know (a newer
field must survive a read and a write), so plain JSON objects serve them better. Nothing in here knows of our
own API server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yaml

Object = dict[str, Any]

MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Resource:
    """A kind's place in the API: `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection, an object or its subresource."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS = Resource("", "v1", "events", "Event")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICASETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")


class ApiError(Exception):
    """The API server said no. `reason` is Kubernetes' word for it: NotFound, AlreadyExists, Conflict,
    Expired...
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    @classmethod
    def of(cls, code: int, body: bytes) -> ApiError:
        """From an HTTP status and, usually, a `Status` object."""
        try:
            status = json.loads(body)
            return cls(code, str(status.get("reason", "")), str(status.get("message", "")))
        except (ValueError, AttributeError):
            return cls(code, "", f"HTTP {code}: {body[:200].decode(errors='replace')}")


class Api:
    """One connection pool to one API server. Use as an async context manager."""

    def __init__(self, server: str, context: ssl.SSLContext, token: str = "", root_ca: str = "") -> None:
        self.server = server.rstrip("/")
        self.root_ca = root_ca
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers["User-Agent"] = "embedded-node"
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Api:
        """Client for the current context of a kubeconfig file (inline data or files, certificate or token)."""
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"], "context")
        cluster = _named(config["clusters"], context["cluster"], "cluster")
        user = _named(config["users"], context["user"], "user")
        authority = _data(cluster, "certificate-authority")
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        certificate, key = _data(user, "client-certificate"), _data(user, "client-key")
        if certificate and key:
            with TemporaryDirectory() as folder:
                pair = Path(folder, "pair.pem")
                pair.touch(mode=0o600)
                pair.write_bytes(certificate + b"\n" + key)
                tls.load_cert_chain(pair)
        return cls(cluster["server"], tls, user.get("token", ""), authority.decode())

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Any:
        """One call; the decoded answer, or ApiError."""
        url = f"{self.server}{path}"
        if query:
            url = f"{url}?{urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data is not None else None
        async with self._session.request(method, url, data=data, headers=headers) as response:
            answer = await response.read()
            if response.status >= 400:
                raise ApiError.of(response.status, answer)
            return json.loads(answer) if answer else None

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Read one object."""
        return dict(await self.request("GET", resource.path(namespace, name)))

    async def list(self, resource: Resource, namespace: str = "", **query: str) -> Object:
        """The collection as the API gives it: `items` and `metadata.resourceVersion`."""
        return dict(await self.request("GET", resource.path(namespace), **query))

    async def create(self, resource: Resource, namespace: str, body: Object, subresource: str = "") -> Object:
        """Create an object, or a subresource of `body`'s name (binding, token)."""
        name = body["metadata"]["name"] if subresource else ""
        typed = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return dict(await self.request("POST", resource.path(namespace, name, subresource), typed))

    async def update(self, resource: Resource, body: Object, subresource: str = "") -> Object:
        """Replace an object; Conflict if it changed since it was read."""
        meta = body["metadata"]
        typed = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        path = resource.path(meta.get("namespace", ""), meta["name"], subresource)
        return dict(await self.request("PUT", path, typed))

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        """JSON merge patch (RFC 7386)."""
        path = resource.path(namespace, name, subresource)
        return dict(await self.request("PATCH", path, body, MERGE))

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", grace: int | None = None
    ) -> Object | None:
        """Delete an object, only if it still has `uid`; None if it is gone already."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            return dict(await self.request("DELETE", resource.path(namespace, name), options))
        except ApiError as error:
            if error.code in (404, 409):  # 409: another object of this name by now
                return None
            raise

    async def watch(self, resource: Resource, version: str, **query: str) -> AsyncIterator[Object]:
        """Watch events after `version`; ends when the server closes the stream, ApiError if it is too old."""
        query = {**query, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        url = f"{self.server}{resource.path()}?{urlencode(query)}"
        async with self._session.get(url) as response:
            if response.status >= 400:
                raise ApiError.of(response.status, await response.read())
            pending = b""
            async for chunk in response.content.iter_any():
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield _event(json.loads(line))


def _event(event: Object) -> Object:
    if event["type"] == "ERROR":
        status = event["object"]
        raise ApiError(
            status.get("code", 500), status.get("reason", ""), status.get("message", "watch failed")
        )
    return event


def _named(entries: list[Object], name: str, what: str) -> Object:
    for entry in entries:
        if entry["name"] == name:
            return dict(entry[what])
    raise ValueError(f"kubeconfig has no {what} named {name}")


def _data(entry: Object, field: str) -> bytes:
    if inline := entry.get(f"{field}-data"):
        return base64.b64decode(inline)
    return Path(entry[field]).read_bytes() if entry.get(field) else b""


async def retry_conflict(attempt: Any, times: int = 5) -> Any:
    """Await `attempt()` anew while it meets a Conflict (somebody else wrote first)."""
    for left in reversed(range(times)):
        try:
            return await attempt()
        except ApiError as error:
            if error.reason != "Conflict" or left == 0:
                raise
            await asyncio.sleep(0.005)
    return None
