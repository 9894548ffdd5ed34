"""Server-side apply, and the bookkeeping of field owners that every write keeps up.

An applier states the fields it wants and owns exactly these: what it stops stating goes, unless somebody else
owns it too; what another manager set to another value is a conflict, unless the applier forces it. An
ordinary update owns what it changed. (Kubernetes docs "Server-Side Apply"; structured-merge-diff
`merge/update.go`.)
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cluster.embedded import fieldsets
from cluster.embedded.fieldsets import Fields
from cluster.embedded.models import resolve
from cluster.embedded.status import ApiError, Object
from cluster.embedded.structural import copy

UNOWNED = {"name", "namespace", "generateName", "uid", "resourceVersion", "creationTimestamp", "generation",
           "managedFields", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"}  # fmt: skip
"""Metadata that belongs to the server."""


@dataclass(frozen=True, slots=True)
class Manager:
    """A field manager in one of its roles: the same name may apply and update, the main resource and
    subresources.
    """

    name: str
    operation: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """One entry of managedFields."""

    manager: Manager
    api_version: str
    time: str
    fields: Fields


def read(object: Object) -> list[Owned]:
    """The managedFields of an object."""
    return [
        Owned(
            Manager(entry.get("manager", ""), entry.get("operation", "Update"), entry.get("subresource", "")),
            entry.get("apiVersion", ""),
            entry.get("time", ""),
            entry.get("fieldsV1") or {},
        )
        for entry in object["metadata"].get("managedFields") or []
    ]


def write(object: Object, owners: Iterable[Owned]) -> None:
    """Set the managedFields of an object; owners of nothing are dropped."""
    entries = []
    for owned in owners:
        if not owned.fields:
            continue
        manager = owned.manager
        entry: Object = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": owned.api_version,
        }
        entry |= {"time": owned.time, "fieldsType": "FieldsV1", "fieldsV1": owned.fields}
        entries.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
    if entries:
        object["metadata"]["managedFields"] = entries
    else:
        object["metadata"].pop("managedFields", None)


def owned_part(object: Object) -> Object:
    """The object without what nobody can own."""
    metadata = {key: value for key, value in object.get("metadata", {}).items() if key not in UNOWNED}
    part = {key: value for key, value in object.items() if key not in ("apiVersion", "kind", "metadata")}
    return part | ({"metadata": metadata} if metadata else {})


def _entry(owners: list[Owned], manager: Manager) -> Owned | None:
    return next((owned for owned in owners if owned.manager == manager), None)


def _with(owners: list[Owned], new: Owned, touched: bool = False) -> list[Owned]:
    """The list with `new` in the place of its manager's entry, the time kept if it owns what it owned
    before and (`touched`) changed no value of it.
    """
    old = _entry(owners, new.manager)
    if old is None:
        return [*owners, new]
    if not touched and old.fields == new.fields and old.api_version == new.api_version:
        new = old
    return [new if owned is old else owned for owned in owners]


def track(schema: Object, old: Object | None, new: Object, manager: Manager, now: str) -> None:
    """Note in `new.metadata.managedFields` what an update by `manager` changed against `old` (None: it is
    created). An update may rewrite the list itself (kubectl does, to turn client-side apply into server-side); an
    empty one forgets all owners.
    """
    stated = new["metadata"].get("managedFields")
    if stated == [] and old is not None:
        new["metadata"].pop("managedFields")
        return
    owners = read(new if stated is not None and old is not None else old) if old is not None else []
    after = owned_part(new)
    if old is None:
        changed, removed = fieldsets.of(schema, after), dict[str, Any]()
    else:
        changed, removed = fieldsets.changes(schema, owned_part(old), after)
    if changed or removed:
        owners = _yield_to(owners, manager, changed, removed)
        own = _entry(owners, manager)
        mine = fieldsets.merge(own.fields if own else {}, changed)
        owners = _with(
            owners, Owned(manager, new["apiVersion"], now, fieldsets.subtract(mine, removed)), touched=True
        )
    write(new, owners)


def _yield_to(owners: list[Owned], manager: Manager, changed: Fields, removed: Fields) -> list[Owned]:
    """The owners after `manager` changed and removed fields that others may have owned."""
    result = []
    for owned in owners:
        fields = owned.fields
        if owned.manager != manager and changed:
            fields = fieldsets.subtract(fields, _leaves(changed))
        result.append(replace(owned, fields=fieldsets.subtract(fields, removed) if removed else fields))
    return result


def _leaves(fields: Fields) -> Fields:
    """The set without the parts that were merely added around fields: two managers may share an object or
    item.
    """
    return {key: _leaves(node) if node else node for key, node in fields.items() if key != "."}


def apply(
    schema: Object, live: Object | None, applied: Object, manager: Manager, *, force: bool, now: str
) -> Object:
    """The object after `manager` applied `applied`. Raises Conflict (409) naming each field another manager
    owns.
    """
    wanted = fieldsets.of(schema, owned_part(applied))
    if live is None:
        created: Object = copy(applied)
        write(created, [Owned(manager, applied["apiVersion"], now, wanted)])
        return created
    owners = read(live)
    merged = _merge(resolve(schema), live, applied)
    before = _entry(owners, manager)
    others = [owned for owned in owners if owned.manager != manager]
    if before:
        merged = _drop_unstated(schema, merged, before.fields, wanted, others)
    changed, removed = fieldsets.changes(schema, owned_part(live), owned_part(merged))
    conflicts = _conflicts(others, changed)
    if conflicts and not force:
        raise _refusal(conflicts)
    owners = [
        replace(o, fields=fieldsets.subtract(o.fields, conflicts.get(o.manager, (o, {}))[1])) for o in owners
    ]
    owners = [replace(o, fields=fieldsets.subtract(o.fields, removed)) for o in owners] if removed else owners
    metadata = {**merged["metadata"]}
    merged = {**merged, "metadata": metadata}
    mine = Owned(manager, applied["apiVersion"], now, wanted)
    write(merged, _with(owners, mine, touched=bool(changed or removed)))
    return merged


def _conflicts(others: list[Owned], changed: Fields) -> dict[Manager, tuple[Owned, Fields]]:
    found = {}
    for owned in others:
        shared = fieldsets.intersect(owned.fields, _leaves(changed))
        if shared:
            found[owned.manager] = (owned, shared)
    return found


def _refusal(conflicts: dict[Manager, tuple[Owned, Fields]]) -> ApiError:
    causes, texts = [], []
    for owned, fields in conflicts.values():
        who = f'conflict with "{owned.manager.name}"'
        if owned.manager.subresource:
            who += f' with subresource "{owned.manager.subresource}"'
        if owned.manager.operation == "Update":
            who += f" using {owned.api_version}"
        paths = list(fieldsets.members(fields))
        causes += [{"reason": "FieldManagerConflict", "message": who, "field": path} for path in paths]
        listed = ": " + paths[0] if len(paths) == 1 else "s:\n- " + "\n- ".join(paths) if paths else ""
        texts.append(f"{who}{listed}")
    count = len(causes)
    plural = "s" if count > 1 else ""
    message = f"Apply failed with {count} conflict{plural}: " + ("\n".join(texts))
    return ApiError(409, "Conflict", message, {"causes": causes})


def _merge(schema: Object, live: Any, applied: Any) -> Any:
    """`live` with everything `applied` states put over it."""
    if type(live) is not type(applied) or not isinstance(applied, dict | list):
        return copy(applied)
    if fieldsets.is_atomic(schema, applied):
        return live if live == applied else copy(applied)
    if isinstance(applied, dict):
        result = dict(live)
        for key, value in applied.items():
            child = fieldsets.child_schema(schema, key)
            result[key] = _merge(child, live[key], value) if key in live else copy(value)
        return result
    return _merge_list(schema, live, applied)


def _merge_list(schema: Object, live: list[Any], applied: list[Any]) -> list[Any]:
    """Items of the applied list in its order, those only others stated where they were before them."""
    items = resolve(schema.get("items") or {})
    old = {fieldsets.item_key(schema, item): item for item in live}
    new = {fieldsets.item_key(schema, item): item for item in applied}
    merged = {key: _merge(items, old[key], item) if key in old else copy(item) for key, item in new.items()}
    result, queue = [], list(merged)
    for key, item in old.items():
        if key not in merged:
            result.append(item)
            continue
        while key in queue:
            result.append(merged[queue.pop(0)])
    return result + [merged[key] for key in queue]


def _drop_unstated(
    schema: Object, merged: Object, before: Fields, wanted: Fields, others: list[Owned]
) -> Object:
    """Remove what the manager stated the last time, states no more, and nobody else owns."""
    gone = fieldsets.absent(before, wanted)
    for owned in others:
        gone = fieldsets.absent(gone, owned.fields) if gone else gone
    result: Object = _without(resolve(schema), merged, gone, wanted) if gone else merged
    return result


def _without(schema: Object, value: Any, gone: Fields, wanted: Fields) -> Any:
    """The value without the members of `gone`; what becomes empty by that goes too, unless it is wanted."""
    if not isinstance(value, dict | list) or fieldsets.is_atomic(schema, value):
        return value
    kept: list[tuple[str, Any]] = []
    for key, child, item in fieldsets.parts(schema, value):
        node = gone.get(key)
        if node is None:
            kept.append((key, item))
        elif node and "." not in node:
            rest = _without(child, item, node, wanted.get(key, {}))
            if rest or key in wanted:
                kept.append((key, rest))
    if isinstance(value, dict):
        return {key[2:]: item for key, item in kept}
    return [item for _, item in kept]
