"""From a mapping (YAML or JSON, as the API server gives it) to a typed object, or to a list of what is
wrong.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from mesh.api.kinds import BY_NAME, Kind, why_unsupported
from mesh.api.model import Model, is_list, is_mapping, model_in
from mesh.api.objects import ConfigObject
from mesh.api.problems import Invalid, Problem
from mesh.api.scalars import is_dns_label, is_dns_subdomain
from mesh.api.sticky import annotation_problems
from mesh.api.virtual_service import VirtualServiceSpec

_TOP_LEVEL = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})


def parse(obj: Any) -> ConfigObject[Any]:
    """The typed form of one Kubernetes object of one of our kinds.

    Raises Invalid with every problem found. A reference to something that is not there is no problem here:
    objects come in any order (`mesh.control.analyze` looks at those).
    """
    if not isinstance(obj, Mapping):
        raise Invalid([Problem("", f"an object must be a mapping, not {_describe(obj)}")])
    kind = _kind_of(obj)
    problems = [*_envelope_problems(obj), *_unreadable_text(obj.get("spec"), "spec")]
    if kind.model is VirtualServiceSpec and not problems:
        problems += annotation_problems(obj["metadata"].get("annotations") or {})
    if problems:
        raise Invalid(problems, _title(kind, obj))
    try:
        spec = parse_spec(kind, obj.get("spec", {}))
    except Invalid as invalid:
        raise Invalid(invalid.problems, _title(kind, obj)) from None
    return _config_object(kind, obj, spec)


def validate(obj: Any) -> list[Problem]:
    """What is wrong with an object; empty when it is valid. Never raises."""
    try:
        parse(obj)
    except Invalid as invalid:
        return list(invalid.problems)
    return []


def parse_spec(kind: Kind, spec: Any) -> Model:
    """The typed spec. Raises Invalid; paths begin with `spec`."""
    try:
        model = kind.model.model_validate(spec)
    except ValidationError as error:
        raise Invalid(_translate(kind.model, error)) from None
    if problems := [problem.under("spec") for problem in model.problems()]:
        raise Invalid(problems)
    return model


def _kind_of(obj: Mapping[str, Any]) -> Kind:
    name, api_version = obj.get("kind"), obj.get("apiVersion")
    if not isinstance(name, str) or not name:
        raise Invalid([Problem("kind", "is required")])
    kind = BY_NAME.get(name)
    if kind is None:
        known = why_unsupported(name)
        unknown = f"{name!r} is not a kind of this mesh{_did_you_mean(name, BY_NAME)}"
        raise Invalid([Problem("kind", known or unknown)])
    if api_version not in kind.api_versions:
        expected = ", ".join(kind.api_versions)
        wrong = f"must be one of {expected} for a {name}, not {_describe(api_version)}"
        raise Invalid([Problem("apiVersion", wrong)])
    return kind


def _envelope_problems(obj: Mapping[str, Any]) -> Iterator[Problem]:
    for key in obj:
        if key not in _TOP_LEVEL:
            yield Problem(str(key), f"is not a field of an object{_did_you_mean(str(key), _TOP_LEVEL)}")
    metadata = obj.get("metadata")
    if not isinstance(metadata, Mapping):
        yield Problem("metadata", "is required" if metadata is None else "must be a mapping")
        return
    name, namespace = metadata.get("name"), metadata.get("namespace", "")
    if not isinstance(name, str) or not name:
        if not metadata.get("generateName"):
            yield Problem("metadata.name", "is required")
    elif not is_dns_subdomain(name):
        yield Problem("metadata.name", f"{name!r} has more than lower-case letters, digits, dashes, dots")
    if namespace and not (isinstance(namespace, str) and is_dns_label(namespace)):
        yield Problem("metadata.namespace", f"{namespace!r} is not the name of a namespace")
    for field in ("labels", "annotations"):
        if not isinstance(metadata.get(field) or {}, Mapping):
            yield Problem(f"metadata.{field}", "must be a mapping")


def _unreadable_text(value: Any, path: str) -> Iterator[Problem]:
    """JSON can hold half of a character (a lone surrogate), which nothing can be made of that goes on a wire."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            yield Problem(path, "is not valid Unicode text")
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _unreadable_text(str(key), path)
            yield from _unreadable_text(below, f"{path}.{key}".encode(errors="replace").decode())
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _unreadable_text(below, f"{path}[{index}]")


def _config_object(kind: Kind, obj: Mapping[str, Any], spec: Model) -> ConfigObject[Any]:
    metadata = obj["metadata"]
    generation = metadata.get("generation")
    return ConfigObject(
        kind=kind.name,
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name") or "",
        spec=spec,
        api_version=obj["apiVersion"],
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
        created=_epoch(metadata.get("creationTimestamp")),
        generation=generation if isinstance(generation, int) else 0,
        resource_version=str(metadata.get("resourceVersion") or ""),
        uid=str(metadata.get("uid") or ""),
    )


def _epoch(stamp: Any) -> float:
    """Seconds since 1970 of a Kubernetes time stamp; 0.0 when there is none (a file not applied yet)."""
    if isinstance(stamp, datetime):
        return stamp.timestamp()
    try:
        return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _title(kind: Kind, obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return f"{kind.name} {metadata.get('namespace') or 'default'}/{metadata.get('name') or '(no name)'}"


# --- what pydantic found, said in our words
# -------------------------------------------------------------------------


def _translate(model: type[Model], error: ValidationError) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        location = item["loc"]
        path, owner = _walk(model, location)
        if item["type"] == "extra_forbidden":
            yield Problem(path, _unknown_field(owner, str(location[-1])))
        else:
            yield Problem(path, _sentence(item))


def _walk(root: type[Model], location: Sequence[int | str]) -> tuple[str, type[Model] | None]:
    """The path of a location, and the model whose field its last step is."""
    path, owner, annotation = "spec", root, None
    last_owner: type[Model] | None = root
    current: type[Model] | None = owner
    for step in location:
        if step == "[key]":
            continue
        if annotation is not None and is_mapping(annotation):
            path, annotation = f"{path}[{step}]", None
            continue
        if annotation is not None and is_list(annotation) and isinstance(step, int):
            path, annotation = f"{path}[{step}]", None
            continue
        path, last_owner = f"{path}.{step}", current
        annotation = _annotation(current, str(step)) if current else None
        current = model_in(annotation) if annotation is not None else None
    return path, last_owner


def _annotation(model: type[Model], alias: str) -> Any:
    for name, info in model.model_fields.items():
        if alias == (info.alias or name):
            return info.annotation
    return None


def _unknown_field(owner: type[Model] | None, name: str) -> str:
    if owner is None:
        return "is not a field Istio has here"
    if name in owner.unsupported:
        reason = owner.unsupported[name]
        return f"is not supported yet ({reason})" if reason else "is not supported yet"
    known = [info.alias or field for field, info in owner.model_fields.items()]
    return f"is not a field Istio has here{_did_you_mean(name, [*known, *owner.unsupported])}"


def _did_you_mean(name: str, known: Any) -> str:
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower().replace("_", ""), by_lower, n=1, cutoff=0.7)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def _describe(value: Any) -> str:
    """A value in a sentence, short enough to read."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_SENTENCES: Mapping[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "missing": lambda value, ctx: "is required",
    "int_type": lambda value, ctx: f"must be a whole number, not {_describe(value)}",
    "float_type": lambda value, ctx: f"must be a number, not {_describe(value)}",
    "finite_number": lambda value, ctx: f"must be a number, not {_describe(value)}",
    "bool_type": lambda value, ctx: f"must be true or false, not {_describe(value)}",
    "string_type": lambda value, ctx: f"must be text, not {_describe(value)}",
    "string_too_short": lambda value, ctx: "must not be empty",
    "too_short": lambda value, ctx: "must have at least one entry",
    "tuple_type": lambda value, ctx: f"must be a list, not {_describe(value)}",
    "dict_type": lambda value, ctx: f"must be a mapping, not {_describe(value)}",
    "model_type": lambda value, ctx: f"must be a mapping, not {_describe(value)}",
    "model_attributes_type": lambda value, ctx: f"must be a mapping, not {_describe(value)}",
    "greater_than_equal": lambda value, ctx: f"must be at least {ctx['ge']}, not {_describe(value)}",
    "less_than_equal": lambda value, ctx: f"must be at most {ctx['le']}, not {_describe(value)}",
    "literal_error": lambda value, ctx: f"must be {ctx['expected']}, not {_describe(value)}",
    "value_error": lambda value, ctx: str(ctx["error"]),
}


def _sentence(item: Any) -> str:
    say = _SENTENCES.get(item["type"])
    if say is None:
        message: str = item["msg"]
        return message[:1].lower() + message[1:]
    return say(item.get("input"), item.get("ctx") or {})
