"""How no process of a cluster outlives its cluster.

Three nets, one below the other, since any process can be killed -9 at any moment:

1. The supervisor watches its owner (`watch_pid`) and, when that is gone, buries the cluster. 2. Every process
the supervisor forks holds the read end of a pipe that only the supervisor can write to. End of file there
means that the supervisor itself was killed: whoever wins the cluster's lock buries the cluster. 3. Containers
die with the zygote (PR_SET_PDEATHSIG, Linux). What they started themselves, even in sessions of its own, is
found by descent (orphans fall to the nearest subreaper, which supervisor and zygote are) and by a mark in the
environment which every process of the cluster inherits.

Burying = SIGKILL to all those, until none is left, then removal of the state directory.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "MESH_LAB_CLUSTER"
"""Environment variable that marks every process of a cluster; its value is unique to the cluster's run."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Ask Linux to SIGKILL this process when its parent dies; survives exec, not fork. Elsewhere: nothing."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants (Linux), so that `descendants` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def watch_pid(pid: int) -> int:
    """A file descriptor that becomes readable when process `pid` ends.

    pidfd on Linux, kqueue on BSD and macOS, else a pipe closed by a thread that looks ten times a second.
    Raises ProcessLookupError if there is no such process.
    """
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    if sys.platform != "linux" and hasattr(select, "kqueue"):
        queue = select.kqueue()
        exits = select.kevent(
            pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
        )
        queue.control([exits], 0, 0)
        _kept.append(queue)
        return queue.fileno()
    os.kill(pid, 0)
    read_end, write_end = os.pipe()
    threading.Thread(target=_poll_pid, args=(pid, write_end), daemon=True).start()
    return read_end


_kept: list[object] = []  # kqueue objects close their descriptor when collected


def _poll_pid(pid: int, write_end: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            os.close(write_end)
            return
        except PermissionError:
            pass  # alive, and another user's
        time.sleep(0.1)


def guard(lifeline: int, state_dir: Path, mark: str) -> None:
    """Bury the cluster from a thread of this process once `lifeline` reports end of file."""

    def wait() -> None:
        os.read(lifeline, 1)
        bury_as_survivor(state_dir, mark)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def bury_as_survivor(state_dir: Path, mark: str) -> None:
    """The supervisor is gone: one survivor does its last duty, the others wait to be killed. Never returns."""
    try:
        lock = os.open(state_dir / "lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        bury(state_dir, mark)
    except FileNotFoundError:
        pass  # another survivor has finished the job
    finally:
        os._exit(1)


def bury(state_dir: Path, mark: str) -> None:
    """Kill every process of the cluster except this one, then remove its state directory."""
    deadline = time.monotonic() + 5
    while True:
        victims = {*descendants(os.getpid()), *marked(mark)} - {os.getpid()}
        if not victims or time.monotonic() > deadline:
            break
        kill_all(victims)
        _reap()
        time.sleep(0.002)
    shutil.rmtree(state_dir, ignore_errors=True)


def kill_all(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Signal each process; those that are gone or another user's are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def descendants(root: int) -> list[int]:
    """Living descendants of process `root`, from the process table."""
    parents = {pid: parent for pid, parent, _, zombie in process_table() if not zombie}
    found: list[int] = []
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found.extend(frontier)
    return found


def session_members(session: int) -> list[int]:
    """Living processes whose session is `session`."""
    return [pid for pid, _, sid, zombie in process_table() if sid == session and not zombie]


def process_table() -> list[tuple[int, int, int, bool]]:
    """(pid, parent, session, is zombie) of every process."""
    if Path("/proc/self/stat").exists():
        return [
            row
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and (row := _proc_row(int(entry.name)))
        ]
    import psutil

    rows = []
    for process in psutil.process_iter(["pid", "ppid", "status"]):
        pid, zombie = process.info["pid"], process.info["status"] == psutil.STATUS_ZOMBIE
        try:
            rows.append((pid, process.info["ppid"] or 0, os.getsid(pid), zombie))
        except OSError:
            continue
    return rows


def _proc_row(pid: int) -> tuple[int, int, int, bool] | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name stands in parentheses and may hold anything, spaces and parentheses included.
    state, parent, _group, session = stat.rpartition(")")[2].split()[:4]
    return pid, int(parent), int(session), state in "ZX"


def marked(value: str, name: str = MARK) -> list[int]:
    """Living processes of this user that were started with `name=value` in their environment."""
    needle = f"{name}={value}"
    if Path("/proc/self/environ").exists():
        rows = (pid for pid, _, _, zombie in process_table() if not zombie)
        return [pid for pid in rows if needle.encode() in _proc_environ(pid)]
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def _proc_environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
