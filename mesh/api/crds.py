"""CustomResourceDefinitions made from the models, so that schema, parser and documentation cannot disagree.

The schema is structural (what Kubernetes demands) and strict in types, ranges and enumerations. Fields it
does not list are kept, not pruned: pruning would drop a misspelt field silently before our validating
webhook could refuse it by name.
"""

from __future__ import annotations

import copy
import inspect
from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from mesh.api.kinds import KINDS, Column, Kind
from mesh.api.model import Model, inner, is_list, is_mapping, model_in

Schema = dict[str, Any]

_KEPT = ("type", "minimum", "maximum", "minLength", "enum", "format")


def crds() -> list[dict[str, Any]]:
    """The CRD of every kind, as manifests ready to apply."""
    return [crd(kind) for kind in KINDS]


def crd(kind: Kind) -> dict[str, Any]:
    """The CRD of one kind: every version served with the same schema, the first one stored."""
    schema = object_schema(kind.model)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "labels": {"app.kubernetes.io/part-of": "service-mesh-lab"}},
        "spec": {
            "group": kind.group,
            "scope": kind.scope,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": ["istio-io"],
            },
            "versions": [_version(kind, version, schema) for version in kind.versions],
        },
    }


def _version(kind: Kind, version: str, schema: Schema) -> dict[str, Any]:
    return {
        "name": version,
        "served": True,
        "storage": version == kind.versions[0],
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {
                    "spec": copy.deepcopy(schema),
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
    }


def _column(column: Column) -> dict[str, Any]:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    return shown | ({"description": column.description} if column.description else {})


def object_schema(model: type[Model]) -> Schema:
    """The structural schema of a model."""
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    schema: Schema = {"type": "object"}
    if description := own_doc(model):
        schema["description"] = description
    schema["properties"] = {alias: _field_schema(info) for alias, info in fields.items()}
    if required := [alias for alias, info in fields.items() if info.is_required()]:
        schema["required"] = required
    schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _field_schema(info: FieldInfo) -> Schema:
    if model_in(info.annotation) is None and not is_list(info.annotation) and not is_mapping(info.annotation):
        return _scalar_schema(info.rebuild_annotation())
    return _schema(info.annotation)


def _schema(annotation: Any) -> Schema:
    kind = inner(annotation)
    if is_list(kind):
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if is_mapping(kind):
        return {"type": "object", "additionalProperties": _schema(get_args(kind)[1])}
    if isinstance(kind, type) and issubclass(kind, Model):
        return object_schema(kind)
    return _scalar_schema(annotation)


def _scalar_schema(annotation: Any) -> Schema:
    """What pydantic says of a scalar, in the words a structural schema knows."""
    said = _json_schema(annotation)
    options = [option for option in said.get("anyOf", [said]) if option.get("type") != "null"]
    schema = {key: options[0][key] for key in _KEPT if key in options[0]}
    if schema.get("type") == "integer" and schema.get("maximum", 0) > 2**31 - 1:
        schema["format"] = "int64"
    if "description" in options[0]:
        schema["description"] = options[0]["description"]
    if "const" in options[0]:
        schema["enum"] = [options[0]["const"]]
    return schema


@cache
def _json_schema(annotation: Any) -> Schema:
    return TypeAdapter(annotation).json_schema()


def own_doc(model: type[Model]) -> str:
    """The model's own docstring (not one it inherits), on one line."""
    return " ".join(inspect.cleandoc(model.__dict__.get("__doc__") or "").split())
