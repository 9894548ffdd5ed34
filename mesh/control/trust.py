"""Spreads the mesh's root certificate: a ConfigMap in every namespace, the CA bundle in both webhook
configurations.

Sidecars mount the ConfigMap to know their control plane, the API server needs the bundle to trust our
webhooks. Both are driven by watches, so a new namespace, or a webhook configuration applied anew, is served
at once.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable

from mesh.control.kube import (
    CONFIG_MAPS,
    JSON_PATCH,
    MUTATING_WEBHOOKS,
    VALIDATING_WEBHOOKS,
    Kube,
    KubeError,
    Object,
    Resource,
)
from mesh.control.watch import Changes

log = logging.getLogger(__name__)

ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_KEY = "root-cert.pem"
WEBHOOKS = {MUTATING_WEBHOOKS: "mesh-injector", VALIDATING_WEBHOOKS: "mesh-validator"}
FIELD_MANAGER = "mesh-control"
RETRY = 1.0
"""Seconds until a write that failed is tried again."""


def root_config_map(namespace: str, root_pem: str) -> Object:
    """What sidecars of a namespace mount at /var/run/secrets/istio."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}},
        "data": {ROOT_KEY: root_pem},
    }


def bundle_patch(configuration: Object, root_pem: str) -> list[Object]:
    """The JSON patch that gives every webhook of a configuration this CA bundle; empty when they all have
    it.
    """
    bundle = base64.b64encode(root_pem.encode()).decode()
    return [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle}
        for index, hook in enumerate(configuration.get("webhooks") or ())
        if hook["clientConfig"].get("caBundle") != bundle
    ]


class Trust:
    """Feed it the changes of namespaces and webhook configurations; `run` does the writing."""

    def __init__(self, kube: Kube, root_pem: str) -> None:
        self._kube, self._root_pem = kube, root_pem
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._unpatched: set[Resource] = set()
        self._namespaces: set[str] = set()

    @property
    def webhooks_ready(self) -> bool:
        """True when every webhook configuration that is there has our bundle."""
        return not self._unpatched

    def namespaces_changed(self, changes: Changes) -> None:
        """Give each new namespace its ConfigMap."""
        for (_, name), obj in changes.items():
            if obj is None or (obj.get("status") or {}).get("phase") == "Terminating":
                self._namespaces.discard(name)
            elif name not in self._namespaces:
                self._namespaces.add(name)
                self._work.put_nowait(lambda name=name: self._write_root(name))  # type: ignore[misc]

    def webhooks_changed(self, resource: Resource, changes: Changes) -> None:
        """See that our configuration of this kind has the bundle."""
        name = WEBHOOKS[resource]
        for key, obj in changes.items():
            if key != ("", name):
                continue
            self._unpatched.discard(resource)
            if obj is not None and bundle_patch(obj, self._root_pem):
                self._unpatched.add(resource)
                self._work.put_nowait(lambda: self._patch_webhook(resource, name))

    async def run(self) -> None:
        """Do what is to be written, in order, until cancelled; what fails comes again later."""
        while True:
            job = await self._work.get()
            try:
                await job()
            except KubeError as error:
                log.warning("spreading the root certificate: %s; trying again", error)
                asyncio.get_running_loop().call_later(RETRY, self._work.put_nowait, job)

    async def _write_root(self, namespace: str) -> None:
        if namespace not in self._namespaces:  # deleted meanwhile
            return
        try:
            await self._kube.apply(CONFIG_MAPS, root_config_map(namespace, self._root_pem), FIELD_MANAGER)
        except KubeError as error:
            if error.status not in (403, 404):  # a namespace that is going takes nothing new
                raise
            log.info("namespace %s does not take the root certificate: %s", namespace, error)

    async def _patch_webhook(self, resource: Resource, name: str) -> None:
        found = await self._kube.get(resource, name)
        patch = bundle_patch(found, self._root_pem) if found else []
        if patch:
            await self._kube.patch(resource, name, patch, content_type=JSON_PATCH)
        self._unpatched.discard(resource)
