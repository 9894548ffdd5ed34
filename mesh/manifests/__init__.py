"""The Kubernetes manifests that install the mesh and the shop: pure functions from options to lists of
objects.

The YAML in `templates/` is what one would write by hand, with `${names}` for the few things that vary;
every backend gets the same objects through the same API. `mesh up` applies, in this order: `crds`, `mesh`,
`shop`, `visitors`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from string import Template
from typing import Any, Literal

import yaml

from mesh.api.crds import crds
from mesh.manifests.environment import proxy_environment

Object = dict[str, Any]

SYSTEM_NAMESPACE = "mesh-system"
SHOP_NAMESPACE = "default"
VISITORS_NAMESPACE = "visitors"

SHOP = (
    ("details", "v1"),
    ("ratings", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("productpage", "v1"),
)
"""The shop's Deployments as (service, version), Bookinfo's."""

PRELOAD = (
    "mesh.control.app",
    "mesh.proxy.warm",
    "mesh.telemetry.app",
    "mesh.shop.__main__",
    "mesh.shop.visitors",
)
"""Modules worth importing before pods are forked: then they are imported once and their memory is shared."""


def _installed_version() -> str:
    try:
        return version("service-mesh-lab")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "dev"


IMAGE = f"service-mesh-lab:{_installed_version()}"
"""The one lab image: every part of the mesh and of the shop, told apart by the command."""

INSIDE_ADDRESS = "$(LAB_APP_ADDRESS)"
"""The embedded cluster gives apps behind a sidecar an address of their own."""

_DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+s)?")


@dataclass(frozen=True, slots=True)
class Options:
    """What may vary between installations. Raises ValueError with one sentence for what cannot be
    installed.
    """

    image: str = IMAGE
    interception: Literal["NONE", "REDIRECT"] = "NONE"
    """How an app's traffic gets into its sidecar: by the proxy environment variables, or by iptables."""
    dataplane: str = "python"
    trust_domain: str = "cluster.local"
    cert_lifetime: str = "24h"
    """How long a workload's certificate lives, as a Go duration (`24h`, `10m`, `5s`)."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    replicas: int = 1
    """Replicas of the control plane; with more than one it gets a PodDisruptionBudget."""
    app_address: str = INSIDE_ADDRESS
    """Where apps find their sidecar when they are sent to it: `127.0.0.1` where both share the pod's address."""
    native_sidecars: bool = False
    """Kubernetes has sidecar containers (1.29 and newer)."""
    hold_application: bool = False
    """Without those: apps start only when their sidecar is ready."""
    gateway_node_port: int = 0
    """The gateway's port on every node; 0: Kubernetes chooses."""

    def __post_init__(self) -> None:
        if self.interception not in ("NONE", "REDIRECT"):
            raise ValueError(f"interception {self.interception!r} is neither NONE nor REDIRECT")
        if self.dataplane != "python":
            raise ValueError(
                f"dataplane {self.dataplane}: this version of the mesh installs python sidecars only"
            )
        if not self.cert_lifetime or not _DURATION.fullmatch(self.cert_lifetime):
            raise ValueError(f"cert_lifetime {self.cert_lifetime!r} is not a duration such as 24h, 10m or 5s")
        if self.replicas < 1:
            raise ValueError(f"replicas is {self.replicas}; the mesh needs at least one control plane")
        if self.gateway_node_port and not 30000 <= self.gateway_node_port <= 32767:
            raise ValueError(f"gateway_node_port is {self.gateway_node_port}; node ports are 30000 to 32767")


def mesh(options: Options | None = None) -> list[Object]:
    """Namespace mesh-system and all that runs in it: control plane, webhooks, telemetry, gateway."""
    options = options or Options()
    names = {
        "image": options.image,
        "interception": options.interception,
        "dataplane": options.dataplane,
        "trust_domain": options.trust_domain,
        "cert_lifetime": options.cert_lifetime,
        "log_level": options.log_level,
        "replicas": str(options.replicas),
        "gateway_env": json.dumps(_gateway_environment(options)),
        "app_address": json.dumps(options.app_address),
        "native_sidecars": json.dumps(options.native_sidecars),
        "hold_application": json.dumps(options.hold_application),
    }
    parts = ("system", "control", "webhooks", "telemetry", "gateway")
    objects = [obj for part in parts for obj in render(part, names)]
    if options.replicas > 1:
        objects += render("disruption", names)
    for obj in objects:
        if options.gateway_node_port and (obj["kind"], obj["metadata"]["name"]) == (
            "Service",
            "mesh-gateway",
        ):
            obj["spec"]["ports"][0]["nodePort"] = options.gateway_node_port
    return objects


def shop(options: Options | None = None) -> list[Object]:
    """The demo shop in namespace `default`, which it labels for injection."""
    options = options or Options()
    labels = {"istio-injection": "enabled", "kubernetes.io/metadata.name": SHOP_NAMESPACE}
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP_NAMESPACE, "labels": labels}}
    ]
    for app in dict.fromkeys(app for app, _ in SHOP):
        objects += render("shop-service", {"app": app})
    for app, app_version in SHOP:
        objects += render("shop-deployment", {"app": app, "version": app_version, "image": options.image})
    return objects


def shop_gateway() -> list[Object]:
    """The shop's front door: an Istio Gateway and the VirtualService behind it."""
    return render("shop-gateway", {})


def visitors(options: Options | None = None) -> list[Object]:
    """The people outside, in namespace `visitors`."""
    return render("visitors", {"image": (options or Options()).image})


def render(template: str, names: dict[str, str]) -> list[Object]:
    """The objects of one template. Raises KeyError for a name that is not given."""
    return [obj for obj in yaml.safe_load_all(Template(_text(template)).substitute(names)) if obj]


@cache
def _text(template: str) -> str:
    return (resources.files(__name__) / "templates" / f"{template}.yaml").read_text("utf-8")


def _gateway_environment(options: Options) -> list[Object]:
    labels = {
        "app": "mesh-gateway",
        "istio": "ingressgateway",
        "service.istio.io/canonical-name": "mesh-gateway",
        "service.istio.io/canonical-revision": "latest",
    }
    return proxy_environment(
        labels=labels,
        workload="mesh-gateway",
        namespace=SYSTEM_NAMESPACE,
        trust_domain=options.trust_domain,
        interception="NONE",
        certificate_lifetime=options.cert_lifetime,
    )


__all__ = [
    "IMAGE",
    "PRELOAD",
    "SHOP",
    "SHOP_NAMESPACE",
    "SYSTEM_NAMESPACE",
    "VISITORS_NAMESPACE",
    "Object",
    "Options",
    "crds",
    "mesh",
    "render",
    "shop",
    "shop_gateway",
    "visitors",
]
