"""`mesh up` and `mesh down`: a cluster with mesh and shop, and its end."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from typing import Any

import psutil

from cluster import choose, kind
from cluster import up as lifecycle
from cluster.base import ClusterError
from cluster.embedded import lifeline
from cluster.embedded.client import EmbeddedCluster
from mesh.cli import containers
from mesh.cli.output import print_json, progress


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the two commands to the grammar."""
    running, machine, backend = parents
    up = commands.add_parser("up", parents=[running, machine, backend], help="start cluster, mesh and shop")
    up.add_argument(
        "--owner",
        type=int,
        metavar="PID",
        help="end the cluster when this process ends (default: the terminal session; without a terminal, "
        "the outermost process this one runs under)",
    )
    up.add_argument(
        "--hold", action="store_true", help="stay, and end the cluster with this command (Ctrl-C)"
    )
    up.set_defaults(run=run_up)
    down = commands.add_parser("down", parents=[running, machine], help="end a running cluster")
    down.set_defaults(run=run_down)
    sweep = commands.add_parser(
        "sweep", parents=[machine], help="delete kind clusters that a crash left behind"
    )
    sweep.set_defaults(run=run_sweep)


def run_up(args: argparse.Namespace) -> None:
    """Start everything and say where it is."""
    owner = os.getpid() if args.hold else args.owner or lasting_owner()
    if not psutil.pid_exists(owner):
        raise ClusterError(f"--owner {owner}: no such process")
    running = lifecycle.up(args.backend, args.dataplane, args.name, owner, progress, containers.chosen(args))
    where = {
        "kubeconfig": str(running.kubeconfig),
        "backend": running.backend,
        "dataplane": args.dataplane,
        "gateway_url": running.gateway_url,
        "image": running.image,
    }
    if args.json:
        print_json(where)
    else:
        print(f"the shop:     {where['gateway_url']}/productpage")
        print(f"kubectl:      export KUBECONFIG={where['kubeconfig']}")
        print("the end:      " + ("Ctrl-C" if args.hold else "mesh down"))
    if args.hold:
        sys.stdout.flush()
        hold(running)


def hold(running: lifecycle.Running) -> None:
    """Stay until SIGINT or SIGTERM, then end the cluster; or until somebody else has ended it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    try:
        if isinstance(running.cluster, EmbeddedCluster):
            select.select([lifeline.watch_pid(running.cluster.pid)], [], [])
            print("the cluster has ended", file=sys.stderr)
        else:
            signal.pause()
    except KeyboardInterrupt:
        print("ending the cluster", file=sys.stderr)
    finally:
        running.down()


def run_down(args: argparse.Namespace) -> None:
    """End a cluster; an error when there is none of that name."""
    choose.find(args.name).stop()
    if args.json:
        print_json({"name": args.name, "running": False})
    else:
        print(f'cluster "{args.name}" has ended')


def run_sweep(args: argparse.Namespace) -> None:
    """Delete half-made clusters of ours and those whose owner is gone."""
    swept = kind.sweep()
    if args.json:
        print_json({"swept": swept})
    else:
        print("\n".join(f'cluster "{name}" is deleted' for name in swept) or "nothing was left behind")


def lasting_owner() -> int:
    """The process whose end should end the cluster that this command leaves running.

    In a terminal it is the session's leader, usually the shell, so that closing the terminal closes all. Without
    one (CI, a program that calls commands one by one) shells come and go, and the outermost process under which
    this one runs is what lasts.
    """
    if sys.stdin.isatty() or sys.stdout.isatty():
        leader = os.getsid(0)
        if leader not in (0, os.getpid()):
            return leader
    ancestors = [process.pid for process in psutil.Process().parents()]  # nearest first
    below_init = [pid for pid in ancestors if pid != 1]
    entered_from_outside = not ancestors or ancestors[-1] != 1  # such as `docker exec`: no ancestor lasts
    return 1 if entered_from_outside or not below_init else below_init[-1]
