"""Gives a pod its sidecar: a pure function from the pod to a JSON patch.

What Istio's injector does (istio.io, Setup, Installing the Sidecar), with the same labels, annotations and
names, so that what is learnt here holds there. Nothing of the app's own specification is lost: containers
are added to, probes are pointed at the sidecar, which asks the app in the app's own words.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from mesh.control import capture
from mesh.control.ingest import SIDECAR, STATUS_ANNOTATION, TLS_MODE_LABEL, ConfigError, workload_name
from mesh.control.world import Interception, MeshConfig
from mesh.manifests.environment import proxy_environment

Object = dict[str, Any]

INJECT = "sidecar.istio.io/inject"
NEVER = frozenset({"mesh-system", "kube-system", "kube-public", "kube-node-lease"})
STATUS_PORT = 15020
HEALTH_PORT = 15021

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
    probers = {} if _keeps_probes(metadata) else _rewrite_probes(containers)
    try:
        way = _capture(metadata.get("annotations") or {}, spec, mesh, settings)
    except capture.CaptureError as error:
        raise InjectError(str(error)) from error
    _label(metadata, containers, [capture.INIT_CONTAINER] if way == "REDIRECT" else [])
    mesh = replace(mesh, interception=way)
    spec["containers"] = [_sidecar(metadata, namespace, containers, probers, mesh, settings), *containers]
    spec["volumes"] = [*(spec.get("volumes") or []), *_volumes()]
    return _patch(pod, new)


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


def _label(metadata: Object, containers: list[Object], init_containers: list[str]) -> None:
    labels = metadata["labels"] = dict(metadata.get("labels") or {})
    workload, _ = workload_name(metadata)
    name = labels.get("app.kubernetes.io/name") or labels.get("app") or workload
    revision = labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    labels.setdefault(TLS_MODE_LABEL, "istio")
    labels.setdefault("service.istio.io/canonical-name", name[:63].rstrip("-._"))  # the most a label may have
    labels.setdefault("service.istio.io/canonical-revision", revision)
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    annotations[STATUS_ANNOTATION] = json.dumps(
        {
            "initContainers": init_containers,
            "containers": [SIDECAR],
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


def _sidecar(
    metadata: Object,
    namespace: str,
    containers: list[Object],
    probers: Object,
    mesh: MeshConfig,
    settings: Injection,
) -> Object:
    workload, kind = workload_name(metadata)
    env = proxy_environment(
        labels=metadata["labels"],
        workload=workload,
        workload_kind=f"{kind.lower()}s",
        namespace=namespace,
        trust_domain=mesh.trust_domain,
        interception=mesh.interception,
        certificate_lifetime=settings.certificate_lifetime,
    )
    names = ",".join(container["name"] for container in containers)
    env.append({"name": "ISTIO_META_APP_CONTAINERS", "value": names})
    if probers:
        env.append({"name": "ISTIO_KUBE_APP_PROBERS", "value": json.dumps(probers, separators=(",", ":"))})
    annotations = metadata["annotations"]
    return {
        "name": SIDECAR,
        "image": annotations.get("sidecar.istio.io/proxyImage", settings.image),
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "mesh.proxy"],
        "args": ["sidecar", "--log-level", annotations.get("sidecar.istio.io/logLevel", settings.log_level)],
        "env": env,
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": HEALTH_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": 30,
        },
        "resources": {
            "requests": {
                "cpu": annotations.get("sidecar.istio.io/proxyCPU", "20m"),
                "memory": annotations.get("sidecar.istio.io/proxyMemory", "48Mi"),
            }
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "runAsNonRoot": True,
            "runAsUser": 1337,
            "runAsGroup": 1337,
        },
        "volumeMounts": [
            {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
            {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
        ],
    }


def _volumes() -> list[Object]:
    token = {"audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token"}
    return [
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]
