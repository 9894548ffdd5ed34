"""Who is still running: processes found by a mark in the environment they were started with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil


def marked(name: str, value: str) -> Iterator[psutil.Process]:
    """Living processes that were started with `name=value` in their environment, forks of such ones included."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def gone(name: str, value: str, within: float) -> list[str]:
    """What of the marked processes is still there after at most `within` seconds; [] as soon as none is."""
    deadline = time.monotonic() + within
    while left := list(marked(name, value)):
        if time.monotonic() > deadline:
            return [f"{p.pid} {' '.join(p.cmdline())}" for p in left if p.is_running()]
        psutil.wait_procs(left, timeout=0.1)
    return []


def files_under(path: Path) -> list[str]:
    """Files (not folders) left under a path."""
    return sorted(str(p) for p in path.rglob("*") if not p.is_dir())
