"""Keeps a copy of a collection of the Kubernetes API and tells what changes: list, then watch, and again if
need be.

First in the order a config change takes; `ingest` comes next. The one promise: whatever happens to the
connection, the API server or its history (a restart, a 410 Gone, a CRD that comes late or goes), the copy
ends up equal to the collection, and `on_change` has been told every difference.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mesh.control.kube import Kube, KubeError, Object, Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace ("" for objects that have none) and name."""

Changes = Mapping[Key, Object | None]
"""New state by key; None for what is gone."""

WATCH_SECONDS = 300
"""A watch is asked to end after this long, give or take, as client-go does; it goes on where it ended."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0


def key_of(obj: Object) -> Key:
    """Where an object stands in its collection."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def differences(have: Mapping[Key, Object], items: Mapping[Key, Object]) -> dict[Key, Object | None]:
    """What a new list changes in an old copy: only objects whose resourceVersion differs, and those gone.
    Pure.
    """
    changes: dict[Key, Object | None] = {key: None for key in have if key not in items}
    for key, obj in items.items():
        if key not in have or _version(have[key]) != _version(obj):
            changes[key] = obj
    return changes


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


@dataclass
class Reflector:
    """Follows one collection. Run `run` as a task; `synced` is set after the first list."""

    kube: Kube
    resource: Resource
    on_change: Callable[[Resource, Changes], None]
    namespace: str = ""
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    objects: dict[Key, Object] = field(default_factory=dict)
    _last_error: str = ""

    async def run(self) -> None:
        """List and watch until cancelled; after a failure, list anew, with growing pauses."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                while True:
                    version = await self._watch(version)
            except KubeError as error:
                failures += 1
                self._failed(error)
                await asyncio.sleep(min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE))

    def _failed(self, error: KubeError) -> None:
        """A collection that is not there (its CRD is not, or no more) is an empty one; anything else leaves
        the copy.
        """
        if error.status == 404:
            self._tell(differences(self.objects, {}))
            self.synced.set()
        elif error.status != 410 and str(error) != self._last_error:
            log.warning("watch of %s: %s; listing again until it works", self.resource.plural, error)
        self._last_error = str(error)

    async def _list(self) -> str:
        found = await self.kube.list(self.resource, self.namespace)
        self._tell(differences(self.objects, {key_of(obj): obj for obj in found.get("items") or []}))
        self.synced.set()
        return str(found["metadata"].get("resourceVersion", ""))

    async def _watch(self, version: str) -> str:
        """Follow the events after `version`; return the version to go on from when the server ends the
        stream.
        """
        seconds = int(WATCH_SECONDS * random.uniform(0.8, 1.2))
        async for event in self.kube.watch(self.resource, version, seconds, self.namespace):
            obj = event["object"]
            version = _version(obj) or version
            if event["type"] == "DELETED":
                self._tell({key_of(obj): None})
            elif event["type"] in ("ADDED", "MODIFIED"):
                self._tell({key_of(obj): obj})
        return version

    def _tell(self, changes: Changes) -> None:
        for key, obj in changes.items():
            if obj is None:
                self.objects.pop(key, None)
            else:
                self.objects[key] = obj
        if changes:
            self.on_change(self.resource, changes)
