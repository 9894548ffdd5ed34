"""`mesh demo`: the main job without a browser. Each step changes one thing and measures what the traffic does."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from cluster import up as lifecycle
from mesh.cli import containers, demo_steps
from mesh.cli.output import print_json, print_table, progress


def add_to(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the command to the grammar."""
    demo = commands.add_parser("demo", parents=parents, help="start a mesh, prove each feature, end it")
    demo.add_argument("--requests", type=int, default=600, help="page requests a step (default: %(default)s)")
    demo.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Own a fresh cluster for the demo's life; 0 only if every step is ok."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` ends the cluster
    name = f"demo-{os.getpid()}"
    running = lifecycle.up(args.backend, args.dataplane, name, None, progress, containers.chosen(args))
    try:
        steps = [
            demo_steps.measured(step, running, args.requests, progress) for step in demo_steps.in_order()
        ]
        result = {
            "backend": running.backend,
            "dataplane": args.dataplane,
            "ready_seconds": round(running.ready_seconds, 2),
            "memory_mb": demo_steps.memory_mb(running),
            "steps": steps,
            "ok": all(step["ok"] for step in steps),
        }
    finally:
        running.down()
    if args.json:
        print_json(result)
    else:
        _print(result)
    return 0 if result["ok"] else 1


def _print(result: dict[str, Any]) -> None:
    rows = [
        ("ok" if s["ok"] else "FAILED", s["name"], s["requests"], s["expected"], s["observed"])
        for s in result["steps"]
    ]
    print_table(("", "STEP", "REQUESTS", "EXPECTED", "OBSERVED"), rows)
    print(f"first page after {result['ready_seconds']} s; all processes {result['memory_mb']} MB (PSS)")
