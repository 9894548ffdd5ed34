"""What each verb does with a resource: the middle of the server, between HTTP and the store.

`Verbs.run` takes a `Call` that is authenticated and authorized and returns an `Answer`. Subresources with a
life of their own are in `subresources.py`; log and proxy stream and are served from `front.py`.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cluster.embedded import apply, body, crds, patch, read, tables
from cluster.embedded.apply import Manager
from cluster.embedded.bootstrap import Bootstrap
from cluster.embedded.call import Call, now
from cluster.embedded.crds import Definitions
from cluster.embedded.delete import Deleter, read_options
from cluster.embedded.paths import Target
from cluster.embedded.status import (
    ApiError,
    Object,
    bad_request,
    conflict,
    method_not_supported,
    unsupported_media,
)
from cluster.embedded.store import Entry, Store, encode
from cluster.embedded.structural import copy
from cluster.embedded.write import Writer

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
EVENT_SECONDS = 3600
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response: status code and JSON."""

    code: int
    body: bytes


class Verbs:
    """Carries out create, get, list, update, patch and delete; hands out watches."""

    def __init__(
        self, store: Store, writer: Writer, deleter: Deleter, definitions: Definitions, bootstrap: Bootstrap
    ) -> None:
        self.store = store
        self.writer = writer
        self._deleter = deleter
        self._definitions = definitions
        self._bootstrap = bootstrap

    async def run(self, call: Call, table: tables.Wish | None) -> Answer:
        """Carry out any verb but watch. Raises ApiError."""
        target = call.target
        on_subresource = bool(target.subresource) and target.verb not in ("get", "update", "patch")
        if target.verb not in call.kind.verbs or on_subresource or (target.verb == "create" and target.name):
            raise method_not_supported(target.verb)
        match call.target.verb:
            case "get":
                entry = self.store.get(call.kind.resource, call.target.namespace, call.target.name)
                return Answer(200, self._show(call, entry, table))
            case "list":
                entries, metadata = read.select(self.store, call)
                if table:
                    return Answer(200, tables.render(call.kind, entries, table, metadata))
                return Answer(200, read.list_json(call.kind, entries, metadata))
            case "create":
                manager = Manager(call.manager, "Update", call.target.subresource)
                entry = await self.create(call, body.read_object(call, call.kind), manager)
                return Answer(201, self._show(call, entry, table))
            case "update":
                return await self._update(call, table)
            case "patch":
                return await self._patch(call, table)
            case "delete":
                return Answer(200, encode(await self.delete(call, call.target.name, read_options(call))))
            case "deletecollection":
                return await self._delete_all(call)
        raise method_not_supported(call.target.verb)

    def watch(self, call: Call, table: tables.Wish | None) -> read.Watch:
        """A watch. Raises Expired, BadRequest."""
        if not table:
            return read.Watch(self.store, call)
        return read.Watch(self.store, call, tables.watch_shape(call.kind, table))

    def _show(self, call: Call, entry: Entry, table: tables.Wish | None) -> bytes:
        if table:
            return tables.render(call.kind, [entry], table, {"resourceVersion": str(entry.revision)})
        return entry.json(call.kind.api_version)

    async def create(self, call: Call, object: Object, manager: Manager | None) -> Entry:
        """Create, and what follows from it for definitions and namespaces."""
        entry = await self.writer.create(call, object, manager)
        if call.dry_run:
            return entry
        if call.kind.resource == crds.RESOURCE:
            call.warnings += crds.warnings(entry.object)
            return self._definitions.stored(entry)
        if call.kind.resource == "events":
            self._forget_events()
        if call.kind.resource == "namespaces":
            self._bootstrap.furnish(entry.object["metadata"]["name"])
        return entry

    def _forget_events(self) -> None:
        """Drop events that are older than an hour, as Kubernetes does (`--event-ttl`)."""
        limit = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - EVENT_SECONDS))
        for entry in self.store.oldest("events"):
            if entry.object["metadata"]["creationTimestamp"] > limit:
                break
            self.store.remove("events", entry.key, entry.revision)

    async def update(
        self, call: Call, transform: Callable[[Object], Object], manager: Manager | None
    ) -> Entry:
        """Update, and what follows from it for definitions."""
        entry = await self.writer.update(call, transform, manager)
        if call.kind.resource == crds.RESOURCE and not call.dry_run:
            if self.store.find(crds.RESOURCE, *entry.key) is entry:
                return self._definitions.stored(entry)
            self._definitions.deleted(entry.object)
        return entry

    async def _update(self, call: Call, table: tables.Wish | None) -> Answer:
        new = body.read_object(call, call.kind)
        manager = Manager(call.manager, "Update", call.target.subresource)
        if not new["metadata"].get("name"):
            raise bad_request("the name of the object must be set in metadata.name of an update")
        entry = await self.update(call, lambda _: copy(new), manager)
        return Answer(200, self._show(call, entry, table))

    async def _patch(self, call: Call, table: tables.Wish | None) -> Answer:
        media = call.content_type.partition(";")[0].strip()
        if media not in PATCHES or (media == STRATEGIC_PATCH and call.kind.custom):
            raise unsupported_media(
                media, [m for m in PATCHES if not call.kind.custom or m != STRATEGIC_PATCH]
            )
        document = body.decode(call.body, media)
        if media == APPLY_PATCH:
            code, entry = await self.apply(call, document)
        else:
            transform = patcher(call, media, document)
            code = 200
            entry = await self.update(
                call, transform, Manager(call.manager, "Update", call.target.subresource)
            )
        return Answer(code, self._show(call, entry, table))

    async def apply(self, call: Call, document: Any) -> tuple[int, Entry]:
        """Server-side apply of a document: (201 or 200, entry)."""
        if not call.query.get("fieldManager"):
            raise bad_request(
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: '
                "is required for apply patch"
            )
        applied = body.admit_shape(call, call.kind, document)
        name = applied["metadata"].setdefault("name", call.target.name)
        if name != call.target.name:
            raise bad_request(f"the name of the object ({name}) is not that of the URL ({call.target.name})")
        if applied["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        manager = Manager(call.query["fieldManager"], "Apply", call.target.subresource)
        if call.kind.namespaced:
            applied["metadata"].setdefault("namespace", call.target.namespace)
        force, schema = call.flag("force"), call.kind.body

        def transform(live: Object) -> Object:
            merged = apply.apply(schema, live, applied, manager, force=force, now=now())
            wanted = applied["metadata"].get("resourceVersion")
            if wanted:
                merged["metadata"]["resourceVersion"] = wanted
            return merged

        if self.store.find(call.kind.resource, call.target.namespace, call.target.name):
            return 200, await self.update(call, transform, None)
        if call.target.subresource:
            self.store.get(call.kind.resource, call.target.namespace, call.target.name)
        if applied["metadata"].get("uid"):
            raise conflict(
                call.kind.resource,
                name,
                "uid mismatch: the provided object specified uid, and no object exists",
            )
        created = apply.apply(schema, None, applied, manager, force=force, now=now())
        return 201, await self.create(call, created, None)

    async def delete(self, call: Call, name: str, options: Object) -> Object:
        """Delete, and what follows from it for definitions; what to answer."""
        before = self.store.get(call.kind.resource, call.target.namespace, name)
        answer, gone = await self._deleter.delete(call, name, options)
        if gone and call.kind.resource == crds.RESOURCE and not call.dry_run:
            self._definitions.deleted(before.object)
        if gone and not call.dry_run and before.key == ("default", "kubernetes"):
            self._bootstrap.publish_server()
        return answer

    async def _delete_all(self, call: Call) -> Answer:
        options = read_options(call)
        entries, metadata = read.select(self.store, call)
        for entry in entries:
            try:
                await self.delete(replace(call, target=_at(call.target, entry)), entry.key[1], options)
            except ApiError as error:
                if error.reason != "NotFound":
                    raise
        return Answer(200, read.list_json(call.kind, entries, metadata))


def _at(target: Target, entry: Entry) -> Target:
    namespace, name = entry.key
    return replace(target, verb="delete", namespace=namespace, name=name)


def patcher(call: Call, media: str, document: Any) -> Callable[[Object], Object]:
    """The function that applies a JSON, merge or strategic merge patch to an object. Raises BadRequest."""
    if media != JSON_PATCH and not isinstance(document, dict):
        raise bad_request(f"a patch of type {media} must be an object, not {json.dumps(document)[:60]}")
    kind = call.kind

    def transform(current: Object) -> Object:
        warned = len(call.warnings)
        if media == JSON_PATCH:
            new = patch.json_patch(current, document)
        elif media == MERGE_PATCH:
            new = patch.merge_patch(current, document)
        else:
            new = patch.strategic_merge(kind.body, current, document)
        del call.warnings[warned:]
        return body.admit_shape(call, kind, new, trusted=current)

    return transform
