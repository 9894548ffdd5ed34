"""/openapi/v3 and /openapi/v2: the schemas of everything served, for `kubectl explain`, `apply` and whoever
generates code.

Built from the same schemas that validate (`models.py` for the built-in kinds, definitions for the others)
when somebody asks, one document a group version, and kept until the registry changes.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from cluster.embedded import discovery, models
from cluster.embedded.kinds import Kind, Registry
from cluster.embedded.models import REF
from cluster.embedded.status import Object, unknown_path
from cluster.embedded.store import encode

SWAGGER_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
DEFINITIONS = "#/definitions/"
QUERY = {
    "fieldManager": "string",
    "fieldValidation": "string",
    "dryRun": "string",
    "force": "boolean",
    "pretty": "string",
}
"""Options of writes that clients look for before they use them."""


def component_name(kind: Kind) -> str:
    """The name of a kind's schema: `io.k8s.api.v1.Pod`, `io.istio.networking.v1.VirtualService`."""
    if not kind.custom:
        name: str = models.ref(kind.model_name)["$ref"]
        return name.removeprefix(REF)
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def _identity(kind: Kind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def references(schema: Object) -> Iterator[str]:
    """The names of the components that a schema refers to."""
    if "$ref" in schema:
        yield schema["$ref"].removeprefix(REF)
    for child in (schema.get("properties") or {}).values():
        yield from references(child)
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from references(schema[word])


def published(schema: Object, description: str = "") -> Object:
    """A property's schema as OpenAPI 3.0 has it: what stands beside a $ref needs an allOf."""
    result = {
        key: value for key, value in schema.items() if key not in ("$ref", "items", "x-kubernetes-quantity")
    }
    if description:
        result["description"] = description
    if "$ref" in schema:
        result["allOf"] = [{"$ref": schema["$ref"]}]
    if "items" in schema:
        result["items"] = published(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = published(schema["additionalProperties"])
    if schema.get("x-kubernetes-int-or-string"):
        result |= {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}
    if schema.get("x-kubernetes-quantity"):
        del result["type"]
        result["oneOf"] = [{"type": "string"}, {"type": "number"}]
    return result


def _built_in(name: str) -> Object:
    """A component read from the client's models, with its descriptions."""
    schema = models.component(name)
    about, fields = models.describe(models.model_of(name))
    properties = {key: published(child, fields.get(key, "")) for key, child in schema["properties"].items()}
    return schema | {"properties": properties, "description": about}


def _custom(kind: Kind) -> Object:
    schema = kind.body
    own = {
        "apiVersion": {
            "type": "string",
            "description": "APIVersion defines the versioned schema of this object.",
        },
        "kind": {"type": "string", "description": "Kind is the REST resource this object represents."},
        "metadata": published(schema["properties"]["metadata"], "Standard object's metadata."),
    }
    return schema | {"properties": schema["properties"] | own}


def components(kinds: list[Kind]) -> Object:
    """Every schema that the kinds need, by component name."""
    found: Object = {}
    for kind in kinds:
        root = _custom(kind) if kind.custom else {}
        queue = list(references(kind.body)) if kind.custom else [component_name(kind)]
        while queue:
            name = queue.pop()
            if name not in found:
                found[name] = _built_in(name)
                queue += references(models.component(name))
        name = component_name(kind)
        found[name] = (root or found[name]) | {"x-kubernetes-group-version-kind": [_identity(kind)]}
    return found


def _parameters(names: list[str]) -> list[Object]:
    return [{"name": name, "in": "query", "schema": {"type": QUERY[name]}} for name in names]


def _operation(kind: Kind, action: str, parameters: list[Object]) -> Object:
    content = {"application/json": {"schema": {"$ref": REF + component_name(kind)}}}
    return {
        "operationId": f"{action}{kind.group.partition('.')[0].title()}{kind.version.title()}{kind.kind}",
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _identity(kind),
    }


def _paths(kind: Kind) -> Iterator[tuple[str, Object]]:
    base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    base += ("/namespaces/{namespace}" if kind.namespaced else "") + f"/{kind.plural}"
    options = _parameters(["dryRun", "fieldManager", "fieldValidation", "pretty"])
    collection = {"post": _operation(kind, "post", options)}
    if "list" in kind.verbs:
        collection["get"] = _operation(kind, "list", _parameters(["pretty"]))
    yield base, collection
    if "get" not in kind.verbs:
        return
    applied = options + _parameters(["force"])
    yield (
        base + "/{name}",
        {
            "get": _operation(kind, "get", _parameters(["pretty"])),
            "put": _operation(kind, "put", options),
            "patch": _operation(kind, "patch", applied),
            "delete": _operation(kind, "delete", _parameters(["dryRun", "pretty"])),
        },
    )


class OpenApi:
    """The documents, made when first asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._generation = -1
        self._made: dict[str, bytes] = {}

    def _kinds(self, group: str, version: str) -> list[Kind]:
        kinds = [kind for kind in self._registry.all() if (kind.group, kind.version) == (group, version)]
        if not kinds:
            raise unknown_path()
        return kinds

    def index(self) -> Object:
        """/openapi/v3"""
        paths: Object = {}
        for group, versions in self._registry.groups().items():
            for each in versions:
                at = f"apis/{group}/{each}" if group else f"api/{each}"
                mark = self._mark(self._kinds(group, each))
                paths[at] = {"serverRelativeURL": f"/openapi/v3/{at}?hash={mark}"}
        return {"paths": paths}

    @staticmethod
    def _mark(kinds: list[Kind]) -> str:
        """A hash that changes when the document does; clients keep documents by it."""
        from importlib.metadata import version  # late: heavier than all of this file, and rarely needed

        text = [discovery.VERSION, version("kubernetes")]
        text += [f"{kind.kind}{encode(kind.body if kind.custom else {}).decode()}" for kind in kinds]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()[:32].upper()

    def document(self, group: str, version: str) -> bytes:
        """/openapi/v3/apis/GROUP/VERSION. Raises NotFound."""
        kinds = self._kinds(group, version)
        return self._keep(f"{group}/{version}", lambda: self._v3(kinds))

    def _keep(self, name: str, make: Callable[[], Object]) -> bytes:
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._made.clear()
        if name not in self._made:
            self._made[name] = encode(make())
        return self._made[name]

    @staticmethod
    def _v3(kinds: list[Kind]) -> Object:
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": discovery.VERSION},
            "paths": {path: item for kind in kinds for path, item in _paths(kind)},
            "components": {"schemas": components(kinds)},
        }

    def swagger(self) -> bytes:
        """/openapi/v2: all kinds in one document."""
        return self._keep("v2", self._v2)

    @staticmethod
    def swagger_protobuf() -> bytes:
        """The same as protobuf, without definitions: what a client would check by them, the server checks
        itself.

        A gnostic `openapi.v2.Document` of which only swagger (1) and info (2: title 1, version 2) are set.
        """
        info = b"\x0a\x0aKubernetes\x12" + bytes([len(discovery.VERSION)]) + discovery.VERSION.encode()
        return b"\x0a\x032.0\x12" + bytes([len(info)]) + info

    def _v2(self) -> Object:
        definitions = _with_v2_references(components(self._registry.all()))
        info = {"title": "Kubernetes", "version": discovery.VERSION}
        return {"swagger": "2.0", "info": info, "paths": {}, "definitions": definitions}


def _with_v2_references(value: Any) -> Any:
    """OpenAPI 2 has neither oneOf nor components."""
    if isinstance(value, list):
        return [_with_v2_references(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {
        key: _with_v2_references(item)
        for key, item in value.items()
        if key not in ("oneOf", "anyOf", "nullable")
    }
    if "oneOf" in value and "type" not in result:
        result["type"] = "string"
    if isinstance(value.get("$ref"), str):
        result["$ref"] = value["$ref"].replace(REF, DEFINITIONS)
    if isinstance(value.get("allOf"), list) and len(value["allOf"]) == 1 and "$ref" in value["allOf"][0]:
        del result["allOf"]
        result["$ref"] = value["allOf"][0]["$ref"].replace(REF, DEFINITIONS)
    return result
