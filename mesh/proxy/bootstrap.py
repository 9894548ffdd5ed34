"""Who am I, whom do I ask? What the proxy must know before its first word to the control plane.

All of it comes from the environment that the injector gives the container (names as Istio's agent has them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envoy.config.core.v3 import base_pb2

from mesh.proxy import peers

SANDBOX = "CONTAINER_SANDBOX_MOUNT_POINT"
TOKEN = "/var/run/secrets/tokens/istio-token"
ROOT_CERTIFICATE = "/var/run/secrets/istio/root-cert.pem"


class BootstrapError(ValueError):
    """The environment lacks something; the message names it."""


class Bootstrap:
    """What the environment says. Immutable."""

    __slots__ = (
        "admin_port",
        "app_address",
        "bind_address",
        "ca_address",
        "ca_name",
        "certificate_seconds",
        "control_address",
        "drain_seconds",
        "metadata",
        "node_cluster",
        "node_id",
        "node_type",
        "probe_source",
        "probed_address",
        "probers",
        "root_certificate",
        "status_port",
        "telemetry_port",
        "token",
        "xds_name",
    )

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.node_type = environ.get("NODE_TYPE", "sidecar")
        if self.node_type not in ("sidecar", "router"):
            raise BootstrapError(f"NODE_TYPE is {self.node_type!r}; it is either sidecar or router")
        name = _needed(environ, "POD_NAME")
        namespace = _needed(environ, "POD_NAMESPACE")
        address = environ.get("INSTANCE_IP") or environ.get("LAB_POD_ADDRESS") or "127.0.0.1"
        self.app_address = environ.get("LAB_APP_ADDRESS", "127.0.0.1")
        self.bind_address = environ.get("LAB_BIND_ADDRESS", "0.0.0.0")
        self.metadata = _metadata(environ, name, namespace, address, self.app_address)
        if self.node_type == "router":
            from mesh.proxy import geography  # what only gateways need

            self.metadata.setdefault("GEO_DATABASE", geography.installed())
        captured = self.metadata["INTERCEPTION_MODE"] == "REDIRECT"
        self.probed_address = address if captured else self.app_address
        self.probe_source = ("127.0.0.6", 0) if captured else None
        """Where the app is asked for its health, and from where: behind iptables as requests are (127.0.0.6 is
        not caught)."""
        self.node_id = f"{self.node_type}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"
        labels = self.metadata["LABELS"]
        self.node_cluster = f"{labels.get('app') or self.metadata['WORKLOAD_NAME']}.{namespace}"
        self.control_address = environ.get("DISCOVERY_ADDRESS", "mesh-control.mesh-system.svc:15012")
        self.xds_name = environ.get("XDS_SERVER_NAME", "mesh-control.mesh-system.svc")
        self.ca_address = environ.get("CA_ADDR") or self.control_address
        self.ca_name = self.xds_name
        root = environ.get(SANDBOX, "")
        self.token = Path(root + environ.get("TOKEN_PATH", TOKEN))
        self.root_certificate = Path(root + environ.get("XDS_ROOT_CA", ROOT_CERTIFICATE))
        self.certificate_seconds = _seconds(environ.get("SECRET_TTL", "0s"))
        self.drain_seconds = _seconds(environ.get("TERMINATION_DRAIN_DURATION_SECONDS", "5") + "s")
        self.admin_port = int(environ.get("PROXY_ADMIN_PORT", "15000"))
        self.telemetry_port = int(environ.get("STATUS_PORT", "15020"))
        self.status_port = int(environ.get("ISTIO_HEALTH_PORT", "15021"))
        self.probers = json.loads(environ.get("ISTIO_KUBE_APP_PROBERS") or "{}")

    def node(self) -> base_pb2.Node:
        """The node message that begins each xDS stream."""
        node = base_pb2.Node(id=self.node_id, cluster=self.node_cluster, user_agent_name="mesh.proxy")
        node.metadata.update(self.metadata)
        return node

    @property
    def workload(self) -> peers.Workload:
        """This workload, for metric labels."""
        return peers.from_metadata(self.metadata)


def _metadata(
    environ: Mapping[str, str], name: str, namespace: str, address: str, app_address: str
) -> dict[str, Any]:
    """Node metadata with Istio's keys. `ISTIO_META_X` of the environment becomes `X`, as in Istio."""
    metadata: dict[str, Any] = {
        "NAME": name,
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": environ.get("SERVICE_ACCOUNT", "default"),
        "WORKLOAD_NAME": environ.get("ISTIO_META_WORKLOAD_NAME") or workload_name(name),
        "CLUSTER_ID": "Kubernetes",
        "MESH_ID": environ.get("TRUST_DOMAIN", "cluster.local"),
        "INSTANCE_IPS": address,
        "INTERCEPTION_MODE": "NONE",
        "APP_ADDRESS": app_address,
        "LABELS": {},
    }
    for key, value in environ.items():
        if key.startswith("ISTIO_META_"):
            metadata[key.removeprefix("ISTIO_META_")] = value
    labels = environ.get("ISTIO_METAJSON_LABELS")
    if labels:
        metadata["LABELS"] = {str(k): str(v) for k, v in json.loads(labels).items()}
    return metadata


def workload_name(pod: str) -> str:
    """The name of the Deployment behind a pod's name, as far as the name tells: without the two suffixes."""
    parts = pod.rsplit("-", 2)
    return parts[0] if len(parts) == 3 and len(parts[2]) == 5 else pod


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise BootstrapError(f"environment variable {name} is not set; the injector sets it")
    return value


def _seconds(text: str) -> float:
    """A Go duration of one unit, such as `24h` or `2s`, in seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise BootstrapError(f"{text!r} is no duration such as 2s, 5m or 24h")
