"""What `kubectl get` shows of each built-in kind: the table of columns. How cells are written: `cells.py`."""

from collections.abc import Callable
from dataclasses import dataclass

from cluster.embedded import cells
from cluster.embedded.cells import Cell
from cluster.embedded.status import Object


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `wide` columns are shown with `-o wide` only."""

    name: str
    read: Callable[[Object], Cell]
    wide: bool = False
    kind: str = "string"
    format: str = ""
    description: str = ""


def number(name: str, path: str) -> Column:
    return Column(name, cells.field(path, 0), kind="integer")


NAME = Column("Name", lambda o: str(o["metadata"]["name"]), format="name", description="Name of the object.")
AGE = Column(
    "Age",
    lambda o: cells.age(o["metadata"].get("creationTimestamp")),
    description="Time since it was created.",
)

WORKLOAD = (
    Column("Containers", cells.containers("name"), wide=True),
    Column("Images", cells.containers("image"), wide=True),
    Column("Selector", cells.selector("spec.selector"), wide=True),
)
_REPLICAS = (
    Column("Ready", lambda o: f"{cells.at(o, 'status.readyReplicas', 0)}/{cells.at(o, 'spec.replicas', 0)}"),
    number("Up-to-date", "status.updatedReplicas"),
    number("Available", "status.availableReplicas"),
)
_WEBHOOKS = (NAME, Column("Webhooks", cells.count("webhooks"), kind="integer"), AGE)
_BINDING = (
    NAME,
    Column("Role", cells.role),
    AGE,
    Column("Users", cells.subjects("User"), wide=True),
    Column("Groups", cells.subjects("Group"), wide=True),
    Column("ServiceAccounts", cells.subjects("ServiceAccount"), wide=True),
)
_EVENT = (
    Column("Last Seen", cells.event_seen),
    Column("Type", cells.field("type")),
    Column("Reason", cells.field("reason")),
    Column("Object", cells.event_object),
    Column("Message", lambda o: str(o.get("message") or o.get("note") or "").strip()),
    Column("Name", lambda o: str(o["metadata"]["name"]), wide=True, format="name"),
)
_CREATED = Column("Created At", lambda o: str(o["metadata"].get("creationTimestamp")), kind="date")

BY_RESOURCE: dict[str, tuple[Column, ...]] = {
    "pods": (
        NAME,
        Column("Ready", cells.pod_ready),
        Column("Status", cells.pod_status),
        Column("Restarts", cells.pod_restarts),
        AGE,
        Column("IP", cells.field("status.podIP"), wide=True),
        Column("Node", cells.field("spec.nodeName"), wide=True),
        Column("Nominated Node", cells.field("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda o: "<none>", wide=True),
    ),
    "services": (
        NAME,
        Column("Type", cells.field("spec.type")),
        Column("Cluster-IP", cells.field("spec.clusterIP")),
        Column("External-IP", cells.external),
        Column("Port(s)", cells.service_ports),
        AGE,
        Column("Selector", cells.selector("spec.selector"), wide=True),
    ),
    "deployments.apps": (NAME, *_REPLICAS, AGE, *WORKLOAD),
    "replicasets.apps": (
        NAME,
        number("Desired", "spec.replicas"),
        number("Current", "status.replicas"),
        number("Ready", "status.readyReplicas"),
        AGE,
        *WORKLOAD,
    ),
    "jobs.batch": (
        NAME,
        Column("Status", cells.job_status),
        Column(
            "Completions",
            lambda o: f"{cells.at(o, 'status.succeeded', 0)}/{cells.at(o, 'spec.completions', 1)}",
        ),
        Column("Duration", cells.job_duration),
        AGE,
        *WORKLOAD,
    ),
    "namespaces": (NAME, Column("Status", cells.field("status.phase")), AGE),
    "nodes": (
        NAME,
        Column("Status", cells.node_status),
        Column("Roles", cells.node_roles),
        AGE,
        Column("Version", cells.field("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", cells.internal_ip, wide=True),
        Column("OS-Image", cells.field("status.nodeInfo.osImage", "<unknown>"), wide=True),
        Column(
            "Container-Runtime",
            cells.field("status.nodeInfo.containerRuntimeVersion", "<unknown>"),
            wide=True,
        ),
    ),
    "configmaps": (
        NAME,
        Column("Data", lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {})),
        AGE,
    ),
    "secrets": (
        NAME,
        Column("Type", cells.field("type")),
        Column("Data", cells.count("data"), kind="integer"),
        AGE,
    ),
    "serviceaccounts": (NAME, Column("Secrets", cells.count("secrets"), kind="integer"), AGE),
    "endpoints": (NAME, Column("Endpoints", cells.endpoints_text), AGE),
    "endpointslices.discovery.k8s.io": (
        NAME,
        Column("AddressType", cells.field("addressType")),
        Column("Ports", cells.slice_ports),
        Column("Endpoints", cells.slice_addresses),
        AGE,
    ),
    "events": _EVENT,
    "events.events.k8s.io": _EVENT,
    "leases.coordination.k8s.io": (NAME, Column("Holder", cells.field("spec.holderIdentity", "")), AGE),
    "poddisruptionbudgets.policy": (
        NAME,
        Column("Min Available", cells.field("spec.minAvailable", "N/A")),
        Column("Max Unavailable", cells.field("spec.maxUnavailable", "N/A")),
        number("Allowed Disruptions", "status.disruptionsAllowed"),
        AGE,
    ),
    "customresourcedefinitions.apiextensions.k8s.io": (NAME, _CREATED),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": _WEBHOOKS,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": _WEBHOOKS,
    "roles.rbac.authorization.k8s.io": (NAME, _CREATED),
    "clusterroles.rbac.authorization.k8s.io": (NAME, _CREATED),
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
}
"""Resource -> its columns; every other kind shows its name and age."""
