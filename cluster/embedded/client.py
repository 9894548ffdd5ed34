"""Starting, finding, handing over and stopping embedded clusters: what the CLI and a notebook hold in hand.

Where their directories are and how they are locked is in `homes.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster.base import ClusterError, Interception
from cluster.embedded import homes, lifeline

START_SECONDS = 40.0
STOP_SECONDS = 10.0
IMAGE = "service-mesh-lab"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")


@dataclass
class EmbeddedCluster:
    """A running embedded cluster."""

    name: str
    server: str
    kubeconfig: Path
    pid: int
    state_dir: Path
    mark: str
    _leash: socket.socket | None = field(default=None, repr=False)

    @classmethod
    def start(
        cls,
        name: str = "mesh",
        preload: tuple[str, ...] | list[str] = (),
        owner: int | None = None,
        state_home: Path | None = None,
        image: str = IMAGE,
    ) -> EmbeddedCluster:
        """Start a cluster that ends with process `owner` (default: this process).

        `preload` names modules that pods will run, imported once before pods are forked. `image` is the only
        image that pods may name (without a tag: with any tag). Until the cluster is ready it belongs to this
        process whoever is to own it later. Raises ClusterError, with the last lines of the log if it failed
        to start.
        """
        if not _NAME.fullmatch(name):
            raise ClusterError(f"cluster name {name!r}: use lower case letters, digits and '-', 42 at most")
        home = state_home or homes.default_state_home()
        state_dir = home / "clusters" / name
        lock = homes.take_lock(name, state_dir)
        homes.sweep(state_dir.parent)
        ours, theirs = socket.socketpair()
        try:
            process = _spawn(name, state_dir, preload, image, lock, theirs)
        except OSError as error:
            shutil.rmtree(state_dir, ignore_errors=True)
            raise ClusterError(f"cluster {name!r} cannot be started: {error}") from error
        finally:
            os.close(lock)
            theirs.close()
        facts = _await_ready(name, state_dir, ours, process)
        cluster = cls._from_facts(facts, state_dir, ours)
        if owner is not None and owner != os.getpid():
            try:
                cluster.own(owner)
            except ClusterError:
                cluster.stop()
                raise
        return cluster

    @classmethod
    def _from_facts(
        cls, facts: dict[str, Any], state_dir: Path, leash: socket.socket | None
    ) -> EmbeddedCluster:
        kubeconfig = Path(facts["kubeconfig"])
        return cls(facts["name"], facts["server"], kubeconfig, facts["pid"], state_dir, facts["mark"], leash)

    @classmethod
    def find(cls, name: str = "mesh", state_home: Path | None = None) -> EmbeddedCluster | None:
        """The running cluster of that name; None if there is none (or it is not ready yet)."""
        state_dir = (state_home or homes.default_state_home()) / "clusters" / name
        record = state_dir / "cluster.json"
        if not homes.is_alive(state_dir) or not record.exists():
            return None
        return cls._from_facts(json.loads(record.read_text()), state_dir, None)

    @classmethod
    def list(cls, state_home: Path | None = None) -> list[EmbeddedCluster]:
        """All running clusters of this state home, by name."""
        home = (state_home or homes.default_state_home()) / "clusters"
        names = sorted(entry.name for entry in home.iterdir()) if home.is_dir() else []
        return [found for name in names if (found := cls.find(name, state_home))]

    @property
    def backend(self) -> str:
        """`embedded`."""
        return "embedded"

    @property
    def interception(self) -> Interception:
        """Without network namespaces nothing can be redirected: apps ask for their sidecar."""
        return "NONE"

    @property
    def gateway_node_port(self) -> int:
        """Any: several clusters may share one machine's addresses."""
        return 0

    def reach(self, node_port: int) -> str:
        """Nodes have addresses of this machine."""
        return ""

    def provide_image(self, image: str) -> str:
        """Nothing to load: the image's programs are this very installation."""
        return image

    def memory(self) -> int | None:
        """PSS in bytes of all the cluster's processes; None where the OS does not tell."""
        try:
            return sum(psutil.Process(pid).memory_full_info().pss for pid in lifeline.marked(self.mark))
        except AttributeError:
            return None

    @property
    def alive(self) -> bool:
        """Whether the cluster still runs."""
        return homes.is_alive(self.state_dir) and homes.is_same_run(self.state_dir, self.mark)

    def own(self, owner: int) -> None:
        """Make process `owner` the one whose end ends the cluster.

        Only whoever started the cluster can do so. ClusterError if there is no such process or the cluster is
        gone.
        """
        if self._leash is None:
            raise ClusterError(
                f"cluster {self.name!r} can be handed over only by the process that started it"
            )
        try:
            self._leash.sendall(json.dumps({"owner": owner}).encode() + b"\n")
            answer = _read_line(self._leash, STOP_SECONDS)
        except OSError as error:
            raise ClusterError(f"cluster {self.name!r} is gone: {error}") from error
        if "failed" in answer:
            raise ClusterError(f"cluster {self.name!r} cannot be handed over: {answer['failed']}")

    def stop(self) -> None:
        """End the cluster; returns when nothing of it is left. Stopping a stopped cluster is fine."""
        if self._leash is not None:
            self._leash.close()
            self._leash = None
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.state_dir.exists() and self.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _spawn(
    name: str,
    state_dir: Path,
    preload: tuple[str, ...] | list[str],
    image: str,
    lock: int,
    report: socket.socket,
) -> subprocess.Popen[bytes]:
    """The supervisor, detached: own session, no terminal, its output in a file."""
    command = [
        sys.executable, "-m", "cluster.embedded",
        "--name", name, "--state-dir", str(state_dir), "--preload", ",".join(preload), "--image", image,
        "--owner-pid", str(os.getpid()), "--report-fd", str(report.fileno()), "--lock-fd", str(lock),
    ]  # fmt: skip
    paths = [str(Path(__file__).resolve().parents[2]), *(str(Path(p).absolute()) for p in sys.path if p)]
    own = [
        p
        for p in dict.fromkeys(paths)
        if Path(p).is_dir() and not p.startswith((sys.prefix, sys.base_prefix))
    ]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(own),
        lifeline.MARK: f"{state_dir}.{os.getpid()}.{time.time_ns()}",
    }
    if sys.platform == "darwin":  # else the Objective-C runtime ends forks of a process that has used it
        env["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    with (state_dir / "cluster.log").open("ab") as log:
        return subprocess.Popen(
            command, env=env, cwd=state_dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            pass_fds=(report.fileno(), lock), start_new_session=True,
        )  # fmt: skip


def _await_ready(
    name: str, state_dir: Path, leash: socket.socket, process: subprocess.Popen[bytes]
) -> dict[str, Any]:
    """The facts of the ready line; ClusterError with the log's tail instead."""
    log = state_dir / "cluster.log"
    try:
        answer = _read_line(leash, START_SECONDS)
    except OSError as error:
        tail = _tail(log)
        process.kill()
        process.wait()
        shutil.rmtree(state_dir, ignore_errors=True)
        raise ClusterError(f"cluster {name!r} failed to start: {error}{tail}") from error
    if "failed" in answer:
        process.wait()
        tail = "".join(f"\n  {line}" for line in answer.get("log", []))
        raise ClusterError(f"cluster {name!r} failed to start: {answer['failed']}{tail}")
    # Popen must neither warn about nor reap a process that is meant to live on.
    process.returncode = 0
    return dict(answer["ready"])


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-12:] if log.exists() else []
    return "".join(f"\n  {line}" for line in lines)


def _read_line(leash: socket.socket, seconds: float) -> dict[str, Any]:
    """One JSON line; OSError when none comes."""
    deadline, data = time.monotonic() + seconds, b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([leash], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError(f"no answer within {seconds:.0f} s")
        chunk = leash.recv(65536)
        if not chunk:
            raise ConnectionResetError("its supervisor ended")
        data += chunk
    return dict(json.loads(data))
