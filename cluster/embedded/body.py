"""From bytes to an object of the right kind: decoding, strict fields, types.

`fieldValidation` says what happens to fields the kind does not have: Strict refuses them, Warn (the default)
removes them and says so, Ignore removes them.
"""

import json
from typing import Any

import yaml

from cluster.embedded import wire
from cluster.embedded.call import Call
from cluster.embedded.kinds import Kind
from cluster.embedded.shape import conform
from cluster.embedded.status import ApiError, Object, bad_request, unsupported_media

MEDIA = ("application/json", "application/yaml", wire.MEDIA)


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as JSON has it: no dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def decode(data: bytes, content_type: str) -> Any:
    """Parsed JSON or YAML. Raises BadRequest, UnsupportedMediaType."""
    media = content_type.partition(";")[0].strip()
    if media == wire.MEDIA:
        return wire.decode(data)
    try:
        if media.endswith("yaml") and not data.lstrip().startswith((b"{", b"[")):
            return yaml.load(data, _Loader)
        if media.endswith("json") or media.endswith("yaml") or media in ("", "*/*"):
            return json.loads(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized: {_line(error)}") from error
    raise unsupported_media(media, MEDIA)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def read_object(call: Call, kind: Kind) -> Object:
    """The object in the body of a create or update."""
    return admit_shape(call, kind, decode(call.body, call.content_type))


def admit_shape(call: Call, kind: Kind, value: Any, trusted: Object | None = None) -> Object:
    """Check that `value` is an object of the kind; handle fields it does not have. Raises BadRequest.

    Parts of `value` that are the same objects as in `trusted` are taken as they are.
    """
    if not isinstance(value, dict):
        raise bad_request(f"the request body must be an object of kind {kind.kind}, not {_kind_of(value)}")
    value.setdefault("apiVersion", kind.api_version)
    value.setdefault("kind", kind.kind)
    if (value["apiVersion"], value["kind"]) != (kind.api_version, kind.kind):
        raise bad_request(
            f'{value["kind"]} in version "{value["apiVersion"]}" cannot be handled as a {kind.kind}: '
            f"the API version in the data ({value['apiVersion']}) or its kind does not match the expected "
            f"({kind.api_version}, Kind={kind.kind})"
        )
    if not isinstance(value.setdefault("metadata", {}), dict):
        raise bad_request("metadata: must be an object")
    report_unknown(call, fit(kind, value, trusted))
    return value


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "a string", type(None): "nothing"}.get(type(value), type(value).__name__)


def fit(kind: Kind, value: Object, trusted: Object | None = None) -> list[str]:
    """Prune a fresh object to what its kind has, in place; the paths of what was removed.

    Refuses a wrong type as Go's JSON decoder does; in custom kinds only in metadata, their schema says the rest.
    Raises BadRequest.
    """
    found = conform(kind.body, value, types=not kind.custom, nulls=not kind.custom, trusted=trusted)
    unknown, wrong, at = found.unknown, found.wrong, ""
    if kind.custom:
        wrong, at = conform(kind.body["properties"]["metadata"], value["metadata"]).wrong, "metadata."
    if wrong is not None:
        path, bad, wanted = wrong
        what = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(bad), "number")
        raise bad_request(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: json: '
            f"cannot unmarshal {what} into Go struct field {kind.kind}.{at}{path} of type {wanted}"
        )
    return unknown


def report_unknown(call: Call, unknown: list[str]) -> None:
    """Refuse, warn of, or ignore fields that the kind does not have."""
    policy = call.query.get("fieldValidation") or "Warn"
    if policy not in ("Strict", "Warn", "Ignore"):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{policy}": supported values: "Ignore", "Strict", "Warn"'
        )
    texts = [f'unknown field "{path}"' for path in unknown]
    if texts and policy == "Strict":
        raise ApiError(400, "BadRequest", "strict decoding error: " + ", ".join(texts))
    if policy == "Warn":
        call.warnings += texts
