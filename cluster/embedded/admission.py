"""Between defaults and rules: may this object come in, and what must be added to it?

Built in: objects only in namespaces that exist and are not being deleted; pods get their service account and
its token. Then the cluster's own webhooks (`webhooks.py`). As in Kubernetes the built-in additions run again
after a mutating webhook changed a pod, so that injected containers get the token too.
"""

from cluster.embedded.call import Call
from cluster.embedded.kinds import Kind
from cluster.embedded.status import Object, forbidden, not_found
from cluster.embedded.store import Store
from cluster.embedded.strategy import random_suffix
from cluster.embedded.webhooks import Webhooks

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
ROOT_CA = "kube-root-ca.crt"
PROTECTED = {"default", "kube-system", "kube-public"}


class Admission:
    """The admission chain."""

    def __init__(self, store: Store, webhooks: Webhooks) -> None:
        self._store = store
        self._webhooks = webhooks

    def check_namespace(self, kind: Kind, namespace: str) -> None:
        """Raises NotFound, or Forbidden while the namespace is being deleted."""
        if not kind.namespaced:
            return
        found = self._store.find("namespaces", "", namespace)
        if found is None:
            raise not_found("namespaces", namespace)
        if found.object["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            error = forbidden(kind.resource, "", why)
            error.details["causes"] = [
                {"reason": "NamespaceTerminating", "message": why, "field": "metadata.namespace"}
            ]
            raise error

    async def mutate(self, call: Call, operation: str, object: Object, old: Object | None) -> Object:
        """The object after everybody who may change it did."""
        is_new_pod = operation == "CREATE" and call.kind.resource == "pods" and not call.target.subresource
        if is_new_pod:
            self._give_account(object)
        changed = await self._webhooks.mutate(call, operation, object, old)
        if is_new_pod and changed is not object:
            self._give_account(changed)
        return changed

    async def validate(self, call: Call, operation: str, object: Object | None, old: Object | None) -> None:
        """Raises what the validating webhooks answer, and Forbidden for what must not be deleted."""
        if operation == "DELETE" and call.kind.resource == "namespaces" and call.target.name in PROTECTED:
            raise forbidden("namespaces", call.target.name, "this namespace may not be deleted")
        await self._webhooks.validate(call, operation, object, old)

    def _give_account(self, pod: Object) -> None:
        """The ServiceAccount plugin: default account, its pull secrets, the token volume."""
        spec, namespace = pod.setdefault("spec", {}), pod["metadata"]["namespace"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        entry = self._store.find("serviceaccounts", namespace, name)
        if entry is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("pods", pod["metadata"].get("name", ""), why)
        account = entry.object
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]
        mounts = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        if mounts is not False:
            _mount_token(spec)


def _mount_token(spec: Object) -> None:
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    bare = [c for c in containers if not _mounts(c)]
    if not bare:
        return
    volumes = spec.setdefault("volumes", [])
    name = next((v["name"] for v in volumes if v.get("name", "").startswith("kube-api-access-")), "")
    if not name:
        name = "kube-api-access-" + random_suffix()
        volumes.append({"name": name, "projected": _token_sources()})
    for container in bare:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]


def _mounts(container: Object) -> bool:
    return any(mount.get("mountPath") == TOKEN_PATH for mount in container.get("volumeMounts") or [])


def _token_sources() -> Object:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
    }
