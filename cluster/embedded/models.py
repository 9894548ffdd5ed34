"""Schemas of the built-in kinds, read from the official Python client.

The `kubernetes` package is generated from Kubernetes' own OpenAPI document, so the types are there already:
class attributes `openapi_types` and `attribute_map`. They are read from its source text, one file when first
needed, without importing the package (which would cost this process half a second and 40 MB). What that
generator drops, how lists and maps merge, is the table below; it comes from the `x-kubernetes-*` extensions
in the Kubernetes API reference.

A schema is everywhere in this server what OpenAPI v3 calls so, with Kubernetes' extensions, built-in kinds
and CRDs alike: one walker then serves validation, pruning, patches, apply and `kubectl explain`.
"""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cluster.embedded.status import Object

REF = "#/components/schemas/"

LIST_KEYS: dict[str, dict[str, str]] = {
    "V1PodSpec": {
        "containers": "name",
        "initContainers": "name",
        "ephemeralContainers": "name",
        "volumes": "name",
        "imagePullSecrets": "name",
        "hostAliases": "ip",
        "topologySpreadConstraints": "topologyKey,whenUnsatisfiable",
        "schedulingGates": "name",
        "resourceClaims": "name",
    },
    "V1Container": {
        "ports": "containerPort,protocol",
        "env": "name",
        "volumeMounts": "mountPath",
        "volumeDevices": "devicePath",
    },
    "V1EphemeralContainer": {
        "ports": "containerPort,protocol",
        "env": "name",
        "volumeMounts": "mountPath",
        "volumeDevices": "devicePath",
    },
    "V1PodStatus": {"conditions": "type", "podIPs": "ip"},
    "V1ServiceSpec": {"ports": "port,protocol"},
    "V1ServiceStatus": {"conditions": "type"},
    "V1ServiceAccount": {"secrets": "name"},
    "V1ObjectMeta": {"ownerReferences": "uid"},
    "V1NodeStatus": {"conditions": "type", "addresses": "type"},
    "V1NamespaceStatus": {"conditions": "type"},
    "V1DeploymentStatus": {"conditions": "type"},
    "V1ReplicaSetStatus": {"conditions": "type"},
    "V1JobStatus": {"conditions": "type"},
    "V1PodDisruptionBudgetStatus": {"conditions": "type"},
    "V1CustomResourceDefinitionStatus": {"conditions": "type"},
    "V1MutatingWebhookConfiguration": {"webhooks": "name"},
    "V1ValidatingWebhookConfiguration": {"webhooks": "name"},
    "V1MutatingWebhook": {"matchConditions": "name"},
    "V1ValidatingWebhook": {"matchConditions": "name"},
}
"""Lists that are maps in disguise: model -> field -> keys (strategic merge uses the first)."""

SETS = {"V1ObjectMeta": {"finalizers"}, "V1NodeSpec": {"podCIDRs"}, "V1Endpoint": {"addresses"}}
"""Lists without order or repetition."""

ATOMIC_MAPS = {"V1ServiceSpec": {"selector"}, "V1PodSpec": {"nodeSelector"}}
ATOMIC_MODELS = {
    "V1LabelSelector",
    "V1ObjectReference",
    "CoreV1ObjectReference",
    "V1LocalObjectReference",
    "V1SecretKeySelector",
    "V1ConfigMapKeySelector",
    "V1ObjectFieldSelector",
    "V1ResourceFieldSelector",
    "V1NodeSelector",
    "V1NodeSelectorTerm",
    "V1OwnerReference",
    "V1TypedLocalObjectReference",
    "V1ScopeSelector",
    "V1SecretReference",
    "RbacV1Subject",
    "V1RoleRef",
}
"""Objects that one owner sets as a whole."""

RETAIN_KEYS = {("V1PodSpec", "volumes"), ("V1DeploymentSpec", "strategy")}
INT_OR_STRING = {"port", "targetPort", "maxSurge", "maxUnavailable", "minAvailable"}
QUANTITIES = {
    "limits",
    "requests",
    "capacity",
    "allocatable",
    "overhead",
    "hard",
    "used",
    "sizeLimit",
    "divisor",
}
INT64 = {
    "terminationGracePeriodSeconds",
    "activeDeadlineSeconds",
    "observedGeneration",
    "generation",
    "runAsUser",
}

_SCALARS: dict[str, Object] = {
    "str": {"type": "string"},
    "int": {"type": "integer", "format": "int32"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
    "object": {"x-kubernetes-preserve-unknown-fields": True},
}


@cache
def _folder() -> Path:
    spec = find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            "schemas: the Python package `kubernetes` is not installed; install service-mesh-lab anew"
        )
    return Path(spec.submodule_search_locations[0]) / "client" / "models"


def file_name(model: str) -> str:
    """`V1HTTPGetAction` -> `v1_http_get_action.py`, as the generator of the client names its files."""
    parted = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", model)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", parted).lower() + ".py"


def _source(model: str) -> str:
    return (_folder() / file_name(model)).read_text()


def _table(source: str, name: str) -> dict[str, str]:
    start = source.find(f"\n    {name}")
    if start < 0:
        return {}
    table: dict[str, str] = ast.literal_eval(source[source.index("{", start) : source.index("}", start) + 1])
    return table


_MUST = re.compile(r"^    (\w+): (?!Optional\[|ClassVar\[|Any = )", re.MULTILINE)
_REFUSES_NONE = re.compile(r"Invalid value for `(\w+)`, must not be `None`")


def _required(source: str, attributes: dict[str, str]) -> list[str]:
    """Both generations of the client: a pydantic field without Optional, or a setter that refuses None."""
    if "(BaseModel)" in source:
        must = set(_MUST.findall(source))
        return [attribute for attribute in attributes if attribute in must]
    refuses = set(_REFUSES_NONE.findall(source))
    return [attribute for attribute in attributes if attribute in refuses]


def component_name(model: str) -> str:
    """The name in OpenAPI documents: `V1PodSpec` -> `io.k8s.api.v1.PodSpec`, `CoreV1Event` ->
    `io.k8s.api.core.v1.Event`.
    """
    found = re.match(
        r"^(?P<group>[A-Z][a-z]+)?(?P<version>V\d+(?:alpha\d+|beta\d+)?)(?P<name>[A-Z]\w*)$", model
    )
    if not found:
        return f"io.k8s.api.{model}"
    parts = [found["group"], found["version"], found["name"]]
    return "io.k8s.api." + ".".join(p.lower() for p in parts[:2] if p) + "." + parts[2]


_MODELS: dict[str, str] = {}
_RESOLVED: dict[str, Object] = {}


def ref(model: str) -> Object:
    """A reference to a model's schema; `resolve` follows it."""
    name = component_name(model)
    _MODELS[name] = model
    return {"$ref": REF + name}


def resolve(schema: Object) -> Object:
    """The schema itself, references followed (the model's file is read the first time)."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return _RESOLVED.get(reference) or _RESOLVED.setdefault(reference, component(reference.removeprefix(REF)))


@cache
def component(name: str) -> Object:
    """The schema of a component that `ref` made the name of."""
    return model_schema(_MODELS[name])


@cache
def model_schema(model: str) -> Object:
    """The schema of a class of the client (`V1Pod`): properties, required, merge extensions; no
    descriptions.
    """
    source = _source(model)
    names = _table(source, "attribute_map")
    types = _table(source, "openapi_types")
    properties = {names[key]: _property(model, names[key], kind) for key, kind in types.items()}
    required = [names[attribute] for attribute in _required(source, types)]
    schema: Object = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if model in ATOMIC_MODELS:
        schema["x-kubernetes-map-type"] = "atomic"
    if model == "V1JSONSchemaProps":
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _property(model: str, name: str, kind: str) -> Object:
    schema = _type(kind, name)
    keys = LIST_KEYS.get(model, {}).get(name)
    if keys:
        split = keys.split(",")
        schema["x-kubernetes-list-type"] = "map"
        schema["x-kubernetes-list-map-keys"] = split
        schema["x-kubernetes-patch-merge-key"] = split[0]
        schema["x-kubernetes-patch-strategy"] = "merge"
    elif name in SETS.get(model, ()):
        schema["x-kubernetes-list-type"] = "set"
        schema["x-kubernetes-patch-strategy"] = "merge"
    elif schema.get("type") == "array":
        schema["x-kubernetes-list-type"] = "atomic"
    elif name in ATOMIC_MAPS.get(model, ()):
        schema["x-kubernetes-map-type"] = "atomic"
    if (model, name) in RETAIN_KEYS:
        merge = "merge," if keys else ""
        schema["x-kubernetes-patch-strategy"] = merge + "retainKeys"
    return schema


def _type(kind: str, name: str) -> Object:
    if found := re.match(r"^(?:List|list)\[(.*)\]$", kind):
        return {"type": "array", "items": _type(found[1], name)}
    if found := re.match(r"^(?:Dict\[str, |dict\(str, )(.*)[\])]$", kind):
        return {"type": "object", "additionalProperties": _type(found[1], name)}
    if kind == "object" and name in INT_OR_STRING:
        return {"x-kubernetes-int-or-string": True}
    if kind == "str" and name in QUANTITIES:
        return {"type": "string", "x-kubernetes-quantity": True}
    if kind == "int" and name in INT64:
        return {"type": "integer", "format": "int64"}
    if kind in _SCALARS:
        return dict(_SCALARS[kind])
    return ref(kind)


def describe(model: str) -> tuple[str, dict[str, str]]:
    """What the client's source says of a model and of its fields (for `kubectl explain`)."""
    source = _source(model)
    names = _table(source, "attribute_map")
    about = re.search(r'^class \w+\(.*?\):\n    """\n    (.*?)\n', source, re.MULTILINE | re.DOTALL)
    fields = {}
    for attribute, text in re.findall(r'^    (\w+): .*description=("(?:[^"\\]|\\.)*")', source, re.MULTILINE):
        fields[names.get(attribute, attribute)] = ast.literal_eval(text)
    return (about[1] if about else ""), fields


def model_of(name: str) -> str:
    """The client's class behind a component's name."""
    return _MODELS[name]
