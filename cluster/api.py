"""A cluster's API as the lab uses it: apply, get, delete, wait and the service proxy, on plain dicts.

It stands on the official client's connection (credentials, TLS, proxies) and on nothing else of it: the lab's
objects are mostly of kinds that client has no classes for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config
from urllib3.exceptions import HTTPError

from cluster.sentences import plain

Object = dict[str, Any]

FIELD_MANAGER = "service-mesh-lab"
_PASSING = (0, 429, 500, 503, 504)
"""Statuses (0: no answer) of an API server that is away or busy for a moment."""
_PAUSE = 0.5


class ApiError(Exception):
    """The API server refused or gave no answer: str() is one sentence, `code` the HTTP status (0: none)."""

    def __init__(self, code: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Resource:
    """Where a kind lives: its path pieces, as discovery tells them."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The REST path of the collection or of one object."""
        root = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        inside = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{quote(name)}" if name else "")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: `status`, lower-cased `headers`, `body`, and the `warnings` the API server attached."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    warnings: tuple[str, ...] = ()

    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """A connection to one cluster. Thread-safe, as the official client's pool is."""

    def __init__(self, kubeconfig: Path, context: str | None = None) -> None:
        self._client: ApiClient = new_client_from_config(config_file=str(kubeconfig), context=context)
        self._by_group_version: dict[str, list[Resource]] = {}

    @cached_property
    def server(self) -> str:
        """The API server's address."""
        return str(self._client.configuration.host)

    def close(self) -> None:
        """Give the connections back."""
        self._client.rest_client.pool_manager.clear()

    # --- one request ---------------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """Send one request; the answer whatever its status. Raises ApiError(0) when there is none."""
        sent = dict(headers or {})
        self._client.update_params_for_auth(sent, [], ["BearerToken"], path, method, body)
        url = self.server + path + ("?" + urlencode(query) if query else "")
        try:
            got = self._client.rest_client.pool_manager.request(
                method, url, body=body, headers=sent, timeout=timeout, retries=False
            )
        except HTTPError as error:
            raise ApiError(0, f"the API server at {self.server} does not answer: {error}") from error
        except ApiException as error:
            raise ApiError(0, f"the API server at {self.server} does not answer: {error.reason}") from error
        warnings = tuple(_warning_text(value) for value in got.headers.getlist("Warning"))
        return Answer(got.status, {k.lower(): v for k, v in got.headers.items()}, got.data, warnings)

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> tuple[Any, tuple[str, ...]]:
        """Send a Kubernetes request; the decoded answer and its warnings. Raises ApiError from 400 on."""
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        answer = self.send(method, path, query, data, headers)
        if answer.status >= 400:
            raise _refusal(answer)
        return (answer.json() if answer.body else None), answer.warnings

    # --- kinds ---------------------------------------------------------------------------------------------

    def resources(self, group_version: str) -> list[Resource]:
        """What the server serves under a group and version (discovery, remembered). Raises ApiError."""
        if group_version not in self._by_group_version:
            root = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
            found, _ = self.request("GET", root)
            self._by_group_version[group_version] = [
                Resource(
                    group_version, r["name"], r["kind"], r["namespaced"], tuple(r.get("shortNames") or ())
                )
                for r in found["resources"]
                if "/" not in r["name"]
            ]
        return self._by_group_version[group_version]

    def resource(self, api_version: str, kind: str) -> Resource:
        """The resource of an object's apiVersion and kind. Raises ApiError naming the kind we don't know."""
        try:
            served = self.resources(api_version)
        except ApiError as error:
            if error.code != 404:
                raise
            served = []
        for resource in served:
            if resource.kind == kind:
                return resource
        self._by_group_version.pop(api_version, None)  # a CRD may bring it later
        raise ApiError(404, f'apiVersion/kind: this cluster knows no kind "{kind}" in "{api_version}"')

    def find(self, word: str) -> Resource:
        """The resource a person means by a plural, kind or short name. Raises ApiError."""
        groups, _ = self.request("GET", "/apis")
        versions = ["v1"] + [group["preferredVersion"]["groupVersion"] for group in groups["groups"]]
        wanted, _, group = word.lower().partition(".")
        for version in versions:
            if group and not version.startswith(group):
                continue
            for resource in self.resources(version):
                names = {resource.plural, resource.kind.lower(), *resource.short_names}
                if wanted in names:
                    return resource
        raise ApiError(404, f'the cluster knows no kind "{word}"')

    # --- objects -------------------------------------------------------------------------------------------

    def path_of(self, obj: Object) -> str:
        """The REST path of an object. Raises ApiError for a kind the cluster does not know."""
        meta = obj["metadata"]
        resource = self.resource(obj["apiVersion"], obj["kind"])
        return resource.path(meta.get("namespace") or "default", meta["name"])

    def apply(self, obj: Object, dry_run: bool = False) -> tuple[Object, tuple[str, ...]]:
        """Server-side apply with strict field checks; the stored object and warnings. Raises ApiError.

        Source: Kubernetes, "Server-Side Apply".
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return self.request("PATCH", self.path_of(obj), query, obj, "application/apply-patch+yaml")

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None where there is none. Raises ApiError."""
        try:
            found, _ = self.request("GET", self.resource(api_version, kind).path(namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise
        return dict(found)

    def list(self, api_version: str, kind: str, namespace: str | None = None, **query: str) -> list[Object]:
        """All objects of a kind, in one namespace or (None) in all. Raises ApiError."""
        found, _ = self.request("GET", self.resource(api_version, kind).path(namespace), query)
        return list(found["items"])

    def patch(self, obj: Object, change: Object) -> tuple[Object, tuple[str, ...]]:
        """A JSON merge patch (RFC 7386) on the object that `obj` names. Raises ApiError."""
        query = {"fieldManager": FIELD_MANAGER}
        return self.request("PATCH", self.path_of(obj), query, change, "application/merge-patch+json")

    def delete(self, obj: Object) -> bool:
        """Delete what `obj` names; False where there was nothing. Raises ApiError."""
        try:
            self.request("DELETE", self.path_of(obj))
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    # --- waiting -------------------------------------------------------------------------------------------

    def watch(self, path: str, query: Mapping[str, str], timeout: float) -> Iterator[Object]:
        """Watch events of a collection, for at most `timeout` seconds. Raises ApiError."""
        headers = {"Accept": "application/json"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        asked = {**query, "watch": "true", "timeoutSeconds": str(max(1, int(timeout)))}
        try:
            answer = self._client.rest_client.pool_manager.request(
                "GET",
                f"{self.server}{path}?{urlencode(asked)}",
                headers=headers,
                preload_content=False,
                timeout=timeout + 5,
                retries=False,
            )
        except HTTPError as error:
            raise ApiError(0, f"the API server at {self.server} does not answer: {error}") from error
        try:
            if answer.status >= 400:
                raise _refusal(Answer(answer.status, dict(answer.headers), answer.data))
            rest = b""
            for chunk in answer.stream(None):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        except HTTPError as error:
            raise ApiError(0, f"the watch on {path} broke off: {error}") from error
        finally:
            answer.close()
            answer.release_conn()

    def wait(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        until: Callable[[dict[str, Object]], bool],
        timeout: float,
    ) -> bool:
        """Follow a collection until `until(objects by name)` holds; False after `timeout` seconds.

        An API server that is away or busy for a moment is asked again. Raises ApiError when it still is at the end.
        """
        path = self.resource(api_version, kind).path(namespace)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self._follow(path, until, deadline):
                    return True
            except ApiError as error:
                if error.code not in _PASSING or time.monotonic() + _PAUSE > deadline:
                    raise
                time.sleep(_PAUSE)
        return False

    def _follow(self, path: str, until: Callable[[dict[str, Object]], bool], deadline: float) -> bool:
        """One list and the watch that follows it, until it ends. Raises ApiError."""
        listing, _ = self.request("GET", path)
        have: dict[str, Object] = {item["metadata"]["name"]: item for item in listing["items"]}
        if until(have):
            return True
        since = {"resourceVersion": listing["metadata"]["resourceVersion"]}
        for event in self.watch(path, since, deadline - time.monotonic()):
            if event["type"] in ("ERROR", "BOOKMARK"):  # 410 Gone: list again
                return False
            name = event["object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                have.pop(name, None)
            else:
                have[name] = event["object"]
            if until(have):
                return True
        return False

    # --- services ------------------------------------------------------------------------------------------

    def service(
        self,
        namespace: str,
        name: str,
        port: int | str,
        path: str,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """One HTTP request to a Service through the API server's service proxy: the same on every backend."""
        at = f"/api/v1/namespaces/{quote(namespace)}/services/{quote(name)}:{port}/proxy{path}"
        sent = dict(headers or {})
        data = None
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            data = json.dumps(body).encode()
        return self.send(method, at, query, data, sent, timeout)


def _warning_text(header: str) -> str:
    """The text of a Warning header `299 - "text"` (RFC 7234 section 5.5)."""
    _, _, quoted = header.partition('"')
    return quoted.rstrip('"').replace('\\"', '"') or header


def _refusal(answer: Answer) -> ApiError:
    """A Kubernetes Status (or whatever else came) as one sentence."""
    try:
        status = json.loads(answer.body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return ApiError(
            answer.status, plain(str(status.get("message", "refused"))), str(status.get("reason", ""))
        )
    text = answer.body.decode(errors="replace").strip()
    return ApiError(answer.status, text or f"HTTP {answer.status}")
