"""Preflight: what this machine has for the lab, each finding with a plain fix."""

from __future__ import annotations

import platform
import resource
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psutil

from cluster import engine as engines
from cluster import preflight
from cluster.base import ClusterError

State = Literal["ok", "warning", "problem"]

MIN_PYTHON = (3, 11)
MIN_MEMORY = 1 << 30
MIN_DISK = 200 << 20
MIN_FILES = 1024


@dataclass(frozen=True)
class Finding:
    """One check: what it looked at, what it saw, and what to do about it (empty when all is well)."""

    check: str
    state: State
    seen: str
    fix: str = ""


def examine() -> list[Finding]:
    """All checks, in the order in which a start would need them."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _system,
        _memory,
        _disk,
        _files,
        _loopback,
        _tls,
        _kubectl,
        _containers,
    )
    return [check() for check in checks]


def _python() -> Finding:
    seen = platform.python_version()
    if sys.version_info[:2] >= MIN_PYTHON:
        return Finding("Python", "ok", seen)
    return Finding("Python", "problem", seen, "install Python 3.11 or newer and run `make lab` again")


def _system() -> Finding:
    seen = f"{platform.system()} {platform.machine()}"
    if platform.system() in ("Linux", "Darwin"):
        return Finding("operating system", "ok", seen)
    return Finding("operating system", "problem", seen, "use Linux or macOS; on Windows use WSL2")


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    seen = f"{free >> 20} MiB available"
    if free >= MIN_MEMORY:
        return Finding("memory", "ok", seen)
    return Finding("memory", "warning", seen, f"close something: the lab wants {MIN_MEMORY >> 20} MiB")


def _disk() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    seen = f"{free >> 20} MiB free"
    if free >= MIN_DISK:
        return Finding("disk", "ok", seen)
    return Finding("disk", "problem", seen, f"free {MIN_DISK >> 20} MiB where temporary files go")


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= MIN_FILES or soft == resource.RLIM_INFINITY:
        return Finding("open files", "ok", f"limit {soft}")
    return Finding("open files", "warning", f"limit {soft}", f"run `ulimit -n {MIN_FILES}` first")


def _loopback() -> Finding:
    """Linux answers on all of 127.0.0.0/8; macOS on 127.0.0.1 alone, where pods get ports instead of addresses."""
    try:
        with socket.socket() as probe:
            probe.bind(("127.77.1.2", 0))
    except OSError:
        return Finding("loopback", "ok", "127.0.0.1 only: pods get distinct ports")
    return Finding("loopback", "ok", "127.0.0.0/8: each pod gets an address")


def _tls() -> Finding:
    if ssl.HAS_TLSv1_3:
        return Finding("TLS", "ok", ssl.OPENSSL_VERSION)
    return Finding("TLS", "problem", ssl.OPENSSL_VERSION, "use a Python built with OpenSSL 1.1.1 or newer")


def _kubectl() -> Finding:
    return _optional("kubectl", "not needed; `mesh get` and `mesh apply` do its work")


def _containers() -> Finding:
    """Never a problem: only the kind backend needs it."""
    try:
        found = engines.find()
        preflight.memory(found, 1)
        preflight.disk(found)
        preflight.inotify(1)
    except ClusterError as error:
        return Finding("containers", "ok", f"no kind backend: {error}")
    return Finding(
        "containers", "ok", f"{found.program}, {found.memory >> 30} GiB: the kind backend will work"
    )


def _optional(program: str, without: str) -> Finding:
    found = shutil.which(program)
    return Finding(program, "ok", "found" if found else f"not found: {without}")
