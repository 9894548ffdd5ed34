"""Is the object allowed to look like this? Validation of the built-in kinds, and of custom ones against their
schema.

Each check yields causes with the field's path, in Kubernetes' words, all at once. (kubernetes
`pkg/apis/*/validation`.)
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cluster.embedded import crds, structural
from cluster.embedded.kinds import Kind
from cluster.embedded.status import (
    Cause,
    Object,
    invalid,
    wrong,
)

LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
LABEL_NAME = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
ENV_NAME = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
PATH_NAME = re.compile(r"^(?!\.\.?$)[^/%]+$")

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name', or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')"
)
LABEL_NAMED = {"services", "namespaces"}
"""Resources whose names are DNS labels; the others' are subdomains."""


def check(kind: Kind, new: Object, old: Object | None) -> None:
    """Raises Invalid (422) with every cause found, for a new object or the update of `old`."""
    found = list(metadata(kind, new["metadata"]))
    if kind.custom:
        found += structural.causes(kind.body, new)
    else:
        own = BY_RESOURCE.get(kind.resource)
        found += own(new, old) if own else []
    if found:
        raise invalid(kind.kind, kind.group, new["metadata"].get("name", ""), found)


def metadata(kind: Kind, meta: Object) -> Iterator[Cause]:
    """Names, labels and annotations."""
    name = meta.get("name", "")
    if kind.group == "rbac.authorization.k8s.io":
        if not PATH_NAME.match(name):
            yield wrong("metadata.name", name, "may not be '.' or '..' and may not contain '/' or '%'")
    elif kind.resource in LABEL_NAMED:
        if not LABEL.match(name):
            yield wrong("metadata.name", name, LABEL_RULE)
    elif not SUBDOMAIN.match(name) or len(name) > 253:
        yield wrong("metadata.name", name, SUBDOMAIN_RULE)
    yield from labels(meta.get("labels"), "metadata.labels")
    for key in meta.get("annotations") or {}:
        yield from _qualified(key.lower(), "metadata.annotations")


def labels(values: Any, path: str) -> Iterator[Cause]:
    for key, value in (values or {}).items():
        yield from _qualified(key, path)
        if not LABEL_VALUE.match(value):
            yield wrong(path, value, LABEL_VALUE_RULE)


def _qualified(key: str, path: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if not LABEL_NAME.match(name) or (slash and not SUBDOMAIN.match(prefix)):
        why = "must be alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain as prefix"
        yield wrong(path, key, why)


BY_RESOURCE: dict[str, Callable[[Object, Object | None], Iterable[Cause]]] = {
    crds.RESOURCE: lambda new, old: crds.check(new),
}
