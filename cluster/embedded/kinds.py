"""Which kinds does the server know? One table of the built-in ones, and the registry that definitions extend.

A row says what discovery tells clients; behaviour (defaults, rules, what an update may change) hangs on the
resource's name in `defaults.py`, `rules.py` and `strategy.py`.
"""

from dataclasses import dataclass, field
from functools import cached_property

from cluster.embedded import models
from cluster.embedded.status import Object, unknown_path

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


@dataclass(frozen=True)
class Kind:
    """One version of one kind. `model` names the Python client's class; a custom kind has `schema`
    instead.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    model: str = ""
    schema: Object | None = None
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    singular: str = ""
    list_kind: str = ""
    columns: tuple[Object, ...] = ()
    scale: Object | None = None
    custom: bool = False
    storage_version: str = ""
    selectable: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def resource(self) -> str:
        """The name in messages and in the store: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    @cached_property
    def list_name(self) -> str:
        return self.list_kind or self.kind + "List"

    @property
    def model_name(self) -> str:
        """The class of the Python client that describes a built-in kind."""
        return self.model or "V1" + self.kind

    @cached_property
    def body(self) -> Object:
        """The schema of the object as a whole, metadata included."""
        if not self.custom:
            return models.resolve(models.ref(self.model_name))
        schema = dict(self.schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
        properties = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        properties |= {"metadata": models.ref("V1ObjectMeta")}
        return schema | {"properties": (schema.get("properties") or {}) | properties}

    @cached_property
    def fields(self) -> frozenset[str]:
        """What field selectors may ask for."""
        own = {"metadata.name"} | ({"metadata.namespace"} if self.namespaced else set())
        return frozenset(own) | self.selectable


def _core() -> list[Kind]:
    pod_fields = (
        "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName "
        "status.phase status.podIP"
    )
    event_fields = (
        "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid "
        "involvedObject.apiVersion involvedObject.resourceVersion involvedObject.fieldPath "
        "reason reportingComponent type"
    )
    return [
        Kind("", "v1", "Namespace", "namespaces", False, short_names=("ns",),
             subresources=("status", "finalize"), selectable=frozenset({"status.phase"})),
        Kind("", "v1", "Pod", "pods", short_names=("po",), categories=("all",),
             subresources=("status", "binding", "log", "exec", "attach", "portforward", "eviction", "proxy"),
             selectable=frozenset(pod_fields.split())),
        Kind("", "v1", "Service", "services", short_names=("svc",), categories=("all",),
             subresources=("status", "proxy"), selectable=frozenset({"spec.clusterIP", "spec.type"})),
        Kind("", "v1", "Endpoints", "endpoints", short_names=("ep",)),
        Kind("", "v1", "ConfigMap", "configmaps", short_names=("cm",)),
        Kind("", "v1", "Secret", "secrets", selectable=frozenset({"type"})),
        Kind("", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",), subresources=("token",)),
        Kind("", "v1", "Event", "events", model="CoreV1Event", short_names=("ev",),
             selectable=frozenset(event_fields.split())),
        Kind("", "v1", "Node", "nodes", False, short_names=("no",), subresources=("status",),
             selectable=frozenset({"spec.unschedulable"})),
        Kind("", "v1", "Binding", "bindings", verbs=CREATE_ONLY),
    ]  # fmt: skip


def _workloads() -> list[Kind]:
    scaled = ("status", "scale")
    return [
        Kind("apps", "v1", "Deployment", "deployments", short_names=("deploy",), categories=("all",),
             subresources=scaled),
        Kind("apps", "v1", "ReplicaSet", "replicasets", short_names=("rs",), categories=("all",),
             subresources=scaled, selectable=frozenset({"status.replicas"})),
        Kind("batch", "v1", "Job", "jobs", categories=("all",), subresources=("status",),
             selectable=frozenset({"status.successful"})),
        Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
        Kind("coordination.k8s.io", "v1", "Lease", "leases"),
        Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",),
             subresources=("status",)),
        Kind("events.k8s.io", "v1", "Event", "events", model="EventsV1Event", short_names=("ev",)),
    ]  # fmt: skip


def _machinery() -> list[Kind]:
    rbac, admission = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
    authentication, authorization = "authentication.k8s.io", "authorization.k8s.io"
    return [
        Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", False,
             short_names=("crd", "crds"), categories=("api-extensions",), subresources=("status",)),
        Kind(admission, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False,
             categories=("api-extensions",)),
        Kind(admission, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False,
             categories=("api-extensions",)),
        Kind(rbac, "v1", "Role", "roles"),
        Kind(rbac, "v1", "RoleBinding", "rolebindings"),
        Kind(rbac, "v1", "ClusterRole", "clusterroles", False),
        Kind(rbac, "v1", "ClusterRoleBinding", "clusterrolebindings", False),
        Kind(authentication, "v1", "TokenReview", "tokenreviews", False, verbs=CREATE_ONLY),
        Kind(authentication, "v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=CREATE_ONLY),
        Kind(authorization, "v1", "SubjectAccessReview", "subjectaccessreviews", False, verbs=CREATE_ONLY),
        Kind(authorization, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=CREATE_ONLY),
        Kind(authorization, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False,
             verbs=CREATE_ONLY),
        Kind(authorization, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False,
             verbs=CREATE_ONLY),
    ]  # fmt: skip


class Registry:
    """The kinds served now, by (group, version, plural)."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self.generation = 0
        for kind in _core() + _workloads() + _machinery():
            self.add(kind)

    def add(self, kind: Kind) -> None:
        self._kinds[kind.group, kind.version, kind.plural] = kind
        self.generation += 1

    def remove(self, group: str, plural: str) -> None:
        """Stop serving every version of a custom kind."""
        for key in [key for key in self._kinds if (key[0], key[2]) == (group, plural)]:
            del self._kinds[key]
        self.generation += 1

    def get(self, group: str, version: str, plural: str) -> Kind:
        """Raises NotFound as Kubernetes does for what it does not serve."""
        kind = self._kinds.get((group, version, plural))
        if kind is None:
            raise unknown_path()
        return kind

    def all(self) -> list[Kind]:
        return list(self._kinds.values())

    def named(self, group: str, version: str, kind: str) -> Kind | None:
        """The kind with this `kind` word, or None."""
        return next((k for k in self.all() if (k.group, k.version, k.kind) == (group, version, kind)), None)

    def groups(self) -> dict[str, list[str]]:
        """Group -> versions, best first, in order of registration."""
        groups: dict[str, list[str]] = {}
        for kind in self.all():
            versions = groups.setdefault(kind.group, [])
            if kind.version not in versions:
                versions.append(kind.version)
        return groups
