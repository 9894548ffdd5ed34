"""Which objects does a list, watch or webhook mean? Label selectors, label selector objects and field
selectors.

Each is compiled once into a predicate over objects. (apimachinery `pkg/labels`, `pkg/fields`.)
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from cluster.embedded.status import Object, bad_request

Predicate = Callable[[Object], bool]
Labels = Mapping[str, str]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s+\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s!=,()]*)$")
_EXISTS = re.compile(r"^(?P<no>!?)\s*(?P<key>[^\s!=,()]+)$")


def everything(_: Object) -> bool:
    return True


def labels_of(object: Object) -> Labels:
    labels: Labels = object["metadata"].get("labels") or {}
    return labels


def _requirement(key: str, operator: str, values: set[str]) -> Callable[[Labels], bool]:
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    raise bad_request(f'"{operator}" is not a valid label selector operator')


def _parse_one(text: str) -> Callable[[Labels], bool]:
    if found := _SET.match(text):
        values = {value.strip() for value in found["values"].split(",")}
        return _requirement(found["key"], "In" if found["op"] == "in" else "NotIn", values)
    if found := _EQUAL.match(text):
        return _requirement(found["key"], "NotIn" if found["op"] == "!=" else "In", {found["value"]})
    if found := _EXISTS.match(text):
        return _requirement(found["key"], "DoesNotExist" if found["no"] else "Exists", set())
    raise bad_request(f"unable to parse requirement of the label selector: {text!r}")


def _all(requirements: list[Callable[[Labels], bool]]) -> Callable[[Labels], bool]:
    return lambda labels: all(requirement(labels) for requirement in requirements)


def label_selector(text: str) -> Predicate:
    """`app=web,tier in (a, b),!canary` as a predicate. Raises BadRequest."""
    parts = [part.strip() for part in re.split(r",(?![^()]*\))", text) if part.strip()]
    if not parts:
        return everything
    matches = _all([_parse_one(part) for part in parts])
    return lambda object: matches(labels_of(object))


def selector_object(selector: Mapping[str, Any] | None) -> Callable[[Labels], bool]:
    """A `LabelSelector` (matchLabels, matchExpressions) as a predicate over labels; an empty one takes
    everything.
    """
    selector = selector or {}
    requirements = [_requirement(k, "In", {v}) for k, v in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        values = set(expression.get("values") or [])
        requirements.append(_requirement(expression["key"], expression["operator"], values))
    return _all(requirements)


def field_value(object: Object, path: str) -> str:
    """The value at a dotted path as field selectors see it: a string, "" where there is none."""
    value: Any = object
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def field_selector(text: str, allowed: frozenset[str]) -> Predicate:
    """`status.phase=Running,metadata.name!=x` as a predicate. Raises BadRequest, also for a field not in
    `allowed`.
    """
    wanted: list[tuple[str, str, bool]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = re.match(r"^([^!=]+)(==|=|!=)(.*)$", part)
        if not found:
            raise bad_request(f"invalid selector: {part!r}; can't understand it")
        if found[1] not in allowed:
            raise bad_request(
                f'field label not supported: "{found[1]}"; supported: {", ".join(sorted(allowed))}'
            )
        wanted.append((found[1], found[3], found[2] != "!="))
    return lambda object: all((field_value(object, path) == value) is equal for path, value, equal in wanted)


def both(left: Predicate, right: Predicate) -> Predicate:
    if left is everything:
        return right
    if right is everything:
        return left
    return lambda object: left(object) and right(object)
