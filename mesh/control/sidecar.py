"""The sidecar as a container of the pod: who it is, when the app may start, when it may end.

Used by `inject`. Where Kubernetes has sidecar containers (from 1.29 on: an init container with `restartPolicy: Always`)
the kubelet itself starts the sidecar before the app and ends it after. Else it is the pod's first container:
`postStart` holds the app back until it is ready, and `preStop` keeps it alive while the app says its last words.

Source: Kubernetes, "Sidecar Containers"; istio.io, Reference, ProxyConfig, `holdApplicationUntilProxyStarts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mesh.control.ingest import SIDECAR, workload_name
from mesh.control.world import Interception
from mesh.manifests.environment import proxy_environment

Object = dict[str, Any]

HEALTH_PORT = 15021
PROXY_CONFIG = "proxy.istio.io/config"
HOLD = "holdApplicationUntilProxyStarts"
LAST_WORDS = 5
"""Seconds for which a sidecar that Kubernetes ends together with the app goes on serving it."""


class SidecarError(ValueError):
    """An annotation about the sidecar that says something impossible; the message names it."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What one pod's sidecar is given."""

    image: str
    image_pull_policy: str
    log_level: str
    trust_domain: str
    certificate_lifetime: str
    interception: Interception
    guards_inbound: bool = True
    """False: without redirection and inside address the app has the pod's ports for itself."""
    native: bool = False
    """Kubernetes has sidecar containers."""
    hold: bool = False
    """Without those: let the app start only when the sidecar is ready."""


def holds(annotations: Mapping[str, str], default: bool) -> bool:
    """Whether the app is to wait, by the pod's own ProxyConfig. Raises SidecarError."""
    try:
        said = yaml.safe_load(annotations.get(PROXY_CONFIG, "")) or {}
    except yaml.YAMLError as error:
        raise SidecarError(f"annotation {PROXY_CONFIG}: not YAML: {error}") from error
    if not isinstance(said, dict) or not isinstance(said.get(HOLD, default), bool):
        raise SidecarError(f"annotation {PROXY_CONFIG}: {HOLD} must be true or false")
    return bool(said.get(HOLD, default))


def container(
    of: Sidecar, metadata: Object, namespace: str, app_containers: list[str], probers: Object
) -> Object:
    """The container for a pod of that metadata."""
    annotations = metadata["annotations"]
    log_level = annotations.get("sidecar.istio.io/logLevel", of.log_level)
    made: Object = {
        "name": SIDECAR,
        "image": annotations.get("sidecar.istio.io/proxyImage", of.image),
        "imagePullPolicy": of.image_pull_policy,
        "command": ["python", "-m", "mesh.proxy"],
        "args": ["sidecar", "--log-level", log_level],
        "env": _environment(of, metadata, namespace, app_containers, probers),
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "readinessProbe": _ready(failures=30),
        "resources": _resources(annotations),
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
    return made | (_started_first() if of.native else _among_equals(of.hold))


def _ready(failures: int) -> Object:
    return {
        "httpGet": {"path": "/healthz/ready", "port": HEALTH_PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _started_first() -> Object:
    return {"restartPolicy": "Always", "startupProbe": _ready(failures=600)}


def _among_equals(hold: bool) -> Object:
    if not hold:
        return {}
    wait = ["python", "-m", "mesh.proxy.wait"]
    return {
        "lifecycle": {
            "postStart": {"exec": {"command": [*wait, "until-ready"]}},
            "preStop": {"exec": {"command": [*wait, "seconds", str(LAST_WORDS)]}},
        }
    }


def _resources(annotations: Mapping[str, str]) -> Object:
    """Requests, and limits where asked for, by Istio's annotations."""
    requests = {
        "cpu": annotations.get("sidecar.istio.io/proxyCPU", "20m"),
        "memory": annotations.get("sidecar.istio.io/proxyMemory", "48Mi"),
    }
    asked = {"cpu": "sidecar.istio.io/proxyCPULimit", "memory": "sidecar.istio.io/proxyMemoryLimit"}
    limits = {name: annotations[key] for name, key in asked.items() if key in annotations}
    return {"requests": requests, **({"limits": limits} if limits else {})}


def _environment(
    of: Sidecar, metadata: Object, namespace: str, app_containers: list[str], probers: Object
) -> list[Object]:
    workload, kind = workload_name(metadata)
    env = proxy_environment(
        labels=metadata["labels"],
        workload=workload,
        workload_kind=f"{kind.lower()}s",
        namespace=namespace,
        trust_domain=of.trust_domain,
        interception=of.interception,
        certificate_lifetime=of.certificate_lifetime,
    )
    env.append({"name": "ISTIO_META_APP_CONTAINERS", "value": ",".join(app_containers)})
    if not of.guards_inbound:
        env.append({"name": "ISTIO_META_INBOUND_CAPTURE", "value": "NONE"})
    if probers:
        env.append({"name": "ISTIO_KUBE_APP_PROBERS", "value": json.dumps(probers, separators=(",", ":"))})
    return env
