"""Does this object consist of what its schema knows? One walk for unknown fields and wrong types.

It works on a fresh object (just parsed or copied) and prunes it in place. Parts that a patch left as they were are the
very objects of before (`trusted`), known to be good and not walked again: a change of the status does not pay for
the spec. For built-in kinds a wrong type is a 400, as Go's decoder gives it; custom kinds are checked by
`structural.py`.
"""

from dataclasses import dataclass, field
from typing import Any

from cluster.embedded.models import resolve
from cluster.embedded.status import Object


@dataclass(slots=True)
class Findings:
    """What a walk found: paths of unknown fields (removed), the first wrong type as (path, value, wanted type)."""

    types: bool = True
    nulls: bool = True
    unknown: list[str] = field(default_factory=list)
    wrong: tuple[str, Any, str] | None = None


def conform(
    schema: Object, value: Any, *, types: bool = True, nulls: bool = True, trusted: Any = None
) -> Findings:
    """Prune `value` in place to what the schema knows; with `nulls` null fields go too, with `types` types are
    checked.
    """
    found = Findings(types, nulls)
    _walk(schema, value, "", trusted, found)
    return found


_ZERO: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list}
"""What Go makes of a null in a list."""
_PLAIN: dict[str, type] = {"string": str, "object": dict, "array": list, "boolean": bool}


def type_fits(schema: Object, value: Any) -> bool:
    """Is `value` of the schema's `type` (or int-or-string, quantity, anything)?"""
    wanted = schema.get("type")
    if wanted in _PLAIN and type(value) is _PLAIN[wanted]:
        return True
    if isinstance(value, bool):
        return wanted == "boolean" or (wanted is None and not schema.get("x-kubernetes-int-or-string"))
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, str | int)
    if schema.get("x-kubernetes-quantity"):
        return isinstance(value, int | float)
    if wanted == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if wanted == "number":
        return isinstance(value, int | float)
    return wanted is None


def _walk(schema: Object, value: Any, path: str, trusted: Any, found: Findings) -> None:
    if value is trusted:
        return
    if "$ref" in schema:
        schema = resolve(schema)
    if found.types and value is not None and not type_fits(schema, value):
        found.wrong = found.wrong or (path, value, schema.get("type", "intstr.IntOrString"))
    elif isinstance(value, dict):
        _walk_object(schema, value, path, trusted if isinstance(trusted, dict) else {}, found)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        items, before = schema["items"], trusted if isinstance(trusted, list) else []
        for index, item in enumerate(value):
            if item is None and found.nulls:
                value[index] = item = _ZERO.get(resolve(items).get("type", ""), dict)()
            _walk(items, item, f"{path}[{index}]", before[index] if index < len(before) else None, found)


def _walk_object(schema: Object, value: Object, path: str, trusted: Object, found: Findings) -> None:
    if schema.get("x-kubernetes-embedded-resource"):
        return
    properties = schema.get("properties") or {}
    extra = schema.get("additionalProperties")
    other = extra if isinstance(extra, dict) else None
    keep = schema.get("x-kubernetes-preserve-unknown-fields") or extra is True
    for key in list(value):
        at = f"{path}.{key}" if path else key
        child = properties.get(key, other)
        if child is None:
            if not keep:
                found.unknown.append(at)
                del value[key]
        elif value[key] is None and found.nulls:
            del value[key]
        else:
            _walk(child, value[key], at, trusted.get(key), found)
