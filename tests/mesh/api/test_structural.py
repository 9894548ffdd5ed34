"""The definitions are ones that a real API server takes: structural schemas, and no word it does not know.

Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema", and
the fields of `JSONSchemaProps` (apiextensions.k8s.io/v1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mesh import manifests

Schema = dict[str, Any]

_KNOWN = """
description title type format default maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern
maxItems minItems multipleOf enum maxProperties minProperties required items allOf oneOf anyOf not properties
additionalProperties example nullable externalDocs x-kubernetes-preserve-unknown-fields
x-kubernetes-embedded-resource x-kubernetes-int-or-string x-kubernetes-list-map-keys x-kubernetes-list-type
x-kubernetes-map-type x-kubernetes-validations
"""
KNOWN = frozenset(_KNOWN.split())
NOT_IN_LOGIC = frozenset({"description", "type", "default", "additionalProperties", "nullable", "title"})
TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean"})


def problems(schema: Schema, path: str = "", logic: bool = False) -> Iterator[str]:
    for word in set(schema) - KNOWN:
        yield f"{path}: {word} is no field of JSONSchemaProps"
    either = schema.get("x-kubernetes-int-or-string")
    if logic:
        yield from (
            f"{path}: {word} inside anyOf and the like" for word in NOT_IN_LOGIC & set(schema) if not either
        )
    elif not (either or schema.get("x-kubernetes-preserve-unknown-fields")):
        if schema.get("type") not in TYPES:
            yield f"{path}: type is {schema.get('type')!r}"
    elif either and "type" in schema:
        yield f"{path}: int-or-string with a type"
    if schema.get("properties") and "additionalProperties" in schema:
        yield f"{path}: properties and additionalProperties exclude each other"
    for bound in ("exclusiveMinimum", "exclusiveMaximum"):
        if not isinstance(schema.get(bound, False), bool):
            yield f"{path}: {bound} is a boolean here"
    if schema.get("type") == "array" and not logic and not isinstance(schema.get("items"), dict):
        yield f"{path}: an array without one schema for its items"
    for name, inner in schema.get("properties", {}).items():
        yield from problems(inner, f"{path}.{name}", logic)
    if isinstance(schema.get("items"), dict):
        yield from problems(schema["items"], f"{path}[]", logic)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from problems(schema["additionalProperties"], f"{path}.*", logic)
    for word in ("allOf", "anyOf", "oneOf"):
        for number, inner in enumerate(schema.get(word, [])):
            if either and word == "anyOf" and set(inner) == {"type"}:
                continue  # the one pattern in which types may stand there
            yield from problems(inner, f"{path}.{word}[{number}]", True)
    if "not" in schema:
        yield from problems(schema["not"], f"{path}.not", True)


@pytest.mark.parametrize("crd", manifests.crds(), ids=lambda crd: str(crd["metadata"]["name"]))
def test_a_real_api_server_takes_it(crd: Schema) -> None:
    names = crd["spec"]["names"]
    assert crd["metadata"]["name"] == f"{names['plural']}.{crd['spec']['group']}"
    assert sum(bool(version["storage"]) for version in crd["spec"]["versions"]) == 1
    for version in crd["spec"]["versions"]:
        root = version["schema"]["openAPIV3Schema"]
        assert root["type"] == "object"
        assert list(problems(root)) == []
