"""The environment a proxy's container is started with: the same for a gateway (manifest) and a sidecar
(injector).

Names are those the Istio agent reads (istio.io, Reference, pilot-agent), so that an Istio proxy image would
understand them too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DISCOVERY_ADDRESS = "mesh-control.mesh-system.svc:15012"
"""Where proxies find xDS and the CA."""


def proxy_environment(
    *,
    labels: Mapping[str, str],
    workload: str,
    namespace: str,
    trust_domain: str,
    interception: str,
    certificate_lifetime: str,
    workload_kind: str = "deployments",
) -> list[dict[str, Any]]:
    """Env entries that tell a proxy who it is and where its control plane is.

    `labels` are the pod's, `workload` names the Deployment (or other owner) behind it,
    `certificate_lifetime` is a Go duration.
    """
    owner = f"kubernetes://apis/apps/v1/namespaces/{namespace}/{workload_kind}/{workload}"
    fixed = {
        "DISCOVERY_ADDRESS": DISCOVERY_ADDRESS,
        "CA_ADDR": DISCOVERY_ADDRESS,
        "TRUST_DOMAIN": trust_domain,
        "SECRET_TTL": certificate_lifetime,
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_MESH_ID": trust_domain,
        "ISTIO_META_INTERCEPTION_MODE": interception,
        "ISTIO_META_WORKLOAD_NAME": workload,
        "ISTIO_META_OWNER": owner,
        "ISTIO_METAJSON_LABELS": json.dumps(dict(sorted(labels.items())), separators=(",", ":")),
    }
    return [
        _from_field("POD_NAME", "metadata.name"),
        _from_field("POD_NAMESPACE", "metadata.namespace"),
        _from_field("INSTANCE_IP", "status.podIP"),
        _from_field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        *({"name": name, "value": value} for name, value in fixed.items()),
    ]


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
