"""Defaults, required fields and the rules of schemas: what an object of the right shape must still satisfy.

Causes carry the field's path, all at once. (apiextensions-apiserver `pkg/apiserver/schema`; OpenAPI v3 schema with
Kubernetes' extensions.)
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from cluster.embedded.models import resolve
from cluster.embedded.shape import type_fits
from cluster.embedded.status import Cause, Object, duplicate, not_supported, required, wrong

_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def copy(value: Any) -> Any:
    """A deep copy of parsed JSON."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def default(schema: Object, value: Any) -> None:
    """Fill in the schema's `default`s, in place (a null where null is not allowed counts as absent)."""
    schema = resolve(schema)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            default(schema["items"], item)
    if not isinstance(value, dict):
        return
    properties = schema.get("properties") or {}
    for key, child in properties.items():
        if "default" in child and (key not in value or (value[key] is None and not child.get("nullable"))):
            value[key] = copy(child["default"])
        if key in value:
            default(child, value[key])
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        for key, item in value.items():
            if key not in properties:
                default(extra, item)


def _children(schema: Object, value: Any, path: str) -> Iterator[tuple[Object, Any, str]]:
    """(schema, value, path) of each direct part of `value` that the schema knows."""
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            yield from ((items, item, f"{path}[{index}]") for index, item in enumerate(value))
    elif isinstance(value, dict):
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        for key, item in value.items():
            child = properties.get(key, extra if isinstance(extra, dict) else None)
            if child is not None:
                yield child, item, join(path, key)


MAY_LACK = {"endpoints"}
"""Required in OpenAPI, but Go writes and reads an empty list as nothing."""


def missing(schema: Object, value: Any, path: str = "") -> list[Cause]:
    """The required fields that are not there (built-in kinds)."""
    schema = resolve(schema)
    found: list[Cause] = []
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                found += missing(schema["items"], item, f"{path}[{index}]")
        return found
    for name in schema.get("required") or ():
        if value.get(name) is None and name not in MAY_LACK:
            found.append(required(join(path, name)))
    properties = schema.get("properties") or {}
    for key, item in value.items():
        if isinstance(item, dict | list) and key in properties:
            found += missing(properties[key], item, join(path, key))
    return found


def causes(schema: Object, value: Any, path: str = "") -> list[Cause]:
    """Everything in `value` that breaks the schema (custom kinds)."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return []
    if not type_fits(schema, value):
        kind = "null" if value is None else _NAMES.get(type(value), "unknown")
        wanted = schema.get("type", "integer or string")
        message = f'Invalid value: "{kind}": {path or "<root>"} in body must be of type {wanted}: "{kind}"'
        return [Cause("FieldValueTypeInvalid", message, path)]
    found = list(_own_causes(schema, value, path)) + list(_combined(schema, value, path))
    for child, item, at in _children(schema, value, path):
        found += causes(child, item, at)
    return found


def _own_causes(schema: Object, value: Any, path: str) -> Iterator[Cause]:
    if "enum" in schema and value not in schema["enum"]:
        yield not_supported(path, value, [str(choice) for choice in schema["enum"]])
    if isinstance(value, dict):
        for name in schema.get("required") or []:
            if name not in value:
                yield required(join(path, name))
        yield from _size(schema, len(value), path, "Properties", "properties")
    elif isinstance(value, list):
        yield from _size(schema, len(value), path, "Items", "items")
        yield from _repeated(schema, value, path)
    elif isinstance(value, str):
        yield from _size(schema, len(value), path, "Length", "chars long")
        yield from _text(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(schema, value, path)


def _size(schema: Object, size: int, path: str, what: str, unit: str) -> Iterator[Cause]:
    low, high = schema.get("min" + what), schema.get("max" + what)
    if low is not None and size < low:
        yield wrong(path, size, f"{path} in body should have at least {low} {unit}")
    if high is not None and size > high:
        reason = f"{path} in body should have at most {high} {unit}"
        yield (
            Cause("FieldValueTooLong", f"Too long: {reason}", path)
            if what != "Items"
            else Cause("FieldValueTooMany", f"Too many: {size}: must have at most {high} items", path)
        )


def _repeated(schema: Object, value: list[Any], path: str) -> Iterator[Cause]:
    kind = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if kind not in ("set", "map") and not schema.get("uniqueItems"):
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        same = {key: item.get(key) for key in keys} if kind == "map" and isinstance(item, dict) else item
        text = json.dumps(same, sort_keys=True)
        if text in seen:
            yield duplicate(f"{path}[{index}]", text)
        seen.add(text)


def _text(schema: Object, value: str, path: str) -> Iterator[Cause]:
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        yield wrong(path, value, f"{path} in body should match '{pattern}'")
    if schema.get("format") == "date-time" and not re.match(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", value):
        yield wrong(path, value, f"{path} in body must be of type date-time")


def _number(schema: Object, value: float, path: str) -> Iterator[Cause]:
    low, high, step = schema.get("minimum"), schema.get("maximum"), schema.get("multipleOf")
    open_low, open_high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and (value < low or (open_low and value == low)):
        yield wrong(
            path, value, f"{path} in body should be greater than{'' if open_low else ' or equal to'} {low}"
        )
    if high is not None and (value > high or (open_high and value == high)):
        yield wrong(
            path, value, f"{path} in body should be less than{'' if open_high else ' or equal to'} {high}"
        )
    if step and value % step:
        yield wrong(path, value, f"{path} in body should be a multiple of {step}")


def _combined(schema: Object, value: Any, path: str) -> Iterator[Cause]:
    for part in schema.get("allOf") or []:
        yield from causes(part, value, path)
    for word in ("oneOf", "anyOf"):
        parts = schema.get(word)
        fitting = sum(not causes(part, value, path) for part in parts or [])
        if parts and (fitting == 0 or (word == "oneOf" and fitting > 1)):
            must = "exactly one" if word == "oneOf" else "at least one"
            yield wrong(
                path or "<root>", _brief(value), f"must validate {must} schema ({word}), {fitting} match"
            )
    if "not" in schema and not causes(schema["not"], value, path):
        yield wrong(path or "<root>", _brief(value), "must not validate the schema (not)")


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
