"""What `kubectl get` shows of each built-in kind: columns, and how to read them off an object.

The columns are those of Kubernetes (`pkg/printers/internalversion/printers.go`), so that scripts and habits
fit.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.embedded.status import Object

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `wide` columns are shown with `-o wide` only."""

    name: str
    read: Callable[[Object], Cell]
    wide: bool = False
    kind: str = "string"
    format: str = ""
    description: str = ""


def age(text: str | None) -> str:
    """How long ago a time was, as kubectl writes it: 5s, 3m20s, 2h, 4d5h."""
    if not text:
        return "<unknown>"
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return duration((datetime.datetime.now(datetime.UTC) - moment).total_seconds())


def duration(seconds: float) -> str:
    """apimachinery `duration.HumanDuration`."""
    total = max(0, int(seconds))
    if total < 120:
        return f"{total}s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 10:
        return f"{minutes}m{total % 60}s" if total % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return f"{years}y{days % 365}d" if years < 8 and days % 365 else f"{years}y"


def _at(object: Any, path: str, default: Cell = None) -> Any:
    for step in path.split("."):
        object = object.get(step) if isinstance(object, dict) else None
    return default if object is None else object


def field(path: str, default: Cell = "<none>") -> Callable[[Object], Cell]:
    return lambda object: _at(object, path, default)


def count(path: str) -> Callable[[Object], Cell]:
    return lambda object: len(_at(object, path) or [])


NAME = Column("Name", lambda o: str(o["metadata"]["name"]), format="name", description="Name of the object.")
AGE = Column(
    "Age", lambda o: age(o["metadata"].get("creationTimestamp")), description="Time since it was created."
)


def _selector(path: str) -> Callable[[Object], Cell]:
    def read(object: Object) -> Cell:
        chosen = _at(object, path) or {}
        labels = (
            chosen.get("matchLabels", {})
            if "matchLabels" in chosen or "matchExpressions" in chosen
            else chosen
        )
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"

    return read


def _containers(part: str) -> Callable[[Object], Cell]:
    return lambda o: ",".join(c.get(part, "") for c in _at(o, "spec.template.spec.containers") or [])


WORKLOAD = (
    Column("Containers", _containers("name"), wide=True),
    Column("Images", _containers("image"), wide=True),
    Column("Selector", _selector("spec.selector"), wide=True),
)


def _pod_statuses(pod: Object) -> list[Object]:
    return _at(pod, "status.containerStatuses") or []


def _is_sidecar(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def pod_ready(pod: Object) -> str:
    inits = [c for c in _at(pod, "spec.initContainers") or [] if _is_sidecar(c)]
    names = {c["name"] for c in inits}
    started = [s for s in _at(pod, "status.initContainerStatuses") or [] if s["name"] in names]
    ready = sum(bool(status.get("ready")) for status in [*_pod_statuses(pod), *started])
    return f"{ready}/{len(_at(pod, 'spec.containers') or []) + len(inits)}"


def _init_reason(pod: Object) -> str | None:
    """What holds the pod up, while its init containers run."""
    specs = {c["name"]: c for c in _at(pod, "spec.initContainers") or []}
    for index, status in enumerate(_at(pod, "status.initContainerStatuses") or []):
        state = status.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting")
        if (ended and ended.get("exitCode") == 0) or (
            _is_sidecar(specs.get(status["name"], {})) and status.get("started")
        ):
            continue
        if ended:
            return "Init:" + (ended.get("reason") or f"ExitCode:{ended.get('exitCode')}")
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return "Init:" + str(waiting["reason"])
        return f"Init:{index}/{len(specs)}"
    return None


def pod_status(pod: Object) -> str:
    """The STATUS column: the phase, or better what the containers say."""
    text = _at(pod, "status.reason") or _at(pod, "status.phase") or "Unknown"
    held = _init_reason(pod)
    if held:
        text = held
    else:
        for status in reversed(_pod_statuses(pod)):
            state = status.get("state") or {}
            reason = (state.get("waiting") or state.get("terminated") or {}).get("reason")
            code = (state.get("terminated") or {}).get("exitCode")
            text = reason or (f"ExitCode:{code}" if code is not None else text)
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(text)


def pod_restarts(pod: Object) -> str:
    statuses = [*_pod_statuses(pod), *(_at(pod, "status.initContainerStatuses") or [])]
    total = sum(status.get("restartCount", 0) for status in statuses)
    last = max((_at(s, "lastState.terminated.finishedAt") or "" for s in statuses), default="")
    return f"{total} ({age(last)} ago)" if total and last else str(total)


def service_ports(service: Object) -> str:
    texts = []
    for port in _at(service, "spec.ports") or []:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or "<none>"


def _external(service: Object) -> str:
    kind = _at(service, "spec.type")
    if kind == "ExternalName":
        return str(_at(service, "spec.externalName"))
    found = [i.get("ip") or i.get("hostname") for i in _at(service, "status.loadBalancer.ingress") or []]
    found += _at(service, "spec.externalIPs") or []
    return ",".join(found) or ("<pending>" if kind == "LoadBalancer" else "<none>")


def node_status(node: Object) -> str:
    ready = next((c for c in _at(node, "status.conditions") or [] if c["type"] == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"
    return text + (",SchedulingDisabled" if _at(node, "spec.unschedulable") else "")


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    return (
        ",".join(
            sorted(k.removeprefix(prefix) for k in node["metadata"].get("labels", {}) if k.startswith(prefix))
        )
        or "<none>"
    )


def _internal_ip(node: Object) -> str:
    return next(
        (a["address"] for a in _at(node, "status.addresses") or [] if a["type"] == "InternalIP"), "<none>"
    )


def _event_seen(event: Object) -> str:
    return age(
        event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    )


def _event_object(event: Object) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def endpoints_text(endpoints: Object) -> str:
    texts = []
    for subset in endpoints.get("subsets") or []:
        for port in subset.get("ports") or [{}]:
            texts += [f"{a['ip']}:{port.get('port')}" for a in subset.get("addresses") or []]
    shown = ",".join(texts[:3])
    return (f"{shown} + {len(texts) - 3} more..." if len(texts) > 3 else shown) or "<none>"


def _slice_ports(slice_: Object) -> str:
    return ",".join(str(port.get("port")) for port in slice_.get("ports") or []) or "<unset>"


def _slice_addresses(slice_: Object) -> str:
    found = [address for e in slice_.get("endpoints") or [] for address in e["addresses"]]
    return (",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")) or "<unset>"


def _job_status(job: Object) -> str:
    conditions = {c["type"] for c in _at(job, "status.conditions") or [] if c["status"] == "True"}
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((kind for kind in ("Complete", "Failed", "Suspended") if kind in conditions), "Running")


def _job_duration(job: Object) -> str:
    start, end = _at(job, "status.startTime"), _at(job, "status.completionTime")
    if not start:
        return ""
    moments = [datetime.datetime.fromisoformat(t.replace("Z", "+00:00")) for t in (start, end) if t]
    last = moments[1] if end else datetime.datetime.now(datetime.UTC)
    return duration((last - moments[0]).total_seconds())


def _subjects(kind: str) -> Callable[[Object], Cell]:
    def read(binding: Object) -> Cell:
        chosen = [s for s in binding.get("subjects") or [] if s.get("kind") == kind]
        prefix = "namespace" if kind == "ServiceAccount" else ""
        return ", ".join((s.get(prefix, "") + "/" if prefix else "") + s.get("name", "") for s in chosen)

    return read


def _role(binding: Object) -> str:
    reference = binding.get("roleRef") or {}
    return f"{reference.get('kind')}/{reference.get('name')}"


def number(name: str, path: str) -> Column:
    return Column(name, field(path, 0), kind="integer")


_REPLICAS = (
    Column("Ready", lambda o: f"{_at(o, 'status.readyReplicas', 0)}/{_at(o, 'spec.replicas', 0)}"),
    number("Up-to-date", "status.updatedReplicas"),
    number("Available", "status.availableReplicas"),
)
_WEBHOOKS = (NAME, Column("Webhooks", count("webhooks"), kind="integer"), AGE)
_BINDING = (
    NAME,
    Column("Role", _role),
    AGE,
    Column("Users", _subjects("User"), wide=True),
    Column("Groups", _subjects("Group"), wide=True),
    Column("ServiceAccounts", _subjects("ServiceAccount"), wide=True),
)
_EVENT = (
    Column("Last Seen", _event_seen),
    Column("Type", field("type")),
    Column("Reason", field("reason")),
    Column("Object", _event_object),
    Column("Message", lambda o: str(o.get("message") or o.get("note") or "").strip()),
    Column("Name", lambda o: str(o["metadata"]["name"]), wide=True, format="name"),
)
_CREATED = Column("Created At", lambda o: str(o["metadata"].get("creationTimestamp")), kind="date")

BY_RESOURCE: dict[str, tuple[Column, ...]] = {
    "pods": (
        NAME,
        Column("Ready", pod_ready),
        Column("Status", pod_status),
        Column("Restarts", pod_restarts),
        AGE,
        Column("IP", field("status.podIP"), wide=True),
        Column("Node", field("spec.nodeName"), wide=True),
        Column("Nominated Node", field("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda o: "<none>", wide=True),
    ),
    "services": (
        NAME,
        Column("Type", field("spec.type")),
        Column("Cluster-IP", field("spec.clusterIP")),
        Column("External-IP", _external),
        Column("Port(s)", service_ports),
        AGE,
        Column("Selector", _selector("spec.selector"), wide=True),
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
        Column("Status", _job_status),
        Column("Completions", lambda o: f"{_at(o, 'status.succeeded', 0)}/{_at(o, 'spec.completions', 1)}"),
        Column("Duration", _job_duration),
        AGE,
        *WORKLOAD,
    ),
    "namespaces": (NAME, Column("Status", field("status.phase")), AGE),
    "nodes": (
        NAME,
        Column("Status", node_status),
        Column("Roles", _node_roles),
        AGE,
        Column("Version", field("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", _internal_ip, wide=True),
        Column("OS-Image", field("status.nodeInfo.osImage", "<unknown>"), wide=True),
        Column("Container-Runtime", field("status.nodeInfo.containerRuntimeVersion", "<unknown>"), wide=True),
    ),
    "configmaps": (
        NAME,
        Column("Data", lambda o: len(o.get("data") or {}) + len(o.get("binaryData") or {})),
        AGE,
    ),
    "secrets": (NAME, Column("Type", field("type")), Column("Data", count("data"), kind="integer"), AGE),
    "serviceaccounts": (NAME, Column("Secrets", count("secrets"), kind="integer"), AGE),
    "endpoints": (NAME, Column("Endpoints", endpoints_text), AGE),
    "endpointslices.discovery.k8s.io": (
        NAME,
        Column("AddressType", field("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_addresses),
        AGE,
    ),
    "events": _EVENT,
    "events.events.k8s.io": _EVENT,
    "leases.coordination.k8s.io": (NAME, Column("Holder", field("spec.holderIdentity", "")), AGE),
    "poddisruptionbudgets.policy": (
        NAME,
        Column("Min Available", field("spec.minAvailable", "N/A")),
        Column("Max Unavailable", field("spec.maxUnavailable", "N/A")),
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
