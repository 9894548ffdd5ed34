"""Create and update: the way of an object into the store.

    decode and check the shape -> prepare (names, uid, who may set what) -> defaults -> mutating admission ->
    rules -> validating admission -> note the owners of fields -> store

Admission may take time (webhooks), so the store checks at the end that nobody else changed the object
meanwhile; a patch is then tried again on the new state, an update with a resourceVersion refused with a
conflict.
"""

import json
from collections.abc import Callable

from cluster.embedded import apply, defaults, rules, strategy, structural
from cluster.embedded.addresses import Allocator
from cluster.embedded.admission import Admission
from cluster.embedded.apply import Manager
from cluster.embedded.call import Call, now
from cluster.embedded.kinds import Kind
from cluster.embedded.models import resolve
from cluster.embedded.status import ApiError, Object, conflict
from cluster.embedded.store import Entry, Store, same

ATTEMPTS = 8
Transform = Callable[[Object], Object]


class Writer:
    """Creates and updates objects."""

    def __init__(self, store: Store, admission: Admission, allocator: Allocator) -> None:
        self.store = store
        self._admission = admission
        self._allocator = allocator

    async def create(self, call: Call, object: Object, manager: Manager | None = None) -> Entry:
        """Store a new object (a fresh dict). `manager` None: server-side apply has noted its owner
        already.
        """
        kind = call.kind
        owners = object["metadata"].get("managedFields")
        strategy.prepare_create(kind, object, call.target.namespace)
        self._admission.check_namespace(kind, call.target.namespace)
        self._complete(kind, object)
        object = await self._admission.mutate(call, "CREATE", object, None)
        self._complete(kind, object)
        if kind.resource == "services":
            self._allocator.assign(object, None)
        rules.check(kind, object, None)
        await self._admission.validate(call, "CREATE", object, None)
        if manager:
            apply.track(resolve(kind.body), None, object, manager, now())
        elif owners:
            object["metadata"]["managedFields"] = owners
        if call.dry_run:
            object["metadata"].pop("resourceVersion", None)
            return Entry(object, 0)
        if kind.storage_version:
            object["apiVersion"] = f"{kind.group}/{kind.storage_version}"
        return self.store.create(kind.resource, object)

    def _complete(self, kind: Kind, object: Object) -> None:
        if kind.custom:
            structural.default(kind.body, object)
        else:
            defaults.apply_defaults(kind.resource, object)

    async def update(
        self, call: Call, transform: Transform, manager: Manager | None, *, retry: bool = True
    ) -> Entry:
        """Replace the object that `call` names by what `transform` makes of a copy of it (its to change).

        Raises NotFound, Conflict (409), and what transform, rules and admission raise.
        """
        target = call.target
        for attempt in range(ATTEMPTS):
            entry = self.store.get(call.kind.resource, target.namespace, target.name)
            new = transform(json.loads(entry.json(call.kind.api_version)))
            try:
                return await self._replace(call, entry, new, manager)
            except ApiError as error:
                lost = error.reason == "Conflict" and error.message.endswith("try again")
                if not lost or not retry or attempt == ATTEMPTS - 1 or _pinned(new, entry):
                    raise
        raise conflict(call.kind.resource, target.name)

    async def _replace(self, call: Call, entry: Entry, new: Object, manager: Manager | None) -> Entry:
        kind, old = call.kind, entry.view(call.kind.api_version)
        if _pinned(new, entry):
            raise conflict(kind.resource, call.target.name)
        strategy.prepare_update(kind, new, old, call.target.subresource)
        self._complete(kind, new)
        new = await self._admission.mutate(call, "UPDATE", new, old)
        strategy.prepare_update(kind, new, old, call.target.subresource)
        self._complete(kind, new)
        if kind.resource == "services":
            self._allocator.assign(new, old)
        rules.check(kind, new, old, call.target.subresource)
        await self._admission.validate(call, "UPDATE", new, old)
        if manager:
            apply.track(resolve(kind.body), old, new, manager, now())
        if call.dry_run:
            return Entry(new, entry.revision)
        return self._commit(kind, entry, old, new)

    def _commit(self, kind: Kind, entry: Entry, old: Object, new: Object) -> Entry:
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if same(old, new):
            return entry
        share(old, new)
        if kind.storage_version:
            new["apiVersion"] = f"{kind.group}/{kind.storage_version}"
        if is_finished(kind, new):
            self.store.replace(kind.resource, new, entry.revision)
            return self.store.remove(kind.resource, entry.key, self.store.revision)
        return self.store.replace(kind.resource, new, entry.revision)


def share(old: Object, new: Object) -> None:
    """Let the new state hold the old one's parts where they are equal: history keeps both for a while.

    Not the metadata as a whole: the store writes the new resourceVersion into it.
    """
    for key, value in new.items():
        if key == "metadata":
            share(old["metadata"], value)
        elif key in old and same(old[key], value):
            new[key] = old[key]


def _pinned(new: Object, entry: Entry) -> bool:
    """Does the object name a resourceVersion other than the stored one?"""
    wanted = new["metadata"].get("resourceVersion")
    return bool(wanted) and wanted != entry.object["metadata"]["resourceVersion"]


def is_finished(kind: Kind, object: Object) -> bool:
    """Is an object marked for deletion free to go: no finalizer left, no grace period to wait for?"""
    metadata = object["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if kind.resource == "namespaces" and (object.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")
