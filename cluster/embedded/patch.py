"""Three of the four ways to change an object in part: JSON Patch, JSON merge patch, strategic merge patch.

Pure functions: they take the current object, return the new one, and change neither argument. Server-side
apply, the fourth, is `apply.py`.
"""

import json
from typing import Any

from cluster.embedded.models import resolve
from cluster.embedded.status import ApiError, Object, bad_request
from cluster.embedded.structural import copy


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _unprocessable(why: str) -> ApiError:
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def _tokens(pointer: Any) -> list[str]:
    """RFC 6901."""
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise bad_request(f"json patch: {pointer!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _index(container: list[Any], token: str, pointer: str, end: int) -> int:
    if not token.isdecimal() or (len(token) > 1 and token[0] == "0") or int(token) > end:
        raise _unprocessable(f"json patch: {pointer}: no such index: {token}")
    return int(token)


def _step(container: Any, token: str, pointer: str) -> Any:
    if isinstance(container, dict) and token in container:
        return container[token]
    if isinstance(container, list):
        return container[_index(container, token, pointer, len(container) - 1)]
    raise _unprocessable(f"json patch: {pointer}: no such element: {token}")


def _get(document: Any, pointer: str) -> Any:
    for token in _tokens(pointer):
        document = _step(document, token, pointer)
    return document


def _change(document: Any, pointer: str, change: Any) -> Any:
    """Call `change(container, last token)` on the (already copied) document; a pointer "" replaces it all."""
    *way, last = _tokens(pointer)
    container = document
    for token in way:
        container = _step(container, token, pointer)
    change(container, last)
    return document


def _add(document: Any, pointer: str, value: Any) -> Any:
    if not _tokens(pointer):
        return value

    def change(container: Any, token: str) -> None:
        if isinstance(container, dict):
            container[token] = value
        elif isinstance(container, list):
            end = len(container)
            container.insert(end if token == "-" else _index(container, token, pointer, end), value)
        else:
            raise _unprocessable(f"json patch: {pointer}: its parent is neither object nor array")

    return _change(document, pointer, change)


def _remove(document: Any, pointer: str) -> Any:
    if not _tokens(pointer):
        return None

    def change(container: Any, token: str) -> None:
        _step(container, token, pointer)
        del container[int(token) if isinstance(container, list) else token]

    return _change(document, pointer, change)


def json_equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: true is not 1 (RFC 6902, 4.6)."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(json_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(json_equal, left, right))
    return bool(left == right)


def _operate(document: Any, step: Object) -> Any:
    operation, pointer = step.get("op"), step.get("path")
    if operation in ("add", "replace", "test") and "value" not in step:
        raise bad_request(f'json patch: "{operation}" of {pointer!r} has no "value"')
    match operation:
        case "add":
            return _add(document, str(pointer), copy(step["value"]))
        case "remove":
            return _remove(document, str(pointer))
        case "replace":
            _get(document, str(pointer))
            if not pointer:
                return copy(step["value"])
            return _add(_remove(document, pointer), pointer, copy(step["value"]))
        case "move":
            if f"{pointer}/".startswith(f"{step.get('from')}/") and pointer != step.get("from"):
                raise _unprocessable(f"json patch: cannot move {step.get('from')} into itself")
            value = _get(document, str(step.get("from")))
            return _add(_remove(document, str(step.get("from"))), str(pointer), value)
        case "copy":
            return _add(document, str(pointer), copy(_get(document, str(step.get("from")))))
        case "test":
            if not json_equal(_get(document, str(pointer)), step["value"]):
                raise _unprocessable(
                    f"json patch: testing path {pointer} failed: {json.dumps(step['value'])} expected"
                )
            return document
    raise bad_request(f"json patch: unexpected kind of operation: {operation!r}")


def json_patch(document: Any, patch: Any) -> Any:
    """RFC 6902. Raises BadRequest for what is no patch, Invalid (422) for one that does not apply."""
    if not isinstance(patch, list) or not all(isinstance(step, dict) for step in patch):
        raise bad_request("json patch: a patch is a list of operations")
    result = copy(document)
    for step in patch:
        result = _operate(result, step)
    return result


# Strategic merge patch (apimachinery `strategicpatch`): a merge patch that knows which lists are maps.

DIRECTIVE, RETAIN, DELETE_PRIMITIVES, ORDER = (
    "$patch",
    "$retainKeys",
    "$deleteFromPrimitiveList/",
    "$setElementOrder/",
)


def strategic_merge(schema: Object, target: Any, patch: Any) -> Any:
    """Merge `patch` into `target`: lists with a merge key by that key, the others as wholes; directives
    obeyed.
    """
    if not isinstance(patch, dict):
        return copy(patch)
    directive = patch.get(DIRECTIVE)
    if directive == "replace":
        return {key: copy(value) for key, value in patch.items() if key != DIRECTIVE}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"strategic merge patch: unknown directive $patch: {directive!r}")
    schema = resolve(schema)
    result = dict(target) if isinstance(target, dict) else {}
    if isinstance(patch.get(RETAIN), list):
        result = {key: value for key, value in result.items() if key in patch[RETAIN]}
    for key, value in patch.items():
        _merge_field(schema, result, key, value)
    for key, order in patch.items():
        if key.startswith(ORDER):
            _set_order(_field(schema, key.removeprefix(ORDER)), result, key.removeprefix(ORDER), order)
    return result


def _field(schema: Object, key: str) -> Object:
    extra = schema.get("additionalProperties")
    found = (schema.get("properties") or {}).get(key, extra if isinstance(extra, dict) else {})
    merged: Object = resolve(found) | {name: value for name, value in found.items() if name != "$ref"}
    return merged


def _merge_field(schema: Object, result: Object, key: str, value: Any) -> None:
    if key in (DIRECTIVE, RETAIN) or key.startswith(ORDER):
        return
    if key.startswith(DELETE_PRIMITIVES):
        name = key.removeprefix(DELETE_PRIMITIVES)
        result[name] = [item for item in result.get(name) or [] if item not in value]
        return
    child = _field(schema, key)
    if value is None:
        result.pop(key, None)
    elif isinstance(value, list) and "merge" in child.get("x-kubernetes-patch-strategy", "").split(","):
        result[key] = _merge_list(child, result.get(key) or [], value)
    elif isinstance(value, list):
        result[key] = copy(value)
    else:
        result[key] = strategic_merge(child, result.get(key), value)


def _merge_list(schema: Object, target: list[Any], patch: list[Any]) -> list[Any]:
    merge_key = schema.get("x-kubernetes-patch-merge-key")
    if not merge_key:
        return target + [copy(item) for item in patch if item not in target]
    if any(not isinstance(item, dict) for item in patch):
        raise bad_request("strategic merge patch: an item of a list that merges by key must be an object")
    if any(item.get(DIRECTIVE) == "replace" and len(item) == 1 for item in patch):
        return [copy(item) for item in patch if item != {DIRECTIVE: "replace"}]
    result = list(target)
    for item in patch:
        if merge_key not in item:
            raise bad_request(f"map: {json.dumps(item)} does not contain declared merge key: {merge_key}")
        same = [i for i, old in enumerate(result) if old.get(merge_key) == item[merge_key]]
        if item.get(DIRECTIVE) == "delete":
            result = [old for old in result if old.get(merge_key) != item[merge_key]]
        elif same:
            result[same[0]] = strategic_merge(schema["items"], result[same[0]], item)
        else:
            result.append(strategic_merge(schema["items"], {}, item))
    return result


def _set_order(schema: Object, result: Object, key: str, order: Any) -> None:
    """Bring the list into the order the client wants; items it does not name keep their place behind their
    neighbour.
    """
    items = result.get(key)
    if not isinstance(items, list) or not isinstance(order, list):
        return
    merge_key = schema.get("x-kubernetes-patch-merge-key")

    def identity(item: Any) -> str:
        return json.dumps(item.get(merge_key) if merge_key and isinstance(item, dict) else item)

    ranks = {identity(item): rank for rank, item in enumerate(order)}
    rank, keyed = -1, []
    for position, item in enumerate(items):
        own = ranks.get(identity(item))
        rank = own if own is not None else rank
        keyed.append((rank, own is None, position, item))
    result[key] = [item for *_, item in sorted(keyed, key=lambda entry: entry[:3])]
