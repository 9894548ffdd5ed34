"""YAML in, Kubernetes objects out: the one place where a person's file becomes what the API gets."""

from __future__ import annotations

from typing import Any

import yaml

from cluster.api import Object


class BadDocument(Exception):
    """A document that cannot be a Kubernetes object; str() is one sentence that says which and why."""


def read(text: str, source: str = "the document", namespace: str | None = None) -> list[Object]:
    """The objects of a YAML (or JSON) text, `kind: List` unfolded; raises BadDocument.

    `namespace` is given to objects that name none. Whether a kind is namespaced only the API server knows; it
    ignores a namespace on a kind that has none.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise BadDocument(f"{source} is not YAML: {_one_line(error)}") from error
    objects = [
        obj
        for number, document in enumerate(documents, 1)
        if document is not None
        for obj in _objects(document, source if len(documents) == 1 else f"{source}, document {number}")
    ]
    if not objects:
        raise BadDocument(f"{source} holds no object")
    for obj in objects:
        if namespace and not obj["metadata"].get("namespace"):
            obj["metadata"]["namespace"] = namespace
    return objects


def _objects(document: Any, where: str) -> list[Object]:
    if not isinstance(document, dict):
        raise BadDocument(
            f"{where} is a {_kind_of(document)}, not a mapping with apiVersion, kind and metadata"
        )
    if document.get("kind") == "List" and isinstance(document.get("items"), list):
        return [obj for item in document["items"] for obj in _objects(item, where)]
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str) or not document[field]:
            raise BadDocument(f"{where} has no {field}")
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise BadDocument(f"{where} ({document['kind']}) has no metadata.name")
    return [document]


def _kind_of(value: Any) -> str:
    return {list: "list", str: "string", int: "number", float: "number", bool: "boolean"}.get(
        type(value), type(value).__name__
    )


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem
