"""The command line of `python -m cluster.embedded`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """The supervisor's command line."""

    name: str
    state_dir: Path
    preload: list[str]
    image: str
    owner_pid: int | None
    owner_fd: int | None
    report_fd: int | None
    lock_fd: int | None


def parse(arguments: list[str]) -> Options:
    """Options of the command line; exits with a usage message when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.embedded", description="Run an embedded cluster."
    )
    parser.add_argument("--name", default="mesh", help="name of the cluster (default: %(default)s)")
    parser.add_argument(
        "--state-dir", type=Path, required=True, help="directory of its own, removed at the end"
    )
    parser.add_argument("--preload", default="", help="modules to import before pods are forked, a,b,c")
    parser.add_argument(
        "--image", default="service-mesh-lab", help="the image that pods may name (any tag if none)"
    )
    parser.add_argument("--owner-pid", type=int, help="process whose end ends the cluster")
    parser.add_argument("--owner-fd", type=int, help="descriptor whose end of file ends the cluster")
    parser.add_argument("--report-fd", type=int, help="socket for the ready line (default: print it)")
    parser.add_argument("--lock-fd", type=int, help="descriptor that holds the lock on STATE_DIR/lock")
    args = parser.parse_args(arguments)
    modules = [name for name in args.preload.split(",") if name]
    return Options(
        args.name, args.state_dir.absolute(), modules, args.image,
        args.owner_pid, args.owner_fd, args.report_fd, args.lock_fd,
    )  # fmt: skip
