"""The Kubernetes API as the control plane uses it: plain dicts over the official client.

The official client brings what is hard to get right (credentials, TLS, token refresh, kubeconfig). Its
typed models are left aside: rules of ours have none, and reading a pod into one costs more than all we do
with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_CREDENTIALS = "/var/run/secrets/kubernetes.io/serviceaccount"


class KubeError(Exception):
    """The API server refused or could not be reached. `status` is the HTTP status, 0 when there was no
    answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection in the API: `Resource("networking.istio.io", "v1", "virtualservices")`; core has group
    "".
    """

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection (in all namespaces if none is given) or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{scope}/{self.plural}", name, subresource) if part)


NAMESPACES = Resource("", "v1", "namespaces")
SERVICES = Resource("", "v1", "services")
PODS = Resource("", "v1", "pods")
CONFIG_MAPS = Resource("", "v1", "configmaps")
SECRETS = Resource("", "v1", "secrets")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews")
MUTATING_WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
VALIDATING_WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")


class Kube:
    """A connection to the API server; make it with `connect`, end it with `close`."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, environ: Mapping[str, str] = os.environ) -> Kube:
        """With the pod's service account where there is one, else with KUBECONFIG or ~/.kube/config.

        Raises KubeError when there are no credentials at all. In an embedded cluster the files of a pod
        appear under CONTAINER_SANDBOX_MOUNT_POINT (Kubernetes' own name, from HostProcess containers).
        """
        configuration = Configuration()
        root = Path(environ.get("CONTAINER_SANDBOX_MOUNT_POINT", "") + _CREDENTIALS)
        try:
            if environ.get("KUBERNETES_SERVICE_HOST") and (root / "token").exists():
                loader = InClusterConfigLoader(str(root / "token"), str(root / "ca.crt"), environ=environ)
                loader.load_and_set(configuration)
            else:
                await load_kube_config(
                    config_file=environ.get("KUBECONFIG"),
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError, ValueError) as error:
            raise KubeError(0, f"no usable credentials for the Kubernetes API: {error}") from error
        return cls(ApiClient(configuration))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        """One object, or None when there is none of that name."""
        try:
            return await self._call("GET", resource.path(namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, resource: Resource, namespace: str = "") -> Object:
        """A whole collection as the API's List object, with the resourceVersion to watch from."""
        return await self._call("GET", resource.path(namespace))

    async def create(self, resource: Resource, obj: Object, namespace: str = "") -> Object:
        """Create an object; the answer is it as stored."""
        return await self._call("POST", resource.path(namespace), body=obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str = "",
        subresource: str = "",
        content_type: str = MERGE_PATCH,
    ) -> Object:
        """Patch an object or one of its subresources."""
        path = resource.path(namespace, name, subresource)
        return await self._call("PATCH", path, body=patch, content_type=content_type)

    async def apply(self, resource: Resource, obj: Object, field_manager: str) -> Object:
        """Server-side apply: make the fields of `obj` so, and leave the others alone."""
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": field_manager, "force": "true"}
        return await self._call("PATCH", path, body=obj, query=query, content_type=APPLY_PATCH)

    async def watch(
        self, resource: Resource, version: str, seconds: int, namespace: str = ""
    ) -> AsyncIterator[Object]:
        """The events after resourceVersion `version`, until the server ends the stream (after about
        `seconds`).

        Raises KubeError, with status 410 when that version is too old to watch from.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        response = await self._send("GET", resource.path(namespace), query=query, timeout=seconds + 30)
        try:
            if response.status != 200:
                raise _refusal(response.status, await response.read())
            async for line in _lines(response):
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise KubeError(int(status.get("code") or 500), str(status.get("message")))
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise KubeError(0, f"the watch of {resource.plural} broke: {error!r}") from error
        finally:
            response.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        response = await self._send(
            method, path, body=body, query=query, content_type=content_type, timeout=30
        )
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"{method} {path}: no whole answer: {error!r}") from error
        if response.status >= 300:
            raise _refusal(response.status, data)
        return cast(Object, json.loads(data))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float,
    ) -> aiohttp.ClientResponse:
        url = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            prepared = await self._client.param_serialize(
                method, url, header_params=headers, auth_settings=["BearerToken"]
            )
            answer = await self._client.rest_client.request(
                method, prepared[1], headers=prepared[2], body=body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(0, f"{method} {path}: the API server does not answer: {error!r}") from error
        return cast(aiohttp.ClientResponse, answer.response)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Line by line, however long: an object of a real cluster may be larger than aiohttp's buffer for lines."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _refusal(status: int, data: bytes) -> KubeError:
    """The API server's own sentence, from its Status object."""
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:200].decode("utf-8", "replace")
    return KubeError(status, f"HTTP {status}: {message}")
