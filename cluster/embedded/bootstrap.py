"""What a cluster has before anybody asked for anything: namespaces, the `kubernetes` Service, RBAC's default
roles.

Also what every namespace gets when it is made: its `default` service account and the cluster's CA in a
ConfigMap. In Kubernetes two controllers do that a moment later; doing it here spares every first pod of a
namespace one refusal.
"""

from collections.abc import Iterator

from cluster.embedded import defaults
from cluster.embedded.admission import ROOT_CA
from cluster.embedded.kinds import Registry
from cluster.embedded.status import Object
from cluster.embedded.store import Store
from cluster.embedded.strategy import prepare_create

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
RBAC = "rbac.authorization.k8s.io"
READ = ["get", "list", "watch"]
WRITE = ["create", "delete", "deletecollection", "patch", "update"]
EDITABLE = {
    "": ["configmaps", "endpoints", "events", "pods", "pods/log", "pods/eviction", "secrets",
         "serviceaccounts", "services", "services/proxy", "pods/proxy", "pods/exec"],
    "apps": ["deployments", "deployments/scale", "replicasets", "replicasets/scale"],
    "batch": ["jobs"],
    "policy": ["poddisruptionbudgets"],
    "coordination.k8s.io": ["leases"],
    "discovery.k8s.io": ["endpointslices"],
}  # fmt: skip


class Bootstrap:
    """Creates the first objects of a cluster."""

    def __init__(self, store: Store, registry: Registry, ca_pem: str) -> None:
        self._store = store
        self._registry = registry
        self._ca_pem = ca_pem
        self._where = ("", 0, "")

    def run(self, address: str, port: int, service_address: str) -> None:
        """Create everything; the server listens at `address`, and `service_address` is its Service's."""
        self._where = (address, port, service_address)
        for name in NAMESPACES:
            self._create("", "v1", "namespaces", {"metadata": {"name": name}})
            self.furnish(name)
        self.publish_server()
        labels = {"kubernetes.io/bootstrapping": "rbac-defaults"}
        for name, rules in _cluster_roles():
            body: Object = {"metadata": {"name": name, "labels": labels}, "rules": rules}
            self._create(RBAC, "v1", "clusterroles", body)
        for name, group in _bindings():
            subjects = [{"kind": "Group", "name": group, "apiGroup": RBAC}]
            role = {"kind": "ClusterRole", "name": name, "apiGroup": RBAC}
            body = {"metadata": {"name": name, "labels": labels}, "roleRef": role, "subjects": subjects}
            self._create(RBAC, "v1", "clusterrolebindings", body)

    def furnish(self, namespace: str) -> None:
        """Give a new namespace what every namespace has."""
        self._create("", "v1", "serviceaccounts", {"metadata": {"name": "default"}}, namespace)
        body = {"metadata": {"name": ROOT_CA}, "data": {"ca.crt": self._ca_pem}}
        self._create("", "v1", "configmaps", body, namespace)

    def _create(self, group: str, version: str, plural: str, body: Object, namespace: str = "") -> None:
        kind = self._registry.get(group, version, plural)
        if self._store.find(kind.resource, namespace, body["metadata"]["name"]):
            return
        object = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        prepare_create(kind, object, namespace)
        defaults.apply_defaults(kind.resource, object)
        self._store.create(kind.resource, object)

    def publish_server(self) -> None:
        """The Service `kubernetes` and its endpoint: what is missing of them."""
        address, port, service_address = self._where
        labels = {"component": "apiserver", "provider": "kubernetes"}
        ports = [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]
        spec = {"clusterIP": service_address, "clusterIPs": [service_address], "ports": ports}
        body: Object = {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}
        self._create("", "v1", "services", body, "default")
        subset = {
            "addresses": [{"ip": address}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        self._create(
            "", "v1", "endpoints", {"metadata": {"name": "kubernetes"}, "subsets": [subset]}, "default"
        )
        slice_ = {
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        self._create("discovery.k8s.io", "v1", "endpointslices", slice_, "default")


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _cluster_roles() -> Iterator[tuple[str, list[Object]]]:
    everything = [_rule("*", ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}]
    hidden = {"secrets", "pods/exec", "services/proxy", "pods/proxy"}
    view = [_rule(g, [r for r in names if r not in hidden], READ) for g, names in EDITABLE.items()]
    view.append(_rule("", ["namespaces"], READ))
    edit = [_rule(group, names, READ + WRITE) for group, names in EDITABLE.items()]
    paths = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/readyz",
        "/openapi",
        "/openapi/*",
        "/version",
    ]
    self_reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    yield "cluster-admin", everything
    yield "view", view
    yield "edit", view + edit
    yield "admin", view + edit + [_rule(RBAC, ["roles", "rolebindings"], READ + WRITE)]
    yield "system:discovery", [{"nonResourceURLs": paths, "verbs": ["get"]}]
    yield (
        "system:public-info-viewer",
        [{"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version"], "verbs": ["get"]}],
    )
    yield (
        "system:basic-user",
        [
            _rule("authorization.k8s.io", self_reviews, ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ],
    )
    yield (
        "system:auth-delegator",
        [
            _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
            _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
        ],
    )
    issuer = {"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}
    yield "system:service-account-issuer-discovery", [issuer]


def _bindings() -> Iterator[tuple[str, str]]:
    yield "cluster-admin", "system:masters"
    yield "system:discovery", "system:authenticated"
    yield "system:basic-user", "system:authenticated"
    yield "system:public-info-viewer", "system:unauthenticated"
    yield "system:service-account-issuer-discovery", "system:serviceaccounts"
