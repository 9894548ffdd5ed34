"""The state of the cluster: every object, one revision counter, and the history that watches read.

etcd and the API server's watch cache in one. Stored objects are parsed JSON that nobody changes any more: a
write puts a new dict in the old one's place. Each write appends one event to the history of its resource.
Watchers do not own queues: they walk that shared history at their own pace, and the bytes of an event are
made once for all of them. One that falls behind the kept history gets 410 Gone and lists again, as with
Kubernetes.

Nothing here knows of HTTP, kinds or validation, and nothing awaits but the watch, so a write is atomic.
"""

import asyncio
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from cluster.embedded.status import Object, already_exists, conflict, expired, not_found

HISTORY = 1024
"""Events kept for each resource at least; a watch may resume from any of them."""

Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-scoped object is ""."""


_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def encode(value: object) -> bytes:
    """Compact JSON."""
    return _ENCODE(value).encode()


_SORTED = json.JSONEncoder(sort_keys=True).encode


def same(left: object, right: object) -> bool:
    """Are two JSON values equal? Stricter than ==, for which true is 1."""
    return left == right and _SORTED(left) == _SORTED(right)


@dataclass(slots=True, eq=False)
class Entry:
    """An object at one revision, and its JSON once somebody asked for it."""

    object: Object
    revision: int
    _json: dict[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        metadata = self.object["metadata"]
        return metadata.get("namespace", ""), metadata["name"]

    def view(self, api_version: str) -> Object:
        """The object as a version of its API shows it (CRDs: conversion strategy None changes apiVersion
        only).
        """
        if self.object["apiVersion"] == api_version:
            return self.object
        return self.object | {"apiVersion": api_version}

    def forget(self) -> None:
        """Give the JSON up: another state has taken this one's place, only late watchers may still ask for it."""
        self._json.clear()

    def json(self, api_version: str) -> bytes:
        """JSON of `view(api_version)`, made once."""
        data = self._json.get(api_version)
        if data is None:
            data = self._json[api_version] = encode(self.view(api_version))
        return data


@dataclass(slots=True, eq=False)
class Event:
    """A change of one object. `previous` is what it replaced (None for ADDED)."""

    type: str
    entry: Entry
    previous: Entry | None


@dataclass(slots=True, eq=False)
class Log:
    """What happened to one resource. `first` counts the events already dropped, `forgotten` is the last one's
    revision.
    """

    entries: dict[Key, Entry] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    first: int = 0
    forgotten: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def append(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) >= 2 * HISTORY:
            self.forgotten = self.events[HISTORY - 1].entry.revision
            del self.events[:HISTORY]
            self.first += HISTORY
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()

    def position(self, revision: int) -> int:
        """Where a watch that has seen everything up to `revision` goes on."""
        if revision < self.forgotten:
            raise expired(f"too old resource version: {revision} ({self.forgotten + 1})")
        return self.first + bisect_right(self.events, revision, key=lambda event: event.entry.revision)


class Store:
    """All objects of the cluster, by resource (`pods`, `deployments.apps`) and key."""

    def __init__(self) -> None:
        self.revision = 1
        self._logs: dict[str, Log] = {}

    def _log(self, resource: str) -> Log:
        log = self._logs.get(resource)
        if log is None:
            log = self._logs[resource] = Log(forgotten=0)
        return log

    def get(self, resource: str, namespace: str, name: str) -> Entry:
        """The object's current entry. Raises NotFound."""
        entry = self._log(resource).entries.get((namespace, name))
        if entry is None:
            raise not_found(resource, name)
        return entry

    def find(self, resource: str, namespace: str, name: str) -> Entry | None:
        return self._log(resource).entries.get((namespace, name))

    def entries(self, resource: str, namespace: str = "") -> list[Entry]:
        """Entries by namespace and name; all namespaces if `namespace` is ""."""
        entries = self._log(resource).entries
        return [entries[key] for key in sorted(entries) if not namespace or key[0] == namespace]

    def oldest(self, resource: str) -> list[Entry]:
        """The two objects of a resource that were made first."""
        return list(islice(self._log(resource).entries.values(), 2))

    def objects(self, resource: str, namespace: str = "") -> Iterator[Object]:
        return (entry.object for entry in self.entries(resource, namespace))

    def create(self, resource: str, object: Object) -> Entry:
        """Store a new object; the caller hands the dict over. Raises AlreadyExists."""
        log = self._log(resource)
        entry = Entry(object, self.revision + 1)
        if entry.key in log.entries:
            raise already_exists(resource, entry.key[1])
        self._commit(log, Event("ADDED", entry, None))
        return entry

    def replace(self, resource: str, object: Object, expected: int) -> Entry:
        """Put `object` in the place of the entry of revision `expected`. Raises NotFound, Conflict."""
        entry = Entry(object, self.revision + 1)
        log = self._log(resource)
        self._commit(log, Event("MODIFIED", entry, self._expect(resource, entry.key, expected)))
        return entry

    def remove(self, resource: str, key: Key, expected: int) -> Entry:
        """Delete the entry of revision `expected` and return its last state. Raises NotFound, Conflict."""
        previous = self._expect(resource, key, expected)
        last = previous.object | {"metadata": dict(previous.object["metadata"])}
        self._commit(self._log(resource), Event("DELETED", Entry(last, self.revision + 1), previous))
        return previous

    def drop(self, resource: str) -> None:
        """Forget a whole resource (its definition was deleted), telling its watchers of each object."""
        for entry in self.entries(resource):
            self.remove(resource, entry.key, entry.revision)

    def _expect(self, resource: str, key: Key, revision: int) -> Entry:
        entry = self.get(resource, *key)
        if entry.revision != revision:
            raise conflict(resource, key[1])
        return entry

    def _commit(self, log: Log, event: Event) -> None:
        self.revision = event.entry.revision
        event.entry.object["metadata"]["resourceVersion"] = str(self.revision)
        if event.previous is not None:
            event.previous.forget()
        if event.type == "DELETED":
            del log.entries[event.entry.key]
        else:
            log.entries[event.entry.key] = event.entry
        log.append(event)

    def start(self, resource: str, revision: int) -> int:
        """The position from which to `read` after `revision`. Raises Expired (410)."""
        if revision > self.revision:
            raise expired(f"too large resource version: {revision}, current: {self.revision}")
        return self._log(resource).position(revision)

    def read(self, resource: str, position: int) -> list[Event]:
        """The events of a resource from `position` on. Raises Expired (410) when the history has overtaken
        it.
        """
        log = self._log(resource)
        if position < log.first:
            raise expired(f"too old resource version: the watch fell {log.first - position} events behind")
        return log.events[position - log.first :]

    async def wait(self, resource: str, seconds: float) -> bool:
        """Wait for the next event of a resource; False if none came in time."""
        waiting = self._log(resource).waiting
        future = asyncio.get_running_loop().create_future()
        waiting.add(future)
        try:
            done, _ = await asyncio.wait([future], timeout=seconds)
        finally:
            waiting.discard(future)
        return bool(done)
