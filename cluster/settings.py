"""What may be said about a cluster of real containers: by option of `mesh up`, else by environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from cluster.base import ClusterError, Interception

NODE_IMAGE = "MESH_KIND_NODE_IMAGE"
BASE_IMAGE = "MESH_LAB_BASE_IMAGE"
WORKERS = "MESH_KIND_WORKERS"
INTERCEPTION = "MESH_LAB_INTERCEPTION"
REGISTRY = "MESH_LAB_REGISTRY"
IMAGE = "MESH_LAB_IMAGE"
REPLICAS = "MESH_LAB_REPLICAS"


@dataclass(frozen=True)
class Settings:
    """Empty fields mean the default. The embedded cluster has none of these choices."""

    node_image: str = ""
    """kind: the image of its nodes (default: the one that this version of kind names)."""
    base_image: str = ""
    """What the lab's image is built on: anything with Python 3.11 or newer."""
    workers: int = 0
    """kind: nodes besides the control plane, spread over zones a, b and c; 0: one node for everything."""
    interception: Interception = "REDIRECT"
    """How an app's traffic gets into its sidecar; NONE needs no NET_ADMIN."""
    replicas: int = 1
    """Of the control plane."""
    registry: str = ""
    """An existing cluster: where the lab's image is pushed to, such as `registry.example/team`."""
    image: str = ""
    """An existing cluster: a lab image that its nodes can already get; nothing is built."""


def settings(environ: Mapping[str, str] | None = None, **said: str | int | None) -> Settings:
    """What was said (None: nothing), else the environment. Raises ClusterError naming the wrong one."""
    environ = os.environ if environ is None else environ

    def choose(option: str, variable: str) -> str:
        value = said.get(option)
        return str(value) if value is not None else environ.get(variable, "")

    workers = choose("workers", WORKERS) or "0"
    if not workers.isdigit() or int(workers) > 9:
        raise ClusterError(f"workers ({WORKERS}): {workers!r} is not a number from 0 to 9")
    replicas = choose("replicas", REPLICAS) or "1"
    if replicas not in ("1", "2", "3"):
        raise ClusterError(f"replicas ({REPLICAS}): {replicas!r} is not a number from 1 to 3")
    interception = choose("interception", INTERCEPTION).upper() or "REDIRECT"
    if interception not in ("NONE", "REDIRECT"):
        raise ClusterError(f"interception ({INTERCEPTION}): {interception!r} is neither none nor redirect")
    return Settings(
        node_image=choose("node_image", NODE_IMAGE),
        base_image=choose("base_image", BASE_IMAGE),
        workers=int(workers),
        replicas=int(replicas),
        interception=cast(Interception, interception),
        registry=choose("registry", REGISTRY).rstrip("/"),
        image=choose("image", IMAGE),
    )
