"""Words in, exit status out: the command line's grammar, and the one place where an error becomes a sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.api import ApiError
from cluster.base import DEFAULT_NAME, ClusterError
from cluster.documents import BadDocument
from mesh.cli import analyze, bench, brief, containers, demo, doctor, inject, lab, objects, proxies, up
from mesh.cli.output import CliError
from mesh.manifests import IMAGE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 with one sentence on stderr when not, 2 for bad usage."""
    args = parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except (CliError, ClusterError, ApiError, BadDocument) as error:
        print(f"mesh: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mesh: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `mesh get ... | head`
        sys.stderr.close()
        return 0


def parser() -> argparse.ArgumentParser:
    """The whole grammar. Every command's `run` takes the parsed arguments."""
    top = argparse.ArgumentParser(
        prog="mesh", description="A service mesh to learn with: a cluster, a mesh, a shop and its visitors."
    )
    top.add_argument("--version", action="version", version=IMAGE.partition(":")[2])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name (default: %(default)s)")
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    backend = argparse.ArgumentParser(add_help=False)
    backend.add_argument("--backend", default="embedded", help="embedded (default), kind, or context:NAME")
    containers.add_to(backend)
    backend.add_argument("--dataplane", default="python", help="python (default)")

    up.add_to(commands, running, machine, backend)
    lab.add_to(commands)
    demo.add_to(commands, machine, backend)
    objects.add_to(commands, running, machine)
    brief.add_to(commands, machine)
    proxies.add_to(commands, running, machine)
    analyze.add_to(commands, running, machine)
    inject.add_to(commands, machine)
    bench.add_to(commands, machine)
    doctor.add_to(commands, machine)
    return top
