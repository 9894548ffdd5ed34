"""Which backend a word means, and why: `embedded` (default), `kind`, or `context:NAME`."""

from __future__ import annotations

from collections.abc import Sequence

from cluster import existing, kind, steps
from cluster.base import Cluster, ClusterError
from cluster.embedded.client import EmbeddedCluster
from cluster.settings import Settings, settings

BACKENDS = ("embedded", "kind")


def start(
    backend: str,
    name: str,
    image: str,
    preload: Sequence[str],
    owner: int,
    chosen: Settings | None = None,
    progress: steps.Progress = steps.silent,
) -> Cluster:
    """Start a cluster of a backend, owned by process `owner`. Raises ClusterError.

    `image` is the lab's image, the only one whose pods the embedded cluster runs, and `preload` names the
    modules that those pods are forked with. `chosen` is for clusters of real containers (None: what the environment
    says).
    """
    check(backend)
    if backend == "embedded":
        return EmbeddedCluster.start(name, preload=tuple(preload), image=image, owner=owner)
    chosen = chosen or settings()
    version = image.rpartition(":")[2]
    if backend == "kind":
        return kind.start(name, version, chosen, owner, progress)
    context = backend.removeprefix(existing.PREFIX)
    return existing.start(context, name, version, chosen, owner, progress)


def find(name: str) -> Cluster:
    """The running cluster of that name. Raises ClusterError when there is none."""
    for look in (EmbeddedCluster.find, kind.find, existing.find):
        found: Cluster | None = look(name)
        if found is not None:
            return found
    raise ClusterError(f'no cluster "{name}" runs here; start one with `mesh up`')


def check(backend: str) -> None:
    """Raises ClusterError, in one sentence, for a word that is no backend."""
    if backend in BACKENDS or (backend.startswith(existing.PREFIX) and backend != existing.PREFIX):
        return
    raise ClusterError(f'backend "{backend}" is none of embedded, kind, context:NAME')
