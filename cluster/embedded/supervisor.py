"""The first process of an embedded cluster: starts the others, watches its owner, and buries everything.

    owner (a CLI session, a notebook kernel)
      └─ supervisor           imports what the others share, then forks them
           ├─ zygote          imports what pods run, forks containers
           ├─ API server      the store lives here and nowhere else
           └─ node            controllers, scheduler, kubelet, kube-proxy: an ordinary API client

Everything forked shares the memory of what was imported before. The cluster ends when its owner does, when
one of the three children does, or on SIGTERM; `lifeline.py` says how nothing is left, even if the supervisor
is killed.

It reports on `--report-fd`, one JSON line each: {"ready": {...}} or {"failed": "sentence"}; afterwards it
takes orders there: {"owner": pid} hands the cluster to another process and is answered by the same line.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cluster.embedded import lifeline
from cluster.embedded.options import Options, parse
from cluster.embedded.slots import Slot, take_slot
from cluster.embedded.zygote import Child, Zygote, preload

START_SECONDS = 30.0


def main(arguments: list[str]) -> int:
    """Run the cluster until its end. In forked children this is where they leave the supervisor's stack."""
    if lifeline.MARK not in os.environ:
        os.environ[lifeline.MARK] = f"{os.getpid()}.{time.time_ns()}"
        os.execv(sys.executable, [sys.executable, "-m", "cluster.embedded", *arguments])
    outcome = Supervisor(parse(arguments)).run()
    if isinstance(outcome, Child):
        outcome.run()
    return outcome if isinstance(outcome, int) else 0


@dataclass
class Supervisor:
    """Forks, watches, buries."""

    options: Options
    children: dict[int, str] = field(default_factory=dict)
    _report: socket.socket | None = None
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _pending: bytes = b""

    def run(self) -> Child | int:
        """Start the cluster and wait for its end; returns a `Child` in forks of the zygote."""
        self.mark = os.environ[lifeline.MARK]
        self.options.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.options.lock_fd is None:
            (self.options.state_dir / "lock").touch()
        self._watch_signals()
        if self.options.report_fd is not None:
            self._report = socket.socket(fileno=self.options.report_fd)
        self.lifeline, self._lifeline_write = os.pipe()
        node_end, zygote_end = socket.socketpair()
        if child := self._fork_zygote(zygote_end, node_end):
            return child
        zygote_end.close()
        self._import_shared()
        slot = self._take_slot()
        facts = self._fork_apiserver(slot, node_end)
        self._fork_node(slot, facts, node_end)
        node_end.close()
        self._announce(slot, facts)
        return self._watch()

    def _take_slot(self) -> Slot:
        if taken := take_slot(start=os.getpid()):
            slot, self._slot_lock = taken
            return slot
        self._fail(
            "no loopback network is free: 241 clusters run on this machine, or 127.0.0.0/8 cannot be bound"
        )

    def _import_shared(self) -> None:
        """Import what API server and node share, while the zygote is busy with imports of its own."""
        self._roles = importlib.import_module("cluster.embedded.roles")
        gc.collect()
        gc.freeze()

    # -- children ---------------------------------------------------------------------------------------------

    def _fork(self, name: str) -> int:
        """Fork; in the child, drop what only the supervisor may hold."""
        pid = os.fork()
        if pid:
            self.children[pid] = name
            return pid
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # The terminal's Ctrl-C is for the owner; the cluster ends because the owner does.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.close()
        for descriptor in (self._lifeline_write, self.options.lock_fd, self.options.owner_fd, *self._wakeup):
            if descriptor is not None:
                os.close(descriptor)
        if self._report:
            self._report.close()
        return 0

    def _fork_zygote(self, orders: socket.socket, other_end: socket.socket) -> Child | None:
        if self._fork("zygote"):
            return None
        other_end.close()
        preload(self.options.preload)
        return Zygote(orders, self.lifeline, self.options.state_dir, self.mark).serve()

    def _fork_apiserver(self, slot: Slot, node_end: socket.socket) -> dict[str, Any]:
        read_end, write_end = os.pipe()
        if not self._fork("API server"):
            node_end.close()
            os.close(read_end)
            lifeline.guard(self.lifeline, self.options.state_dir, self.mark)
            self._roles.become_apiserver(self.options, slot, write_end)
        os.close(write_end)
        return self._await_line(read_end, "API server")

    def _fork_node(self, slot: Slot, facts: dict[str, Any], node_end: socket.socket) -> None:
        read_end, write_end = os.pipe()
        if not self._fork("node"):
            os.close(read_end)
            lifeline.guard(self.lifeline, self.options.state_dir, self.mark)
            self._roles.become_node(self.options, slot, facts, node_end, write_end)
        os.close(write_end)
        self._await_line(read_end, "node")

    def _await_line(self, read_end: int, name: str) -> dict[str, Any]:
        """The child's ready line. While waiting, the owner's death and a stop request count as ever."""
        self._selector.register(read_end, selectors.EVENT_READ, "child")
        deadline = time.monotonic() + START_SECONDS
        while True:
            for key, _ in self._selector.select(max(0.0, deadline - time.monotonic())):
                if key.data == "child":
                    self._selector.unregister(read_end)
                    line = os.read(read_end, 65536)
                    os.close(read_end)
                    if not line:
                        self._fail(f"the {name} ended while starting")
                    return dict(json.loads(line))
                self._handle(key.data)
            if time.monotonic() > deadline:
                self._fail(f"the {name} was not ready after {START_SECONDS:.0f} s")

    # -- watching ---------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        self._wakeup = os.pipe()
        for end in self._wakeup:
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        lifeline.adopt_orphans()
        self._selector.register(self._wakeup[0], selectors.EVENT_READ, "signal")
        if self.options.report_fd is not None:
            self._selector.register(self.options.report_fd, selectors.EVENT_READ, "report")
        if self.options.owner_fd is not None:
            self._selector.register(self.options.owner_fd, selectors.EVENT_READ, "owner")
        if self.options.owner_pid is not None:
            self._own(self.options.owner_pid)

    def _own(self, pid: int) -> bool:
        """Make `pid` the owner in place of the present one; False if there is no such process."""
        try:
            descriptor = lifeline.watch_pid(pid)
        except (ProcessLookupError, OSError):
            return False
        for key in list(self._selector.get_map().values()):
            if key.data == "owner":
                self._selector.unregister(key.fd)
                os.close(key.fd)
        self._selector.register(descriptor, selectors.EVENT_READ, "owner")
        return True

    def _announce(self, slot: Slot, facts: dict[str, Any]) -> None:
        ready = {
            "name": self.options.name,
            "pid": os.getpid(),
            "mark": self.mark,
            "slot": slot.number,
            **facts,
        }
        record = self.options.state_dir / "cluster.json"
        record.with_suffix(".new").write_text(json.dumps(ready))
        record.with_suffix(".new").replace(record)
        self._say({"ready": ready})

    def _watch(self) -> NoReturn:
        gc.collect()
        while True:
            for key, _ in self._selector.select():
                self._handle(key.data)

    def _handle(self, what: str) -> None:
        handlers: dict[str, Callable[[], None]] = {
            "signal": self._on_signal,
            "owner": lambda: self._end("its owner ended"),
            "report": self._on_report,
        }
        handlers[what]()

    def _on_signal(self) -> None:
        numbers = os.read(self._wakeup[0], 4096)
        if signal.SIGTERM in numbers:
            self._end("it was asked to stop")
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self.children:
                code = os.waitstatus_to_exitcode(status)
                self._fail(f"the {self.children[pid]} ended with status {code}")

    def _on_report(self) -> None:
        assert self._report is not None
        data = self._report.recv(4096)
        if not data:
            self._selector.unregister(self._report)
            self._report.close()
            self._report = None
            if not (self.options.state_dir / "cluster.json").exists():
                self._end("whoever started it is gone")
            return
        self._pending += data
        while b"\n" in self._pending:
            line, _, self._pending = self._pending.partition(b"\n")
            pid = json.loads(line).get("owner")
            answer = (
                {"owner": pid}
                if self._own(pid)
                else {"failed": f"there is no process {pid} to own the cluster"}
            )
            self._say(answer)

    # -- the end ----------------------------------------------------------------------------------------------

    def _say(self, message: dict[str, Any]) -> None:
        line = json.dumps(message)
        if self._report is None:
            print(line, flush=True)
            return
        try:
            self._report.sendall(line.encode() + b"\n")
        except OSError:
            return  # nobody listens any more, which _on_report deals with

    def _fail(self, sentence: str) -> NoReturn:
        print(sentence, file=sys.stderr, flush=True)
        log = self.options.state_dir / "cluster.log"
        tail = log.read_text(errors="replace").strip().splitlines()[-12:] if log.exists() else []
        self._say({"failed": sentence, "log": tail})
        self._end(sentence)

    def _end(self, reason: str) -> NoReturn:
        print(f"cluster {self.options.name} ends: {reason}", file=sys.stderr, flush=True)
        lifeline.bury(self.options.state_dir, self.mark)
        os._exit(0)
