"""Rules of what every object has: name, labels, annotations. (apimachinery `pkg/util/validation`.)"""

import re
from collections.abc import Iterator
from typing import Any

from cluster.embedded.kinds import Kind
from cluster.embedded.podrules import LABEL, LABEL_RULE
from cluster.embedded.status import Cause, Object, wrong

SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
LABEL_NAME = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
SERVICE_NAME = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
PATH_NAME = re.compile(r"^(?!\.\.?$)[^/%]+$")

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
SERVICE_NAME_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')"
)
LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')"
)


def metadata(kind: Kind, meta: Object) -> Iterator[Cause]:
    """Names, labels and annotations."""
    name = meta.get("name", "")
    if kind.group == "rbac.authorization.k8s.io":
        if not PATH_NAME.match(name):
            yield wrong("metadata.name", name, "may not be '.' or '..' and may not contain '/' or '%'")
    elif kind.resource == "services":
        if not SERVICE_NAME.match(name):
            yield wrong("metadata.name", name, SERVICE_NAME_RULE)
    elif kind.resource == "namespaces":
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
