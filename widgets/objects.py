"""Kubernetes objects from a notebook: apply, delete, get and scale, each with one sentence for what became of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cluster import documents, up
from cluster.api import Api, ApiError, Object
from cluster.base import ClusterError
from mesh import manifests
from widgets.answers import Outcome
from widgets.errors import LabError

READY_SECONDS = 30.0
FOLLOW_SECONDS = 5.0
"""How long an apply waits for the last sidecar; the control plane is told to reach it in 0.1 s."""

RULES = ".istio.io/"


T = TypeVar("T")
What = str | Path | Object
"""What a person may hand over: YAML, a file of it, or the object itself."""


def said(action: Callable[[], T]) -> T:
    """Do it; what the cluster has against it becomes one sentence. Raises LabError."""
    try:
        return action()
    except (ApiError, ClusterError) as error:
        raise LabError(str(error)) from None


def apply(api: Api, what: What, namespace: str) -> Outcome:
    """Server-side apply of all objects, or of none when one is refused; then wait until the mesh follows.

    Raises LabError.
    """
    objects = _read(what, namespace)
    for obj in objects:
        _send(api, obj, dry_run=True)
    warnings: list[str] = []
    stored = []
    for obj in objects:
        now, warned = _send(api, obj)
        stored.append(now)
        warnings.extend(warned)
    for obj in stored:
        warnings.extend(wait_until_followed(api, obj))
    return Outcome(True, f"{', '.join(map(_label, objects))} applied", tuple(warnings), tuple(stored))


def _send(api: Api, obj: Object, dry_run: bool = False) -> tuple[Object, tuple[str, ...]]:
    try:
        return api.apply(obj, dry_run=dry_run)
    except ApiError as error:
        raise LabError(f"{_label(obj)} refused: {error}") from None


def followed(rule: Object) -> bool:
    """Whether every proxy runs with this generation of a rule, as the control plane says in its status."""
    status = rule.get("status") or {}
    same = status.get("observedGeneration") == rule["metadata"].get("generation")
    return bool(same and _reconciled(status).get("status") == "True")


def wait_until_followed(api: Api, rule: Object) -> list[str]:
    """Wait until every proxy runs with a rule of the mesh; a warning if not all do. Raises LabError.

    What is counted after it, the new rule has decided.
    """
    if RULES not in rule["apiVersion"]:
        return []
    name, namespace = rule["metadata"]["name"], rule["metadata"]["namespace"]
    last: Object = {}

    def there(have: dict[str, Object]) -> bool:
        last.update(have.get(name, {}))
        return name not in have or followed(last)

    if said(lambda: api.wait(rule["apiVersion"], rule["kind"], namespace, there, FOLLOW_SECONDS)):
        return []
    message = _reconciled(last.get("status") or {}).get("message", "no proxy has been told of it")
    return [f"{_label(rule)}: {message} (after {FOLLOW_SECONDS:.0f} s)"]


def _reconciled(status: Object) -> Object:
    return next((one for one in status.get("conditions") or () if one.get("type") == "Reconciled"), {})


def delete(api: Api, what: What, namespace: str) -> Outcome:
    """Delete what is named; what is not there is no error. Raises LabError."""
    objects = _read(what, namespace)
    gone = [_label(obj) for obj in said(lambda: [obj for obj in objects if api.delete(obj)])]
    return Outcome(True, f"{', '.join(gone) or 'nothing'} deleted")


def get(api: Api, kind: str, name: str | None, namespace: str) -> Any:
    """One object, or the list of a kind. Raises LabError."""
    return said(lambda: _get(api, kind, name, namespace))


def _get(api: Api, kind: str, name: str | None, namespace: str) -> Any:
    found, _ = api.request("GET", api.find(kind).path(namespace, name))
    return found if name else found["items"]


def scale(api: Api, deployment: str, replicas: int, namespace: str) -> Outcome:
    """Change the number of pods and wait until as many are ready. Raises LabError that says what is not."""
    target = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment, "namespace": namespace},
    }
    said(lambda: api.patch(target, {"spec": {"replicas": replicas}}))

    def there(have: dict[str, Object]) -> bool:
        found = have.get(deployment, {})
        status, wanted = found.get("status", {}), found.get("metadata", {}).get("generation")
        counts = {int(status.get(key) or 0) for key in ("replicas", "readyReplicas")}
        return status.get("observedGeneration") == wanted and counts == {replicas}

    if not said(lambda: api.wait("apps/v1", "Deployment", namespace, there, READY_SECONDS)):
        raise LabError(f"{deployment}: {up.why_not_ready(api, namespace)} after {READY_SECONDS:.0f} s")
    return Outcome(True, f"deployment/{deployment} has {replicas} {'pod' if replicas == 1 else 'pods'}")


def put_back(api: Api) -> None:
    """The shop as it was installed, and in its namespace no rule of the mesh but its own. Raises LabError."""
    said(lambda: _put_back(api))


def _put_back(api: Api) -> None:
    installed = [*manifests.shop(), *manifests.visitors(), *manifests.shop_gateway()]
    kept = {(obj["kind"], obj["metadata"]["name"]) for obj in installed}
    for crd in manifests.crds():
        kind = crd["spec"]["names"]["kind"]
        version = next(v["name"] for v in crd["spec"]["versions"] if v.get("storage"))
        api_version = f"{crd['spec']['group']}/{version}"
        for obj in api.list(api_version, kind, "default"):
            if (kind, obj["metadata"]["name"]) not in kept:
                api.delete({**obj, "apiVersion": api_version, "kind": kind})
    up.install(api, installed)


def _read(what: What, namespace: str) -> list[Object]:
    try:
        if isinstance(what, str):
            return documents.read(what, "the YAML", namespace)
        if isinstance(what, Path):
            return documents.read(what.read_text(encoding="utf-8"), str(what), namespace)
        return documents.read(json.dumps(what), "the object", namespace)
    except (documents.BadDocument, OSError, UnicodeDecodeError) as error:
        raise LabError(str(error)) from None


def _label(obj: Object) -> str:
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"
