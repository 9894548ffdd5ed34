"""Gives a pod its sidecar: a pure function from the pod to a JSON patch.

What Istio's injector does (istio.io, Setup, Installing the Sidecar), with the same labels, annotations and
names, so that what is learnt here holds there. Nothing of the app's own specification is lost: containers
are added to, probes are pointed at the sidecar, which asks the app in the app's own words.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mesh.control import capture, sidecar
from mesh.control.ingest import SIDECAR, STATUS_ANNOTATION, TLS_MODE_LABEL, ConfigError, workload_name
from mesh.control.world import Interception, MeshConfig

Object = dict[str, Any]

INJECT = "sidecar.istio.io/inject"
NEVER = frozenset({"mesh-system", "kube-system", "kube-public", "kube-node-lease"})
STATUS_PORT = 15020
APP_AT_POD = "127.0.0.1"
"""`app_address` where app and sidecar share the pod's address. Without kernel rules nothing can then stand before the
app: it keeps the pod's ports, and what comes in meets no policy and no mutual TLS."""

_PROBES = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}


class InjectError(ValueError):
    """A pod that asks for a sidecar which cannot be given; the message names the annotation or setting."""


@dataclass(frozen=True, slots=True)
class Injection:
    """What new sidecars are given (ConfigMap `mesh`, key `injection`)."""

    image: str = "service-mesh-lab:dev"
    image_pull_policy: str = "IfNotPresent"
    log_level: str = "info"
    certificate_lifetime: str = "24h"
    app_address: str = "$(LAB_APP_ADDRESS)"
    """Where apps find their sidecar's outbound port when they are sent there by `http_proxy`."""
    native_sidecars: bool = False
    """Kubernetes has sidecar containers (1.29 and newer)."""
    hold_application: bool = False
    """Where it has none: the app starts only when its sidecar is ready."""


def injection(text: str) -> Injection:
    """Read the ConfigMap's key. Raises ConfigError."""
    try:
        said = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"injection: not YAML: {error}") from error
    if not isinstance(said, dict):
        raise ConfigError("injection: must be a mapping")
    default = Injection()
    return Injection(
        image=str(said.get("image", default.image)),
        image_pull_policy=str(said.get("imagePullPolicy", default.image_pull_policy)),
        log_level=str(said.get("logLevel", default.log_level)),
        certificate_lifetime=str(said.get("certificateLifetime", default.certificate_lifetime)),
        app_address=str(said.get("appAddress", default.app_address)),
        native_sidecars=bool(said.get("nativeSidecars", default.native_sidecars)),
        hold_application=bool(said.get("holdApplicationUntilProxyStarts", default.hold_application)),
    )


def wants_sidecar(pod: Object, namespace: str, namespace_labels: Mapping[str, str]) -> bool:
    """Whether this pod is to have a sidecar: the pod's own label decides, else its namespace's."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    if namespace in NEVER or spec.get("hostNetwork") or STATUS_ANNOTATION in annotations:
        return False
    asked = (metadata.get("labels") or {}).get(INJECT) or annotations.get(INJECT)
    if asked in ("true", "false"):
        return bool(asked == "true")
    return namespace_labels.get("istio-injection") == "enabled"


def inject(pod: Object, namespace: str, mesh: MeshConfig, settings: Injection) -> list[Object]:
    """The JSON patch (RFC 6902) that adds the sidecar. Raises InjectError."""
    new = copy.deepcopy(pod)
    metadata, spec = new.setdefault("metadata", {}), new["spec"]
    containers = spec["containers"]
    annotations = metadata.get("annotations") or {}
    try:
        way = _capture(annotations, spec, mesh, settings)
        hold = sidecar.holds(annotations, settings.hold_application)
    except (capture.CaptureError, sidecar.SidecarError) as error:
        raise InjectError(str(error)) from error
    guarded = way == "REDIRECT" or settings.app_address != APP_AT_POD
    probers = _rewrite_probes(containers) if guarded and not _keeps_probes(metadata) else {}
    _label(metadata, containers, _names(way, settings.native_sidecars), guarded)
    its = sidecar.Sidecar(
        image=settings.image,
        image_pull_policy=settings.image_pull_policy,
        log_level=settings.log_level,
        trust_domain=mesh.trust_domain,
        certificate_lifetime=settings.certificate_lifetime,
        interception=way,
        guards_inbound=guarded,
        native=settings.native_sidecars,
        hold=hold,
    )
    made = sidecar.container(its, metadata, namespace, [each["name"] for each in containers], probers)
    _place(spec, made, first=way == "NONE", native=settings.native_sidecars)
    spec["volumes"] = [*(spec.get("volumes") or []), *_volumes()]
    return _patch(pod, new)


def _names(way: Interception, native: bool) -> Object:
    """Which containers are the mesh's, as Istio's status annotation lists them."""
    init = [capture.INIT_CONTAINER] if way == "REDIRECT" else []
    return {
        "initContainers": [*init, SIDECAR] if native else init,
        "containers": [] if native else [SIDECAR],
    }


def _place(spec: Object, made: Object, *, first: bool, native: bool) -> None:
    """The sidecar starts before everything of the app's, but after the kernel rules are set."""
    if not native:
        spec["containers"] = [made, *spec["containers"]]
        return
    before = [] if first else spec["initContainers"][:1]
    spec["initContainers"] = [*before, made, *(spec.get("initContainers") or [])[len(before) :]]


def _patch(old: Object, new: Object) -> list[Object]:
    """`add` of each part that changed: on a member that exists, it replaces."""
    return [
        {"op": "add", "path": f"/{part}/{key}", "value": value}
        for part in ("metadata", "spec")
        for key, value in new[part].items()
        if (old.get(part) or {}).get(key) != value
    ]


def _capture(
    annotations: Mapping[str, str], spec: Object, mesh: MeshConfig, settings: Injection
) -> Interception:
    """Add what sends the app's traffic to the sidecar; the way it is done. Raises CaptureError."""
    capture.traffic(annotations)
    way = capture.mode(annotations, mesh.interception)
    if way == "REDIRECT":
        init = capture.by_kernel(annotations, settings.image, settings.image_pull_policy)
        spec["initContainers"] = [init, *(spec.get("initContainers") or [])]
    else:
        for container in spec["containers"]:
            capture.by_environment(container, settings.app_address)
    return way


def _keeps_probes(metadata: Object) -> bool:
    return (metadata.get("annotations") or {}).get("sidecar.istio.io/rewriteAppHTTPProbers") == "false"


def _rewrite_probes(containers: list[Object]) -> Object:
    """Point each HTTP and TCP probe at the sidecar and say what the sidecar is to do for it.

    The kubelet has no certificate, so where mutual TLS is demanded only the sidecar can ask the app. As
    Istio's "health checking of Istio services"; `exec` probes run inside the container and stay.
    """
    probers: Object = {}
    for container in containers:
        for kind, suffix in _PROBES.items():
            probe = container.get(kind)
            if not probe or not (probe.get("httpGet") or probe.get("tcpSocket")):
                continue
            path = f"/app-health/{container['name']}/{suffix}"
            probers[path] = _prober(probe, container)
            probe.pop("tcpSocket", None)
            probe["httpGet"] = {"path": path, "port": STATUS_PORT, "scheme": "HTTP"}
    return probers


def _prober(probe: Object, container: Object) -> Object:
    """The original probe, with its port as a number, since names mean nothing outside the pod's
    specification.
    """
    how = "httpGet" if probe.get("httpGet") else "tcpSocket"
    action = dict(probe[how])
    if isinstance(action["port"], str):
        named = {port.get("name"): port["containerPort"] for port in container.get("ports") or ()}
        if action["port"] not in named:
            raise InjectError(
                f"container {container['name']}: probe of port {action['port']!r}, which it does not have"
            )
        action["port"] = named[action["port"]]
    return {how: action, "timeoutSeconds": probe.get("timeoutSeconds", 1)}


def _label(metadata: Object, containers: list[Object], ours: Object, guarded: bool) -> None:
    labels = metadata["labels"] = dict(metadata.get("labels") or {})
    workload, _ = workload_name(metadata)
    name = labels.get("app.kubernetes.io/name") or labels.get("app") or workload
    revision = labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    labels.setdefault(TLS_MODE_LABEL, "istio" if guarded else "disabled")
    labels.setdefault("service.istio.io/canonical-name", name[:63].rstrip("-._"))  # the most a label may have
    labels.setdefault("service.istio.io/canonical-revision", revision)
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    annotations[STATUS_ANNOTATION] = json.dumps(
        {
            **ours,
            "volumes": [volume["name"] for volume in _volumes()],
            "imagePullSecrets": None,
            "revision": "default",
        },
        separators=(",", ":"),
    )
    annotations.setdefault("istio.io/rev", "default")
    annotations.setdefault("kubectl.kubernetes.io/default-container", containers[0]["name"])
    annotations.setdefault("prometheus.io/scrape", "true")
    annotations.setdefault("prometheus.io/port", str(STATUS_PORT))
    annotations.setdefault("prometheus.io/path", "/stats/prometheus")


def _volumes() -> list[Object]:
    token = {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}
    return [
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]
