"""A pod as the kernel sees one: a network namespace joined to ours by a pair of virtual interfaces. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def why_not() -> str:
    """Why no network namespace can be made here; empty when one can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and the program ip"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not any(shutil.which(name) for name in ("iptables-restore", "nft")):
        return "neither iptables nor nft is installed"
    name = f"probe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return ""


class Pod:
    """One namespace. `address` is the pod's, `outside` ours on the same wire, `cluster_ips` go nowhere."""

    def __init__(self, number: int = 1) -> None:
        self.name = f"pod{os.getpid()}n{number}"
        net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 80 * 3 + number}"
        self.outside, self.address = f"{net}.1", f"{net}.2"
        self.cluster_ip = f"{net}.100"
        self._wire = f"v{os.getpid() % 100000}n{number}"

    def start(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self._wire, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", f"{self.outside}/24", "dev", self._wire)
        ip("link", "set", self._wire, "up")
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "route", "add", "default", "via", self.outside)

    def stop(self) -> None:
        ip("netns", "delete", self.name)

    def command(self, *command: str, uid: int = 1000) -> list[str]:
        """A command as user `uid` in the pod."""
        return [
            "ip", "netns", "exec", self.name,
            "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command,
        ]  # fmt: skip

    def run(self, *command: str, uid: int = 1000, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
        """Run a command in the pod to its end."""
        return subprocess.run(
            self.command(*command, uid=uid),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=ROOT,
        )

    @contextlib.contextmanager
    def running(
        self, *command: str, uid: int = 1000, env: dict[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A process of the pod that prints a line when it is ready."""
        full = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        process = subprocess.Popen(
            self.command(*command, uid=uid), stdout=subprocess.PIPE, text=True, env=full, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), f"{command} ended before it was ready"
            yield process
        finally:
            process.terminate()
            process.wait(10)

    def say(self, host: str, port: int, text: str = "", uid: int = 1000) -> str:
        """Connect from inside, say something (or nothing), and return what came back; `error: ...` if nothing."""
        return self.run(sys.executable, "-c", SAY, host, str(port), text, uid=uid).stdout


SAY = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 8) as s:
        s.settimeout(8)
        if sys.argv[3]:
            s.sendall(sys.argv[3].encode())
        print(s.recv(65536).decode(), end="")
except OSError as error:
    print("error:", error)
"""


def ip(*arguments: str) -> None:
    deadline = time.monotonic() + 5
    while True:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "busy" not in done.stderr or time.monotonic() > deadline:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
        time.sleep(0.05)
