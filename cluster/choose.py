"""Which backend a word means, and why: `embedded` (default), `kind`, or `context:NAME`."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.base import Cluster, ClusterError
from cluster.embedded.client import EmbeddedCluster

BACKENDS = ("embedded",)


def start(backend: str, name: str, image: str, preload: Sequence[str], owner: int) -> Cluster:
    """Start a cluster of a backend, owned by process `owner`. Raises ClusterError.

    `image` is the lab's image, the only one whose pods the embedded cluster runs, and `preload` names the
    modules that those pods are forked with.
    """
    check(backend)
    return EmbeddedCluster.start(name, preload=tuple(preload), image=image, owner=owner)


def find(name: str) -> Cluster:
    """The running cluster of that name. Raises ClusterError when there is none."""
    found = EmbeddedCluster.find(name)
    if found is None:
        raise ClusterError(f'no cluster "{name}" runs here; start one with `mesh up`')
    return found


def check(backend: str) -> None:
    """Raises ClusterError, in one sentence, for a backend this version cannot start."""
    if backend in BACKENDS:
        return
    if backend == "kind" or backend.startswith("context:"):
        raise ClusterError(f'backend "{backend}": this version starts the embedded cluster only')
    raise ClusterError(f'backend "{backend}" is none of embedded, kind, context:NAME')
