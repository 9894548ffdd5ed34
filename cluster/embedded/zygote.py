"""The process from which containers are forked, its interpreter already warm.

It imports the modules that pods run once, freezes them out of the garbage collector's sight (so that forks go
on sharing the memory) and then waits for orders on a Unix socket. It has one thread and opens no gRPC
channel: a fork copies only the calling thread, and locks held by others would stay locked for ever.

Messages are JSON lines; a spawn order carries the write ends of the container's stdout and stderr.

    -> {"spawn": id, "argv": [...], "env": {...}, "cwd": "..."}     <- {"spawned": id, "pid": n} | {..., "error": "..."}
    -> {"kill": pid, "signal": n}                                    <- {"exited": pid, "code": n, "signal": n}

`kill` reaches the container's session; SIGKILL also what has left it. Whatever is left of a container when
its first process ends is killed, as a PID namespace would see to.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.embedded import launch, lifeline
from cluster.embedded.slots import single_loopback

CONTAINER_MARK = "LAB_CONTAINER"
"""Environment variable naming the container a process belongs to."""


@dataclass
class Child:
    """In the forked child, what the zygote's loop hands back: run it and never return."""

    order: launch.Order
    stdout: int
    stderr: int

    def run(self) -> None:
        """Become the container."""
        launch.run(self.order, self.stdout, self.stderr)


ALWAYS = ["asyncio", "uvloop", "runpy"]
"""What nearly every pod imports, each time at a cost of megabytes if not here; uvloop only where it exists.
"""


def _exists(name: str) -> bool:
    return sys.modules.get(name, "") is not None and importlib.util.find_spec(name) is not None


def preload(names: list[str]) -> None:
    """Import what pods will run. A module that fails to import is reported, and will fail in its pod too."""
    if single_loopback():
        sys.modules["uvloop"] = None  # type: ignore[assignment] # see shim.py
    for name in [*filter(_exists, ALWAYS), *names]:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - any error of foreign code
            print(f"preload of {name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    if threading.active_count() > 1:
        print("warning: a preloaded module started a thread; forks will lack it", file=sys.stderr, flush=True)
    gc.collect()
    gc.freeze()


@dataclass
class Zygote:
    """The fork server: `serve` returns a `Child` in each forked process and never in the zygote itself."""

    orders: socket.socket
    lifeline: int
    state_dir: Path
    mark: str
    containers: dict[int, str] = field(default_factory=dict)
    _inbox: bytes = b""
    _descriptors: list[int] = field(default_factory=list)

    def serve(self) -> Child:
        """Wait for orders, deaths of children and the death of the supervisor."""
        wakeup_read, wakeup_write = os.pipe()
        for end in (wakeup_read, wakeup_write):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        self._private = [self.orders.fileno(), self.lifeline, wakeup_read, wakeup_write]
        lifeline.adopt_orphans()
        while True:
            readable, _, _ = select.select([self.orders.fileno(), self.lifeline, wakeup_read], [], [])
            if self.lifeline in readable:
                lifeline.bury_as_survivor(self.state_dir, self.mark)
            if wakeup_read in readable:
                os.read(wakeup_read, 4096)
                self._reap()
            if self.orders.fileno() in readable and (child := self._receive()):
                return child

    def _receive(self) -> Child | None:
        data, descriptors, _, _ = socket.recv_fds(self.orders, 65536, 64)
        if not data:  # the node process is gone; the supervisor sees it too and ends everything
            os.read(self.lifeline, 1)
            lifeline.bury_as_survivor(self.state_dir, self.mark)
        self._descriptors.extend(descriptors)
        self._inbox += data
        while b"\n" in self._inbox:
            line, _, self._inbox = self._inbox.partition(b"\n")
            if child := self._obey(json.loads(line)):
                return child
        return None

    def _obey(self, message: dict[str, Any]) -> Child | None:
        if "kill" in message:
            self._kill(message["kill"], message["signal"])
            return None
        stdout, stderr = self._descriptors[:2]
        del self._descriptors[:2]
        child = self._spawn(message, stdout, stderr)
        if child is None:
            os.close(stdout)
            os.close(stderr)
        return child

    def _spawn(self, message: dict[str, Any], stdout: int, stderr: int) -> Child | None:
        private = [*self._private, *self._descriptors]
        order = launch.Order(message["argv"], message["env"], message["cwd"], private)
        if reason := launch.refusal(order):
            self._reply({"spawned": message["spawn"], "error": reason})
            return None
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or too little memory
            self._reply({"spawned": message["spawn"], "error": f"fork: {error.strerror}"})
            return None
        if pid == 0:
            return Child(order, stdout, stderr)
        self.containers[pid] = order.env.get(CONTAINER_MARK, "")
        self._reply({"spawned": message["spawn"], "pid": pid})
        return None

    def _kill(self, pid: int, number: int) -> None:
        if pid not in self.containers:
            return  # it has just exited
        if number != signal.SIGKILL:
            lifeline.kill_all([pid], number)
            return
        lifeline.kill_all({pid, *lifeline.descendants(pid), *lifeline.session_members(pid)})

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid not in self.containers:
                continue  # an orphan that fell to us
            name = self.containers.pop(pid)
            lifeline.kill_all(lifeline.session_members(pid))
            if name:
                lifeline.kill_all(lifeline.marked(name, CONTAINER_MARK))
            code = os.waitstatus_to_exitcode(status)
            self._reply({"exited": pid, "code": 128 - code if code < 0 else code, "signal": max(0, -code)})

    def _reply(self, message: dict[str, Any]) -> None:
        self.orders.sendall(json.dumps(message).encode() + b"\n")
