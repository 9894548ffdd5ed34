"""Get, list and watch: the way of an object out of the store."""

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Callable

from cluster.embedded import selectors
from cluster.embedded.call import Call
from cluster.embedded.kinds import Kind
from cluster.embedded.selectors import Predicate
from cluster.embedded.status import ApiError, Object, bad_request, expired
from cluster.embedded.store import Entry, Event, Store, encode

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS = (1800.0, 3600.0)
"""How long a watch lives that states no timeoutSeconds: a random time, so that clients do not all come back
at once.
"""

Shape = Callable[[list[Entry]], bytes]
"""Turns the entries of a list or watch event into the bytes of a Table, when the client wants one."""


def predicate(call: Call) -> Predicate:
    """Which objects the call's selectors and name mean. Raises BadRequest."""
    labels = call.query.get("labelSelector", "")
    fields = call.query.get("fieldSelector", "")
    chosen = selectors.label_selector(labels) if labels else selectors.everything
    if fields:
        chosen = selectors.both(chosen, selectors.field_selector(fields, call.kind.fields))
    if call.target.name:
        name = call.target.name
        chosen = selectors.both(chosen, lambda object: object["metadata"]["name"] == name)
    return chosen


def revision(text: str) -> int:
    """A resourceVersion as a number. Raises BadRequest."""
    if not text.isdecimal():
        raise bad_request(f'resourceVersion: Invalid value: "{text}": must be a number as the server gave it')
    return int(text)


def select(store: Store, call: Call) -> tuple[list[Entry], Object]:
    """(entries, ListMeta) of a list, `limit` and `continue` obeyed. Raises Expired for a token of another
    time.
    """
    chosen = predicate(call)
    entries = store.entries(call.kind.resource, call.target.namespace)
    if chosen is not selectors.everything:
        entries = [entry for entry in entries if chosen(entry.object)]
    metadata: Object = {"resourceVersion": str(store.revision)}
    limit = int(call.query.get("limit") or 0)
    if token := call.query.get("continue"):
        last, metadata["resourceVersion"] = _untoken(token)
        entries = [entry for entry in entries if list(entry.key) > last]
    if limit and len(entries) > limit:
        metadata["continue"] = _token(entries[limit - 1], metadata["resourceVersion"])
        metadata["remainingItemCount"] = len(entries) - limit
        entries = entries[:limit]
    return entries, metadata


def _token(entry: Entry, at: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*entry.key, at]).encode()).decode()


def _untoken(token: str) -> tuple[list[str], str]:
    try:
        namespace, name, at = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise expired("The provided continue parameter is not valid; list again without it") from error
    return [namespace, name], at


def list_json(kind: Kind, entries: list[Entry], metadata: Object) -> bytes:
    """The bytes of a List; each item's JSON is made once and shared."""
    head = encode({"kind": kind.list_name, "apiVersion": kind.api_version, "metadata": metadata})
    items = b",".join(entry.json(kind.api_version) for entry in entries)
    return head[:-1] + b',"items":[' + items + b"]}"


class Watch:
    """One watch: the lines to send, in order."""

    def __init__(self, store: Store, call: Call, shape: Shape | None = None) -> None:
        self._store = store
        self._kind = call.kind
        self._namespace = call.target.namespace
        self._matches = predicate(call)
        self._shape = shape
        self._bookmarks = call.flag("allowWatchBookmarks")
        self._initial = call.flag("sendInitialEvents")
        self._since = call.query.get("resourceVersion", "")
        seconds = call.query.get("timeoutSeconds")
        self._seconds = float(seconds) if seconds else random.uniform(*WATCH_SECONDS)
        listed = self._since in ("", "0") or self._initial
        self._first = store.entries(self._kind.resource, self._namespace) if listed else []
        self._revision = store.revision if listed else revision(self._since)
        self._position = self._started()

    def _started(self) -> int | ApiError:
        """Where to go on, or why that is impossible: told on the stream, as clients expect it of a watch."""
        try:
            return self._store.start(self._kind.resource, self._revision)
        except ApiError as error:
            return error

    async def lines(self) -> AsyncIterator[bytes]:
        """Pieces of whole lines of JSON until the watch's time is over; an ERROR line ends it early (410
        Gone).
        """
        end = asyncio.get_running_loop().time() + self._seconds
        if first := [self._line("ADDED", entry) for entry in self._first if self._matches(entry.object)]:
            yield b"".join(first)
        self._first = []
        if self._initial:
            yield self._bookmark({"k8s.io/initial-events-end": "true"}, self._revision)
        if isinstance(self._position, ApiError):
            yield self._error(self._position)
            return
        try:
            async for piece in self._follow(self._position, end):
                yield piece
        except ApiError as error:
            yield self._error(error)

    async def _follow(self, position: int, end: float) -> AsyncIterator[bytes]:
        """What happens from `position` on, until the loop's time is `end`. Raises Expired."""
        loop, resource = asyncio.get_running_loop(), self._kind.resource
        while (now := loop.time()) < end:
            if events := self._store.read(resource, position):
                position += len(events)
                if lines := [line for event in events if (line := self._event(event))]:
                    yield b"".join(lines)
            elif not await self._store.wait(resource, min(BOOKMARK_SECONDS, end - now)) and self._bookmarks:
                yield self._bookmark({}, self._store.revision)

    @staticmethod
    def _error(error: ApiError) -> bytes:
        return b'{"type":"ERROR","object":' + encode(error.status()) + b"}\n"

    def _bookmark(self, annotations: Object, at: int) -> bytes:
        metadata: Object = {"resourceVersion": str(at), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        mark = {"kind": self._kind.kind, "apiVersion": self._kind.api_version, "metadata": metadata}
        return b'{"type":"BOOKMARK","object":' + encode(mark) + b"}\n"

    def _event(self, event: Event) -> bytes | None:
        """The line of an event as this watch sees it: an object that leaves the selection is DELETED, and so
        on.
        """
        if self._namespace and event.entry.key[0] != self._namespace:
            return None
        fits = event.type != "DELETED" and self._matches(event.entry.object)
        fitted = event.previous is not None and self._matches(event.previous.object)
        if fits:
            return self._line("MODIFIED" if fitted else "ADDED", event.entry)
        return self._line("DELETED", event.entry) if fitted else None

    def _line(self, kind: str, entry: Entry) -> bytes:
        body = self._shape([entry]) if self._shape else entry.json(self._kind.api_version)
        return b'{"type":"' + kind.encode() + b'","object":' + body + b"}\n"
