"""What a container's network namespace would do, done in its Python interpreter.

Pods of the embedded cluster share one network stack, so two things that a namespace gives for free are
missing: a server bound to "all addresses" must mean *the pod's* address, and names of Services must resolve.
`install()` patches `socket` to that effect, in forks of the zygote directly and in exec'd Pythons through
`pythonpath/sitecustomize.py`. It reads its orders from the environment only, imports nothing of the project
and must stay light: every container loads it.

    LAB_BIND_ADDRESS   what 0.0.0.0, "" and :: mean when bound
    LAB_POD_ADDRESS    source address of connections to other pods and Services
    LAB_PORTS          where there is only one address: the container's ports and the real ones they are bound to
    LAB_LOCAL_PORTS    the same for connections to 127.0.0.1: what the pod's containers listen on
    LAB_HOSTS          JSON file {"fqdn-less name": [[address, {port: port}], ...]}, rewritten as Services change
    LAB_NAMESPACE      the namespace that a bare Service name belongs to
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import sys
from typing import Any

WILDCARDS = frozenset({"0.0.0.0", "", "::", "::0"})
_Socket = socket.socket
_original_bind = socket.socket.bind
_original_connect = socket.socket.connect
_original_connect_ex = socket.socket.connect_ex
_original_getaddrinfo = socket.getaddrinfo
_original_gethostbyname = socket.gethostbyname


class Hosts:
    """The cluster's names, read again whenever the file changed."""

    def __init__(self, path: str, namespace: str) -> None:
        self.path = path
        self.namespace = namespace
        self._stamp: tuple[int, int] = (0, 0)
        self._entries: dict[str, list[tuple[str, dict[str, int]]]] = {}

    def find(self, name: str) -> list[tuple[str, dict[str, int]]] | None:
        """Addresses of a Service name and their port maps; None if it is no name of this cluster."""
        entries = self._read()
        for candidate in candidates(name, self.namespace):
            if candidate in entries:
                return entries[candidate]
        return [] if name.rstrip(".").endswith(".svc.cluster.local") else None

    def _read(self) -> dict[str, list[tuple[str, dict[str, int]]]]:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - as light as can be
        except OSError:
            return self._entries
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            with open(self.path, encoding="utf-8") as file:  # noqa: PTH123
                self._entries = json.load(file)
            self._stamp = stamp
        return self._entries


def candidates(name: str, namespace: str) -> list[str]:
    """Keys `service.namespace` (or `host.service.namespace`) that a name may mean, in a pod's search order."""
    bare = name.rstrip(".").lower()
    for suffix in (".svc.cluster.local", ".svc"):
        if bare.endswith(suffix):
            return [bare.removesuffix(suffix)]
    return [f"{bare}.{namespace}", bare]


def install() -> None:
    """Patch `socket` according to the environment; without LAB_BIND_ADDRESS, do nothing."""
    inside = os.environ.get("LAB_BIND_ADDRESS")
    if not inside:
        return
    pod = os.environ.get("LAB_POD_ADDRESS", inside)
    hosts = Hosts(os.environ.get("LAB_HOSTS", ""), os.environ.get("LAB_NAMESPACE", "default"))
    bound, local = _ports("LAB_PORTS"), _ports("LAB_LOCAL_PORTS")
    if bound or local:
        # uvloop would bind and connect behind this module's back.
        sys.modules["uvloop"] = None  # type: ignore[assignment]
        _patch_local(local)
    _patch_bind(inside, bound)
    if pod != "127.0.0.1":
        _patch_connect(pod)
    _patch_names(hosts, inside)


def _ports(variable: str) -> dict[int, int]:
    return {int(port): real for port, real in json.loads(os.environ.get(variable) or "{}").items()}


def _patch_bind(inside: str, ports: dict[int, int]) -> None:
    def bind(self: socket.socket, address: Any, /) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] in WILDCARDS:
            if self.family == socket.AF_INET6:
                # There are no IPv6 addresses here: tell servers that try both to go on with IPv4.
                raise OSError(errno.EADDRNOTAVAIL, "IPv6 is not available in this pod")
            address = (inside, *address[1:])
        if ports and self.family == socket.AF_INET:
            address = (address[0], ports.get(address[1], address[1]))
        _original_bind(self, address)

    socket.socket.bind = bind  # type: ignore[method-assign, assignment]


def _patch_local(ports: dict[int, int]) -> None:
    """Connections to a port of the pod's own go where that port really is."""

    def real(self: socket.socket, address: Any) -> Any:
        if self.family == socket.AF_INET and address[0] in ("127.0.0.1", "localhost"):
            return ("127.0.0.1", ports.get(address[1], address[1]))
        return address

    def connect(self: socket.socket, address: Any, /) -> None:
        _original_connect(self, real(self, address))

    def connect_ex(self: socket.socket, address: Any, /) -> int:
        return _original_connect_ex(self, real(self, address))

    socket.socket.connect = connect  # type: ignore[method-assign, assignment]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign, assignment]


def _patch_connect(pod: str) -> None:
    cluster_prefix = ".".join(pod.split(".")[:2]) + "."

    def as_pod(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_INET or not str(address[0]).startswith(cluster_prefix):
            return
        if self.getsockname() == ("0.0.0.0", 0):
            if hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):
                self.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            elif hasattr(os, "pidfd_open"):  # Linux, where the constant is 24
                self.setsockopt(socket.IPPROTO_IP, 24, 1)
            _original_bind(self, (pod, 0))

    def connect(self: socket.socket, address: Any, /) -> None:
        as_pod(self, address)
        _original_connect(self, address)

    def connect_ex(self: socket.socket, address: Any, /) -> int:
        as_pod(self, address)
        return _original_connect_ex(self, address)

    socket.socket.connect = connect  # type: ignore[method-assign, assignment]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign, assignment]


def _patch_names(hosts: Hosts, inside: str) -> None:
    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if _asks_for_wildcard(name, args, kwargs):
            return _original_getaddrinfo(inside, port, *args, **kwargs)
        found = hosts.find(name) if isinstance(name, str) and name and not _is_address(name) else None
        if found is None:
            return _original_getaddrinfo(host, port, *args, **kwargs)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {name}")
        answers: list[Any] = []
        # Headless Services have many addresses; a random order is what cluster DNS gives.
        for address, ports in random.sample(found, len(found)):
            mapped = ports.get(str(port), port)
            answers.extend(_original_getaddrinfo(address, mapped, *args, **kwargs))
        return answers

    def gethostbyname(name: str) -> str:
        found = None if _is_address(name) else hosts.find(name)
        return random.choice(found)[0] if found else _original_gethostbyname(name)

    socket.getaddrinfo = getaddrinfo
    socket.gethostbyname = gethostbyname


def _asks_for_wildcard(name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a server asks what to bind: it must not be sent to IPv6 first, as some systems would."""
    family = kwargs.get("family", args[0] if args else 0)
    flags = kwargs.get("flags", args[3] if len(args) > 3 else 0)
    passive = bool(flags & socket.AI_PASSIVE)
    return passive and family in (0, socket.AF_INET) and (name is None or name in WILDCARDS)


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()
