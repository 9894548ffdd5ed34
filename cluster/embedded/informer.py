"""A local, always fresh copy of the API's objects, and the queues that turn its changes into work.

Each kind is listed and watched once in the process, however many controllers look at it. Controllers are
level-triggered: a change only says *which* object to look at; what to do follows from the state of the copy.
(client-go `tools/cache`, `util/workqueue`; controller-runtime's "reconcile".)
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Hashable, Iterator
from typing import Any

import aiohttp

from cluster.embedded.kube import Api, ApiError, Object, Resource

Key = tuple[str, str]
"""(namespace, name); namespace is "" for cluster-wide kinds."""

Listener = Callable[[Object | None, Object | None], None]
"""Called with (old, new): old is None for a new object, new is None for a deleted one."""


def key_of(obj: Object) -> Key:
    """An object's key."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def version_of(obj: Object) -> int:
    """resourceVersion as a number: they are ordered since Kubernetes 1.35 (KEP-5504), and were in practice
    before.
    """
    return int(obj["metadata"].get("resourceVersion") or 0)


class Informer:
    """One kind's list and watch."""

    def __init__(self, api: Api, resource: Resource) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._api = api
        self._objects: dict[Key, Object] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Hear of every change from now on, and of everything that is there already."""
        self._listeners.append(listener)
        for obj in list(self._objects.values()):
            listener(None, obj)

    def get(self, namespace: str, name: str) -> Object | None:
        """The copy of an object. Never change it: others look at it too."""
        return self._objects.get((namespace, name))

    def all(self, namespace: str | None = None) -> Iterator[Object]:
        """All objects, or those of a namespace."""
        for (space, _), obj in list(self._objects.items()):
            if namespace is None or space == namespace:
                yield obj

    def assume(self, obj: Object) -> None:
        """Take the API's answer to a write into the copy, so that the next look does not miss it."""
        self._put(obj)

    async def run(self) -> None:
        """List and watch until cancelled; after an error, list again."""
        pause = 0.05
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._watch(version)
                    pause = 0.05
            except (TimeoutError, ApiError, aiohttp.ClientError, OSError) as error:
                if not (isinstance(error, ApiError) and error.code == 410):
                    print(f"watch of {self.resource.plural}: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)

    async def _list(self) -> str:
        answer = await self._api.list(self.resource)
        typing = {"apiVersion": self.resource.api_version, "kind": self.resource.kind}
        present = {key_of(item): {**typing, **item} for item in answer["items"]}
        for key in set(self._objects) - set(present):
            self._drop(self._objects[key])
        for obj in present.values():
            self._put(obj)
        self.synced.set()
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        async for event in self._api.watch(self.resource, version):
            obj = event["object"]
            version = obj["metadata"]["resourceVersion"]
            if event["type"] == "DELETED":
                self._drop(obj)
            elif event["type"] != "BOOKMARK":
                self._put(obj)
        return version

    def _put(self, obj: Object) -> None:
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None and version_of(old) >= version_of(obj):
            return  # our own write, seen already
        self._objects[key] = obj
        if old is not None and old["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._tell(old, None)
            old = None
        self._tell(old, obj)

    def _drop(self, obj: Object) -> None:
        known = self._objects.get(key_of(obj))
        if known is None or known["metadata"]["uid"] != obj["metadata"]["uid"]:
            return
        del self._objects[key_of(obj)]
        self._tell(obj, None)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        for listener in self._listeners:
            listener(old, new)


class Informers:
    """The informers of this process, one per kind, started on first use."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._informers: dict[Resource, Informer] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, resource: Resource) -> Informer:
        """The informer of a kind."""
        if resource not in self._informers:
            informer = self._informers[resource] = Informer(self.api, resource)
            self._tasks.append(asyncio.create_task(informer.run(), name=f"informer {resource.plural}"))
        return self._informers[resource]

    async def synced(self) -> None:
        """Wait until every informer has its first list."""
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    async def stop(self) -> None:
        """End all watches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class WorkQueue:
    """Keys to look at. A key is never worked on twice at once, and waits only once however often it is added."""

    FIRST_RETRY = 0.02
    LAST_RETRY = 30.0

    def __init__(self, name: str, work: Callable[[Any], Awaitable[float | None]], workers: int = 4) -> None:
        self._name = name
        self._work = work
        self._ready: asyncio.Queue[Hashable] = asyncio.Queue()
        self._waiting: set[Hashable] = set()
        self._running: set[Hashable] = set()
        self._again: set[Hashable] = set()
        self._failures: dict[Hashable, int] = {}
        self._timers: dict[Hashable, tuple[float, asyncio.TimerHandle]] = {}
        self._tasks = [asyncio.create_task(self._serve(), name=f"{name} {n}") for n in range(workers)]

    def add(self, key: Hashable) -> None:
        """Look at `key` soon."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_later(self, key: Hashable, seconds: float) -> None:
        """Look at `key` in a while; an earlier appointment stands."""
        when = time.monotonic() + seconds
        if key in self._timers:
            if self._timers[key][0] <= when:
                return
            self._timers[key][1].cancel()
        timer = asyncio.get_running_loop().call_later(seconds, self._due, key)
        self._timers[key] = (when, timer)

    def _due(self, key: Hashable) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _serve(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                later = await self._work(key)
                self._failures.pop(key, None)
                if later is not None:
                    self.add_later(key, later)
            except Exception as error:  # noqa: BLE001 - one bad object must not end the controller
                self._retry(key, error)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _retry(self, key: Hashable, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        ordinary = isinstance(error, ApiError) and error.reason in ("Conflict", "AlreadyExists", "NotFound")
        if not ordinary:
            detail = str(error) if isinstance(error, ApiError) else traceback.format_exc()
            print(f"{self._name}: {key}: {detail}", file=sys.stderr, flush=True)
        self.add_later(key, min(self.FIRST_RETRY * 2 ** (failures - 1), self.LAST_RETRY))

    async def stop(self) -> None:
        """End the workers; what is under way is cancelled."""
        for _, timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
