"""Options for clusters of real containers (kind, context:NAME), and the question before somebody's cluster is used."""

from __future__ import annotations

import argparse
import sys

from cluster.settings import Settings, settings
from mesh.cli.output import CliError


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command that starts clusters."""
    add = parser.add_argument_group("clusters of real containers").add_argument
    add("--node-image", help="kind: image of the nodes (also MESH_KIND_NODE_IMAGE)")
    add("--base-image", help="what the lab's image is built on (also MESH_LAB_BASE_IMAGE)")
    add("--workers", help="kind: nodes besides the control plane, in zones (also MESH_KIND_WORKERS)")
    add(
        "--interception",
        choices=("redirect", "none"),
        help="none needs no NET_ADMIN (also MESH_LAB_INTERCEPTION)",
    )
    add("--replicas", help="of the control plane, with a disruption budget (also MESH_LAB_REPLICAS)")
    add("--registry", help="context: registry to push the lab's image to (also MESH_LAB_REGISTRY)")
    add("--image", help="context: a lab image that the nodes can get (also MESH_LAB_IMAGE)")
    add("--yes", action="store_true", help="context: do not ask before installing")


def chosen(args: argparse.Namespace) -> Settings:
    """What the options say, else the environment. Raises ClusterError, and CliError if the user says no."""
    found = settings(
        node_image=args.node_image,
        base_image=args.base_image,
        workers=args.workers,
        interception=args.interception,
        replicas=args.replicas,
        registry=args.registry,
        image=args.image,
    )
    if args.backend.startswith("context:") and not args.yes:
        _confirm(args.backend)
    return found


def _confirm(backend: str) -> None:
    if not sys.stdin.isatty():
        raise CliError(f"{backend} is a cluster that the lab did not make: say --yes if you mean it")
    print(
        f"Install the mesh, its kinds and the shop into {backend}? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CliError("nothing was installed")
