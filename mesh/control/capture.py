"""How an app's traffic gets into its sidecar: what the injector adds to a pod for it.

Used by `inject`. Two ways, Istio's names (`sidecar.istio.io/interceptionMode`): with NONE the app is told by the usual
environment variables to ask the sidecar as its HTTP proxy; with REDIRECT an init container sets kernel rules that send
every TCP connection there, and the app need know nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, cast

from mesh.control.world import Interception

Object = dict[str, Any]

MODE_ANNOTATION = "sidecar.istio.io/interceptionMode"
INIT_CONTAINER = "istio-init"
OUTBOUND_PORT = 15001
OWN_PORTS = (15090, 15021, 15020)
"""Ports at which the sidecar itself answers: the kubelet's probes and Prometheus are not caught."""

_TRAFFIC = "traffic.sidecar.istio.io/"


class CaptureError(ValueError):
    """An annotation that says something impossible about traffic; the message names it."""


def _port(text: str) -> None:
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise CaptureError(f"{text!r} is not a port number")


def _range(text: str) -> None:
    try:
        ip_network(text, strict=False)
    except ValueError as error:
        raise CaptureError(f"{text!r} is not a range of IP addresses") from error


_OPTIONS: Mapping[str, tuple[str, Callable[[str], None]]] = {
    "includeInboundPorts": ("--istio-inbound-ports", _port),
    "excludeInboundPorts": ("--istio-local-exclude-ports", _port),
    "includeOutboundIPRanges": ("--istio-service-cidr", _range),
    "excludeOutboundIPRanges": ("--istio-service-exclude-cidr", _range),
    "includeOutboundPorts": ("--istio-outbound-ports", _port),
    "excludeOutboundPorts": ("--istio-local-outbound-ports-exclude", _port),
}
"""Annotation (after `traffic.sidecar.istio.io/`), option of `mesh.proxy.redirect`, and what each entry must be."""


def mode(annotations: Mapping[str, str], default: Interception) -> Interception:
    """The way for this pod. Raises CaptureError."""
    said = annotations.get(MODE_ANNOTATION, default)
    if said not in ("NONE", "REDIRECT"):
        raise CaptureError(f"annotation {MODE_ANNOTATION}: {said!r} is neither NONE nor REDIRECT")
    return cast(Interception, said)


def traffic(annotations: Mapping[str, str]) -> dict[str, list[str]]:
    """What the annotations say about ports and ranges, by short name. Raises CaptureError."""
    found: dict[str, list[str]] = {}
    for name, (_, check) in _OPTIONS.items():
        text = annotations.get(_TRAFFIC + name)
        if text is None:
            continue
        found[name] = [part.strip() for part in text.split(",") if part.strip()]
        for part in found[name]:
            try:
                if part != "*":
                    check(part)
            except CaptureError as error:
                raise CaptureError(f"annotation {_TRAFFIC}{name}: {error}") from error
    return found


def by_environment(container: Object, app_address: str) -> None:
    """Tell an HTTP client by the usual variables to ask the sidecar; whoever sets them himself keeps his values."""
    env = container.setdefault("env", [])
    have = {one["name"].lower() for one in env}
    proxy = f"http://{app_address}:{OUTBOUND_PORT}"
    direct = ",".join(("localhost", "127.0.0.1", "::1", app_address))
    for name, value in (
        ("http_proxy", proxy),
        ("HTTP_PROXY", proxy),
        ("no_proxy", direct),
        ("NO_PROXY", direct),
    ):
        if name.lower() not in have:
            env.append({"name": name, "value": value})


def by_kernel(annotations: Mapping[str, str], image: str, pull_policy: str) -> Object:
    """The init container that sets the kernel rules: the only one of the pod that may. Raises CaptureError."""
    said = traffic(annotations)
    said["excludeInboundPorts"] = [*map(str, OWN_PORTS), *said.get("excludeInboundPorts", [])]
    args = [part for name in said for part in (_OPTIONS[name][0], ",".join(said[name]))]
    return {
        "name": INIT_CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python", "-m", "mesh.proxy.redirect"],
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }
