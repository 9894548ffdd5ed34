"""Schemas that clients write into definitions: are they schemas, and structural ones?

Structural: every node has a type, lists that are maps name their keys. Checked when a definition comes, so that no
object of its kind can later stumble over it. (Kubernetes docs "Specifying a structural schema".)
"""

import re
from collections.abc import Iterator
from typing import Any

from cluster.embedded import models, structural
from cluster.embedded.shape import conform
from cluster.embedded.status import Cause, Object, required, wrong

PROPS = models.ref("V1JSONSchemaProps")
UNTYPED = ("items", "additionalProperties")
"""Where a schema stands in a schema without the API's types saying so (it may also be a boolean)."""


def check(schema: Any, path: str) -> list[Cause]:
    """What is wrong with a schema and all that is in it."""
    return _misfit(schema, path) or list(_inner_misfits(schema, path)) or list(_structural(schema, path))


def _misfit(schema: Any, path: str) -> list[Cause]:
    if not isinstance(schema, dict):
        return [wrong(path, str(schema), "must be a schema")]
    found = conform(PROPS, schema).wrong
    if found is None:
        return []
    at, value, wanted = found
    return [wrong(structural.join(path, at), str(value), f"must be of type {wanted}")]


def _children(schema: Object, path: str) -> Iterator[tuple[Any, str]]:
    """(schema, path) of every schema in a schema."""
    for name, child in (schema.get("properties") or {}).items():
        yield child, f"{path}.properties[{name}]"
    for word in ("allOf", "anyOf", "oneOf"):
        for index, child in enumerate(schema.get(word) or []):
            yield child, f"{path}.{word}[{index}]"
    for word in (*UNTYPED, "not"):
        if word in schema and not isinstance(schema[word], bool):
            yield schema[word], f"{path}.{word}"


def _inner_misfits(schema: Object, path: str) -> Iterator[Cause]:
    for child, at in _children(schema, path):
        misfits = _misfit(child, at) if at.endswith(UNTYPED) else []
        yield from misfits
        if not misfits:
            yield from _inner_misfits(child, at)


def _structural(schema: Object, path: str) -> Iterator[Cause]:
    free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not free:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    if schema.get("x-kubernetes-list-type") == "map" and not schema.get("x-kubernetes-list-map-keys"):
        yield required(f"{path}.x-kubernetes-list-map-keys", "must be set for a list of type map")
    if schema.get("pattern") and (problem := _bad_pattern(schema["pattern"])):
        yield wrong(f"{path}.pattern", schema["pattern"], f"must be a regular expression: {problem}")
    if schema.get("type") == "array" and "items" not in schema:
        yield required(f"{path}.items", "must be specified")
    for name, child in (schema.get("properties") or {}).items():
        yield from _structural(child, f"{path}.properties[{name}]")
    for word in UNTYPED:
        if isinstance(schema.get(word), dict):
            yield from _structural(schema[word], f"{path}.{word}")
    if "default" in schema:
        yield from structural.causes(schema, schema["default"], f"{path}.default")


def _bad_pattern(pattern: Any) -> str:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        return str(error)
    return ""


def unevaluated(schema: Any, path: str) -> Iterator[str]:
    """Where a schema has CEL rules, which this server does not evaluate."""
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-validations"):
        yield path
    for name, child in (schema.get("properties") or {}).items():
        yield from unevaluated(child, f"{path}.{name}" if path else name)
    for word in ("items", "additionalProperties"):
        yield from unevaluated(schema.get(word), f"{path}[*]")
