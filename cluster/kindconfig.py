"""kind's configuration file: nodes, their zones, and the way in to the gateway. Pure.

Source: kind.sigs.k8s.io, "Configuration" (`kind.x-k8s.io/v1alpha4`).
"""

from __future__ import annotations

from typing import Any

GATEWAY_NODE_PORT = 30080
"""The gateway's port on every node; kind maps a free port of this machine to it."""
REGION = "lab"
ZONES = ("a", "b", "c")


def config(host_port: int, workers: int = 0) -> dict[str, Any]:
    """One node for everything, or a control plane and so many workers, in zones by turns.

    `host_port` on this machine's loopback leads to the gateway.
    """
    mapping = {
        "containerPort": GATEWAY_NODE_PORT,
        "hostPort": host_port,
        "listenAddress": "127.0.0.1",
        "protocol": "TCP",
    }
    first = {"role": "control-plane", "labels": _place(0), "extraPortMappings": [mapping]}
    others = [{"role": "worker", "labels": _place(number)} for number in range(workers)]
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [first, *others]}


def _place(number: int) -> dict[str, str]:
    """Labels of the well-known kind, which the locality of the mesh is taken from."""
    zone = ZONES[number % len(ZONES)]
    return {"topology.kubernetes.io/region": REGION, "topology.kubernetes.io/zone": f"{REGION}-{zone}"}
