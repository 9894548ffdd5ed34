"""The downward API: what a container may learn of its own pod (`fieldRef`, `resourceFieldRef`). Pure."""

from __future__ import annotations

import math
import os
import re
from typing import Any

from cluster.embedded.kube import Object

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_SUFFIXES = {
    "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


class FieldError(ValueError):
    """A field path that the downward API does not have."""


def field(pod: Object, path: str, addresses: tuple[str, str]) -> str:
    """The value of a fieldRef; `addresses` are the pod's and the node's. FieldError for an unknown path."""
    meta, spec = pod["metadata"], pod["spec"]
    if subscript := _SUBSCRIPT.fullmatch(path):
        return str((meta.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        mapping = meta.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{name}="{_quoted(value)}"' for name, value in sorted(mapping.items()))
    values = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": addresses[0],
        "status.podIPs": addresses[0],
        "status.hostIP": addresses[1],
        "status.hostIPs": addresses[1],
    }
    if path not in values:
        raise FieldError(f"unsupported fieldPath: {path}")
    return str(values[path])


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resource(container: Object, name: str, divisor: Any = None) -> str:
    """The value of a resourceFieldRef such as limits.cpu, rounded up in units of `divisor`."""
    which, _, what = name.partition(".")
    if which not in ("limits", "requests"):
        raise FieldError(f"unsupported container resource: {name}")
    given = ((container.get("resources") or {}).get(which) or {}).get(what)
    amount = quantity(given) if given is not None else _of_machine(which, what)
    unit = quantity(divisor) if divisor and quantity(divisor) else 1.0
    return str(math.ceil(amount / unit))


def _of_machine(which: str, what: str) -> float:
    if which == "requests":
        return 0.0
    if what == "cpu":
        return float(os.cpu_count() or 1)
    if what == "memory":
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return 0.0


def quantity(value: Any) -> float:
    """A Kubernetes quantity (`500m`, `128Mi`) as a number."""
    text = str(value)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * _SUFFIXES[suffix]
    return float(text)
