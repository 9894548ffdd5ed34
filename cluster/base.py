"""What every backend gives: a Kubernetes API, and a way to be found and ended. Nothing asks for more."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

Interception = Literal["NONE", "REDIRECT"]
"""How traffic reaches a sidecar: NONE = the app asks for it (HTTP_PROXY), REDIRECT = iptables in the pod."""

DEFAULT_NAME = "mesh-lab"


class ClusterError(Exception):
    """What went wrong with a cluster, in one sentence that names the stage, the subject and the fix."""


class Cluster(Protocol):
    """A running cluster. Made by a backend (`cluster.choose`), used through its API only."""

    @property
    def backend(self) -> str:
        """`embedded`, `kind` or `context:NAME`."""

    @property
    def name(self) -> str:
        """The cluster's name; two names are two clusters that never meet."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file whose current context is this cluster."""

    @property
    def interception(self) -> Interception:
        """What the sidecar injector has to arrange for here."""

    @property
    def gateway_node_port(self) -> int:
        """The node port at which the gateway must listen to be reached from here; 0: any will do."""

    def reach(self, node_port: int) -> str:
        """URL at which a node port is reached from here; empty where a node's own address will do."""

    def provide_image(self, image: str) -> str:
        """Make the lab's image runnable by the cluster's nodes; the name it has there. Raises ClusterError."""

    def own(self, pid: int) -> None:
        """Let the cluster end when process `pid` ends (where the backend's clusters have an owner)."""

    def memory(self) -> int | None:
        """Proportional set size in bytes of all the cluster's processes; None where nobody can tell."""

    def stop(self) -> None:
        """End the cluster and everything it started; a second call does nothing."""
