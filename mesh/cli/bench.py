"""`mesh bench`: our sidecar beside the real Envoy, in turn, with the same routes and rules; and the control plane."""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from mesh.bench import control
from mesh.bench.compare import PROXIES, BenchError, run
from mesh.bench.resources import CASES
from mesh.cli.output import CliError, print_json, print_table


def add_to(commands: Any, machine: argparse.ArgumentParser) -> None:
    """Add the command to the grammar."""
    bench = commands.add_parser("bench", parents=[machine], help="our sidecar beside Envoy: CPU and latency")
    bench.add_argument("--case", action="append", choices=CASES, help="one case only (may be repeated)")
    bench.add_argument("--seconds", type=float, default=3.0, help="of each part (default: %(default)s)")
    bench.add_argument("--pairs", type=int, default=3, help="runs of each proxy (default: %(default)s)")
    bench.add_argument(
        "--proxies", type=int, default=1000, help="simulated proxies of the control plane; 0: leave it out"
    )
    bench.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> None:
    """Measure, and print the medians; a target missed is printed like one met."""
    try:
        result = run(args.case or CASES, args.seconds, args.pairs, lambda line: print(line, file=sys.stderr))
    except BenchError as error:
        raise CliError(str(error)) from error
    if args.proxies:
        result["control"] = control.apart(services=1000, proxies=args.proxies)
    if args.json:
        print_json(result)
        return
    print_table(
        ("CASE", "PROXY", "REQUESTS/S", "CPU µs/REQUEST", "P50 ms", "P99 ms", "OURS/ENVOY"),
        (row for case in result["ratios"] for row in _rows(case, result)),
    )
    if args.proxies:
        print()
        print_table(("CONTROL PLANE", ""), ([name, str(value)] for name, value in result["control"].items()))


def _rows(case: str, result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for proxy in PROXIES:
        runs = [r for r in result["runs"] if (r["case"], r["proxy"]) == (case, proxy)]
        median = {
            key: statistics.median(r[key] for r in runs) for key in runs[0] if key not in ("case", "proxy")
        }
        rows.append(
            [
                case,
                proxy,
                f"{median['rps']:.0f}",
                f"{median['cpu_us_per_request']:.1f}",
                f"{median['p50_ms']:.2f}",
                f"{median['p99_ms']:.2f}",
                f"{result['ratios'][case]:.2f}" if proxy == "ours" else "",
            ]
        )
    return rows
