"""Delete: at once, or marked and left to finalizers, kubelet and garbage collector to finish.

(Kubernetes docs "Garbage Collection", "Finalizers", "Pod termination"; apiserver
`registry/generic/registry/store.go`.)
"""

import time

from cluster.embedded.admission import Admission
from cluster.embedded.body import decode
from cluster.embedded.call import Call
from cluster.embedded.kinds import Kind
from cluster.embedded.status import Object, bad_request, conflict, success
from cluster.embedded.store import Entry, Store
from cluster.embedded.structural import copy
from cluster.embedded.write import is_finished

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


def read_options(call: Call) -> Object:
    """`DeleteOptions` from the body, else from the query. Raises BadRequest."""
    options = decode(call.body, call.content_type) if call.body.strip() else {}
    if not isinstance(options, dict):
        raise bad_request("the request body must be a DeleteOptions object")
    if "gracePeriodSeconds" in call.query:
        options.setdefault("gracePeriodSeconds", int(call.query["gracePeriodSeconds"]))
    if "propagationPolicy" in call.query:
        options.setdefault("propagationPolicy", call.query["propagationPolicy"])
    policy = options.get("propagationPolicy")
    if policy not in (None, "Foreground", "Background", "Orphan"):
        raise bad_request(
            f"propagationPolicy: Invalid value: {policy!r}: use Foreground, Background or Orphan"
        )
    grace = options.get("gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or grace < 0):
        raise bad_request(
            f"gracePeriodSeconds: Invalid value: {grace!r}: must be a number of seconds from 0 up"
        )
    return options


class Deleter:
    """Deletes objects."""

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission

    async def delete(self, call: Call, name: str, options: Object) -> tuple[Object, bool]:
        """(what to answer, gone?). Raises NotFound, Conflict for a failed precondition, Forbidden by
        admission.
        """
        kind, namespace = call.kind, call.target.namespace
        entry = self._store.get(kind.resource, namespace, name)
        _check_preconditions(kind, entry, options.get("preconditions") or {})
        await self._admission.validate(call, "DELETE", None, entry.object)
        entry = self._store.get(kind.resource, namespace, name)
        dry = call.dry_run or options.get("dryRun") == ["All"]
        marked = mark(kind, entry.object, options)
        if is_finished(kind, marked):
            if not dry:
                self._store.remove(kind.resource, entry.key, entry.revision)
            uid = entry.object["metadata"]["uid"]
            answer = entry.object if kind.resource == "pods" else success(kind.resource, name, uid)
            return answer, True
        if marked == entry.object or dry:
            return marked, False
        return self._store.replace(kind.resource, marked, entry.revision).object, False


def _check_preconditions(kind: Kind, entry: Entry, wanted: Object) -> None:
    metadata = entry.object["metadata"]
    for field, key in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        value = wanted.get(field)
        if value and value != metadata[field]:
            found = metadata[field]
            why = f"Precondition failed: {key} in precondition: {value}, {key} in object meta: {found}"
            raise conflict(kind.resource, metadata["name"], why)


def mark(kind: Kind, object: Object, options: Object) -> Object:
    """The object as deletion leaves it: deletionTimestamp, grace period, the garbage collector's
    finalizers.
    """
    grace = _grace(kind, object, options)
    marked: Object = copy(object)
    metadata = marked["metadata"]
    before = metadata.get("deletionGracePeriodSeconds")
    if "deletionTimestamp" not in metadata or (before and grace < before):
        metadata["deletionTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + grace))
        metadata["deletionGracePeriodSeconds"] = grace
        if "generation" in metadata and "deletionTimestamp" not in object["metadata"]:
            metadata["generation"] += 1
    _propagate(metadata, options)
    if kind.resource == "namespaces":
        marked.setdefault("status", {})["phase"] = "Terminating"
    return marked


def _propagate(metadata: Object, options: Object) -> None:
    wanted = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.get("propagationPolicy") or "")
    if options.get("orphanDependents"):
        wanted = ORPHAN
    if wanted and wanted not in metadata.get("finalizers", []):
        metadata["finalizers"] = [*metadata.get("finalizers", []), wanted]


def _grace(kind: Kind, object: Object, options: Object) -> int:
    """Seconds that a pod has to end; 0 for every other kind, and for a pod that does not run."""
    if kind.resource != "pods":
        return 0
    spec, status = object.get("spec") or {}, object.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    asked = options.get("gracePeriodSeconds")
    return int(spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked)
