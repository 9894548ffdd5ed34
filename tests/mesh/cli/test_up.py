"""Whose end ends a cluster that `mesh up` leaves running."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

ASK = "from mesh.cli.up import lasting_owner; print(lasting_owner())"


def test_without_a_terminal_it_is_a_process_that_outlasts_the_shell() -> None:
    """A shell that runs one command and ends must not take the cluster with it."""
    script = f"echo $$; {sys.executable} -c '{ASK}'; true"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True
    )
    shell, owner = (int(word) for word in done.stdout.split())
    assert owner not in (shell, os.getpid())


def test_in_a_terminal_it_is_the_sessions_leader() -> None:
    """Closing the terminal ends the cluster."""
    leader, screen = pty.fork()
    if not leader:
        os.execv("/bin/sh", ["sh", "-c", f"{sys.executable} -c '{ASK}'; true"])
    said = b""
    while True:
        try:
            chunk = os.read(screen, 1024)
        except OSError:  # Linux ends a pseudo-terminal's output so
            break
        if not chunk:
            break
        said += chunk
    os.waitpid(leader, 0)
    assert int(said.split()[-1]) == leader
