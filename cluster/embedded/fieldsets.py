"""Who owns which field? Sets of field paths in the form of `managedFields[].fieldsV1`, and their algebra.

A set is a tree of dicts: `f:NAME` a field, `k:{...}` an item of a list that is a map, `v:VALUE` an item of a
set; a node is a member of the set when it is a leaf or has the key ".". (sigs.k8s.io/structured-merge-diff
`fieldpath`.)
"""

import json
from collections.abc import Iterator
from typing import Any

from cluster.embedded.models import resolve
from cluster.embedded.status import Object

Fields = dict[str, Any]
"""A set of paths; {} is the empty set at the top, and a leaf (itself a member) below it."""

_ENCODE = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
_DEDUCED: Object = {"x-kubernetes-preserve-unknown-fields": True}


def child_schema(schema: Object, key: str) -> Object:
    """The schema of a field, the referring property's own extensions included."""
    extra = schema.get("additionalProperties")
    found: Object = (schema.get("properties") or {}).get(key) or (
        extra if isinstance(extra, dict) else _DEDUCED
    )
    if "$ref" not in found:
        return found
    merged: Object = resolve(found)
    return merged | {k: v for k, v in found.items() if k != "$ref"} if len(found) > 1 else merged


def is_atomic(schema: Object, value: Any) -> bool:
    """Is the value owned as a whole?"""
    if isinstance(value, dict):
        return bool(schema.get("x-kubernetes-map-type") == "atomic")
    if isinstance(value, list):
        return bool(schema.get("x-kubernetes-list-type", "atomic") == "atomic")
    return True


def item_key(schema: Object, item: Any) -> str:
    """The path element of a list item: `k:{"name":"x"}` or `v:"x"`."""
    if schema.get("x-kubernetes-list-type") == "set":
        return "v:" + _ENCODE(item)
    keys = schema.get("x-kubernetes-list-map-keys") or []
    properties = resolve(schema.get("items") or {}).get("properties") or {}
    chosen = {}
    for key in sorted(keys):
        if isinstance(item, dict) and key in item:
            chosen[key] = item[key]
        elif "default" in properties.get(key, {}):
            chosen[key] = properties[key]["default"]
        elif key == "protocol":
            chosen[key] = "TCP"
    return "k:" + _ENCODE(chosen)


def parts(schema: Object, value: Any) -> Iterator[tuple[str, Object, Any]]:
    """(path element, schema, value) of the parts of an object or of a list that is not atomic."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield "f:" + key, child_schema(schema, key), item
    else:
        items = resolve(schema.get("items") or _DEDUCED)
        for item in value:
            yield item_key(schema, item), items, item


def of(schema: Object, value: Any) -> Fields:
    """Every field that `value` sets."""
    return _of(resolve(schema), value) if value else {}


def _of(schema: Object, value: Any) -> Fields:
    if is_atomic(schema, value) or not value:
        return {}
    fields = {key: _of(child, item) for key, child, item in parts(schema, value)}
    if isinstance(value, list):
        for node in fields.values():
            if node:
                node["."] = {}
    return fields


def union(left: Fields, right: Fields) -> Fields:
    if not left or not right:
        return _member(left, right)
    result = {key: union(node, right[key]) if key in right else node for key, node in left.items()}
    result |= {key: node for key, node in right.items() if key not in left}
    return result


def _member(left: Fields, right: Fields) -> Fields:
    """Union where one side is a leaf: the leaf's own membership is kept as "."."""
    whole = left or right
    return whole | {".": {}} if whole else {}


def merge(left: Fields, right: Fields) -> Fields:
    """The union of two whole sets (at the top {} is empty, not a member)."""
    return union(left, right) if left and right else left or right


def subtract(left: Fields, right: Fields) -> Fields:
    """The members of `left` that are not in `right`."""
    result: Fields = {}
    for key, node in left.items():
        other = right.get(key)
        if other is None:
            result[key] = node
        elif key != "." and (rest := _minus(node, other)) is not None:
            result[key] = rest
    return result


def _minus(node: Fields, other: Fields) -> Fields | None:
    member = (not node or "." in node) and not (not other or "." in other)
    below = subtract(
        {k: v for k, v in node.items() if k != "."}, {k: v for k, v in other.items() if k != "."}
    )
    if below:
        return below | {".": {}} if member else below
    return {} if member else None


def absent(left: Fields, right: Fields) -> Fields:
    """The members of `left` of which `right` has nothing: neither themselves nor anything below them."""
    result: Fields = {}
    for key, node in left.items():
        if key not in right:
            result[key] = node
        elif key != "." and (below := absent({k: v for k, v in node.items() if k != "."}, right[key])):
            result[key] = below
    return result


def intersect(left: Fields, right: Fields) -> Fields:
    """The members of both."""
    result: Fields = {}
    for key, node in left.items():
        if key in right and key != "." and (both := _both(node, right[key])) is not None:
            result[key] = both
    return result


def _both(left: Fields, right: Fields) -> Fields | None:
    member = (not left or "." in left) and (not right or "." in right)
    below = intersect(left, right)
    if below:
        return below | {".": {}} if member else below
    return {} if member else None


def members(fields: Fields, path: str = "") -> Iterator[str]:
    """The members as readable paths, as Kubernetes prints them in conflicts:
    `.spec.template.spec.containers[name="a"].image`.
    """
    for key, node in fields.items():
        if key == ".":
            continue
        at = path + readable(key)
        if not node or "." in node:
            yield at
        yield from members(node, at)


def readable(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return "." + text
    if kind == "k:":
        return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(text).items()) + "]"
    return f"[={text}]"


def changes(schema: Object, old: Any, new: Any) -> tuple[Fields, Fields]:
    """(fields set or changed, fields removed) between two values of one object."""
    changed, removed = _changes(resolve(schema), old, new)
    return changed or {}, removed or {}


def _changes(schema: Object, old: Any, new: Any) -> tuple[Fields | None, Fields | None]:
    if old is new or (old == new and type(old) is type(new)):
        return None, None
    if type(old) is not type(new) or not isinstance(old, dict | list) or is_atomic(schema, new):
        return {}, None
    before = {key: (child, item) for key, child, item in parts(schema, old)}
    after = {key: (child, item) for key, child, item in parts(schema, new)}
    changed: Fields = {}
    removed = {key: whole(child, item) for key, (child, item) in before.items() if key not in after}
    for key, (child, item) in after.items():
        if key not in before:
            changed[key] = whole(child, item)
            continue
        below, gone = _changes(child, before[key][1], item)
        if below is not None:
            changed[key] = below
        if gone is not None:
            removed[key] = gone
    return changed or None, removed or None


def whole(schema: Object, value: Any) -> Fields:
    """A part that came or went: every member below, and the part itself."""
    fields = _of(schema, value)
    return fields | {".": {}} if fields else {}
