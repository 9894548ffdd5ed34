"""The texts in `kubectl get`: how a pod's status, a Service's ports or an age are written.

As Kubernetes writes them (`pkg/printers/internalversion/printers.go`), so that scripts and habits fit.
"""

import datetime
from collections.abc import Callable
from typing import Any

from cluster.embedded.status import Object

Cell = str | int | float | bool | None


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


def at(object: Any, path: str, default: Cell = None) -> Any:
    for step in path.split("."):
        object = object.get(step) if isinstance(object, dict) else None
    return default if object is None else object


def field(path: str, default: Cell = "<none>") -> Callable[[Object], Cell]:
    return lambda object: at(object, path, default)


def count(path: str) -> Callable[[Object], Cell]:
    return lambda object: len(at(object, path) or [])


def selector(path: str) -> Callable[[Object], Cell]:
    def read(object: Object) -> Cell:
        chosen = at(object, path) or {}
        labels = (
            chosen.get("matchLabels", {})
            if "matchLabels" in chosen or "matchExpressions" in chosen
            else chosen
        )
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"

    return read


def containers(part: str) -> Callable[[Object], Cell]:
    return lambda o: ",".join(c.get(part, "") for c in at(o, "spec.template.spec.containers") or [])


def _pod_statuses(pod: Object) -> list[Object]:
    return at(pod, "status.containerStatuses") or []


def _is_sidecar(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def pod_ready(pod: Object) -> str:
    inits = [c for c in at(pod, "spec.initContainers") or [] if _is_sidecar(c)]
    names = {c["name"] for c in inits}
    started = [s for s in at(pod, "status.initContainerStatuses") or [] if s["name"] in names]
    ready = sum(bool(status.get("ready")) for status in [*_pod_statuses(pod), *started])
    return f"{ready}/{len(at(pod, 'spec.containers') or []) + len(inits)}"


def _init_reason(pod: Object) -> str | None:
    """What holds the pod up, while its init containers run."""
    specs = {c["name"]: c for c in at(pod, "spec.initContainers") or []}
    for index, status in enumerate(at(pod, "status.initContainerStatuses") or []):
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
    text = at(pod, "status.reason") or at(pod, "status.phase") or "Unknown"
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
    statuses = [*_pod_statuses(pod), *(at(pod, "status.initContainerStatuses") or [])]
    total = sum(status.get("restartCount", 0) for status in statuses)
    last = max((at(s, "lastState.terminated.finishedAt") or "" for s in statuses), default="")
    return f"{total} ({age(last)} ago)" if total and last else str(total)


def service_ports(service: Object) -> str:
    texts = []
    for port in at(service, "spec.ports") or []:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        texts.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(texts) or "<none>"


def external(service: Object) -> str:
    kind = at(service, "spec.type")
    if kind == "ExternalName":
        return str(at(service, "spec.externalName"))
    found = [i.get("ip") or i.get("hostname") for i in at(service, "status.loadBalancer.ingress") or []]
    found += at(service, "spec.externalIPs") or []
    return ",".join(found) or ("<pending>" if kind == "LoadBalancer" else "<none>")


def node_status(node: Object) -> str:
    ready = next((c for c in at(node, "status.conditions") or [] if c["type"] == "Ready"), None)
    text = "Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"
    return text + (",SchedulingDisabled" if at(node, "spec.unschedulable") else "")


def node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    return (
        ",".join(
            sorted(k.removeprefix(prefix) for k in node["metadata"].get("labels", {}) if k.startswith(prefix))
        )
        or "<none>"
    )


def internal_ip(node: Object) -> str:
    return next(
        (a["address"] for a in at(node, "status.addresses") or [] if a["type"] == "InternalIP"), "<none>"
    )


def event_seen(event: Object) -> str:
    return age(
        event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    )


def event_object(event: Object) -> str:
    about = event.get("involvedObject") or event.get("regarding") or {}
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def endpoints_text(endpoints: Object) -> str:
    texts = []
    for subset in endpoints.get("subsets") or []:
        for port in subset.get("ports") or [{}]:
            texts += [f"{a['ip']}:{port.get('port')}" for a in subset.get("addresses") or []]
    shown = ",".join(texts[:3])
    return (f"{shown} + {len(texts) - 3} more..." if len(texts) > 3 else shown) or "<none>"


def slice_ports(slice_: Object) -> str:
    return ",".join(str(port.get("port")) for port in slice_.get("ports") or []) or "<unset>"


def slice_addresses(slice_: Object) -> str:
    found = [address for e in slice_.get("endpoints") or [] for address in e["addresses"]]
    return (",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")) or "<unset>"


def job_status(job: Object) -> str:
    conditions = {c["type"] for c in at(job, "status.conditions") or [] if c["status"] == "True"}
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((kind for kind in ("Complete", "Failed", "Suspended") if kind in conditions), "Running")


def job_duration(job: Object) -> str:
    start, end = at(job, "status.startTime"), at(job, "status.completionTime")
    if not start:
        return ""
    moments = [datetime.datetime.fromisoformat(t.replace("Z", "+00:00")) for t in (start, end) if t]
    last = moments[1] if end else datetime.datetime.now(datetime.UTC)
    return duration((last - moments[0]).total_seconds())


def subjects(kind: str) -> Callable[[Object], Cell]:
    def read(binding: Object) -> Cell:
        chosen = [s for s in binding.get("subjects") or [] if s.get("kind") == kind]
        prefix = "namespace" if kind == "ServiceAccount" else ""
        return ", ".join((s.get(prefix, "") + "/" if prefix else "") + s.get("name", "") for s in chosen)

    return read


def role(binding: Object) -> str:
    reference = binding.get("roleRef") or {}
    return f"{reference.get('kind')}/{reference.get('name')}"
