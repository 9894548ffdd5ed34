"""Where clusters keep their state, and how they are told apart from what dead ones left.

Each running cluster has a directory below the state home, named after it, with `cluster.json` (where its API
is) and `lock`, on which its supervisor holds a lock for as long as it lives. Directories without that lock
belong to clusters that were buried badly (power cut); the next start sweeps them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

from cluster.base import ClusterError
from cluster.embedded import lifeline


def default_state_home() -> Path:
    """$MESH_LAB_HOME, or the user's cache directory."""
    if given := os.environ.get("MESH_LAB_HOME"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "service-mesh-lab"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "service-mesh-lab"


def take_lock(name: str, state_dir: Path) -> int:
    """The lock of a new cluster's directory; ClusterError if a cluster of that name runs."""
    while True:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ClusterError(
                f'cluster "{name}" already runs: use it, end it with `mesh down`, or choose another name'
            ) from None
        if _same_file(lock, state_dir / "lock"):
            _clear(state_dir)
            return lock
        os.close(lock)  # its owner removed the directory just now


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _clear(state_dir: Path) -> None:
    """Remove what a cluster that was buried badly left in its directory, and its processes."""
    record = state_dir / "cluster.json"
    if record.exists():
        lifeline.kill_all(lifeline.marked(json.loads(record.read_text())["mark"]))
    for entry in state_dir.iterdir():
        if entry.name == "lock":
            continue
        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()


def sweep(home: Path) -> None:
    """Remove the directories of dead clusters."""
    for state_dir in home.iterdir():
        try:
            lock = os.open(state_dir / "lock", os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(state_dir)
            shutil.rmtree(state_dir, ignore_errors=True)
        except BlockingIOError:
            continue  # alive
        finally:
            os.close(lock)


def is_alive(state_dir: Path) -> bool:
    """Whether somebody holds the directory's lock."""
    try:
        lock = os.open(state_dir / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def is_same_run(state_dir: Path, mark: str) -> bool:
    """Whether the cluster of this directory is the very run that `mark` belongs to."""
    try:
        return bool(json.loads((state_dir / "cluster.json").read_text())["mark"] == mark)
    except (OSError, ValueError):
        return False
