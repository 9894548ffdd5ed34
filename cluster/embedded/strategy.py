"""What may a client set, and what belongs to the server? Preparation of an object before it is stored.

Metadata that only the server writes, the wall between spec and status, generations. (apiserver
`registry/rest`, kubernetes `pkg/registry/*/strategy.go`.)
"""

import secrets
import uuid

from cluster.embedded.call import now
from cluster.embedded.kinds import Kind
from cluster.embedded.status import Object, bad_request, conflict

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet for random name parts: no vowels, so no words."""

NO_GENERATION = {"configmaps", "secrets", "serviceaccounts", "events", "nodes", "namespaces", "endpoints",
                 "leases.coordination.k8s.io", "events.events.k8s.io", "roles.rbac.authorization.k8s.io",
                 "clusterroles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
                 "clusterrolebindings.rbac.authorization.k8s.io", "services"}  # fmt: skip
"""Built-in resources whose metadata has no generation."""


def random_suffix(length: int = 5) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def has_status(kind: Kind) -> bool:
    return "status" in kind.subresources


def prepare_create(kind: Kind, object: Object, namespace: str) -> None:
    """Complete the metadata of a new object in place; its status is the server's business. Raises BadRequest."""
    metadata = object["metadata"]
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = str(metadata["generateName"])[:58] + random_suffix()
    if not metadata.get("name"):
        raise bad_request("resource name may not be empty: set metadata.name or metadata.generateName")
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if kind.namespaced:
        if metadata.setdefault("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
    else:
        metadata.pop("namespace", None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now()
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "managedFields"):
        metadata.pop(key, None)
    if kind.resource not in NO_GENERATION:
        metadata["generation"] = 1
    if kind.resource == "jobs.batch":
        number_job(object)
    if has_status(kind) and kind.resource != "nodes":
        object.pop("status", None)


def number_job(job: Object) -> None:
    """Give a new Job the selector and labels that tie its pods to it (`pkg/registry/batch/job/strategy.go`)."""
    spec = job.get("spec") or {}
    template = spec.get("template")
    if spec.get("manualSelector") or not isinstance(template, dict):
        return
    uid = {"batch.kubernetes.io/controller-uid": job["metadata"]["uid"]}
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels |= uid | {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    spec["selector"] = {"matchLabels": uid}


FIXED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "name",
         "namespace", "generateName")  # fmt: skip


def prepare_update(kind: Kind, new: Object, old: Object, subresource: str) -> None:
    """Bring back in place what this update may not touch; count the generation. Raises BadRequest,
    Conflict.
    """
    metadata, before = new["metadata"], old["metadata"]
    if metadata.get("name", before["name"]) != before["name"]:
        raise bad_request(
            f"the name of the object ({metadata['name']}) is not that of the URL ({before['name']})"
        )
    if metadata.get("namespace", before.get("namespace")) != before.get("namespace"):
        raise bad_request("the namespace of the object does not match the namespace on the request")
    if metadata.get("uid") and metadata["uid"] != before["uid"]:
        wanted, found = metadata["uid"], before["uid"]
        why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
        raise conflict(kind.resource, before["name"], why)
    for key in FIXED:
        if key in before:
            metadata[key] = before[key]
        else:
            metadata.pop(key, None)
    _separate(kind, new, old, subresource)
    if "generation" in before and _desired(kind, new) != _desired(kind, old):
        metadata["generation"] = before["generation"] + 1


def _separate(kind: Kind, new: Object, old: Object, subresource: str) -> None:
    """An update of the status changes nothing else (but labels and the like), any other does not change the
    status.
    """
    if subresource == "status":
        kept = {key: value for key, value in old.items() if key not in ("status", "metadata")}
        for key in set(new) - {"status", "metadata"}:
            del new[key]
        new.update(kept)
        if kind.custom:
            new["metadata"] = dict(old["metadata"]) | {
                key: new["metadata"][key]
                for key in ("managedFields", "resourceVersion")
                if key in new["metadata"]
            }
    elif has_status(kind) and subresource != "binding":
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)


def _desired(kind: Kind, object: Object) -> Object:
    """The part of an object whose change counts as a new generation."""
    if "spec" in object and not kind.custom:
        return {"spec": object["spec"]}
    skipped = ("metadata", "status") if has_status(kind) else ("metadata",)
    return {key: value for key, value in object.items() if key not in skipped}
