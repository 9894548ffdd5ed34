"""Who has which loopback address: the arithmetic of a cluster's slot, and nothing else.

A cluster owns one slot N of 127.0.0.0/8, so that two clusters on one machine never meet (see
`cluster/README.md`):

    127.N.0.1             the node and the API server
    127.N.1.0 .. 127.x    pods: an odd address a pod is known by and the even one after it, "inside" the pod
    127.N.128.0/17        Services' cluster IPs, given out by the API server

Where the OS binds only 127.0.0.1 (macOS), `single_loopback()` is true, every address is 127.0.0.1 and ports
tell things apart.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, field

SLOTS = range(10, 251)
API_PORT = 6443
LOCK_PORT = 10250
PAIRS_PER_BLOCK = 127
BLOCKS = 127


@dataclass(frozen=True)
class Slot:
    """One cluster's share of the loopback network."""

    number: int

    @property
    def api_port(self) -> int:
        """Port of the API server, at the node's address."""
        return API_PORT

    @property
    def node(self) -> str:
        """Address of the node and of the API server."""
        return f"127.{self.number}.0.1"

    @property
    def service_range(self) -> str:
        """CIDR from which the API server takes cluster IPs."""
        return f"127.{self.number}.128.0/17"

    @property
    def pod_range(self) -> str:
        """CIDR (of the node) in which all pod addresses lie."""
        return f"127.{self.number}.0.0/17"

    def pair(self, index: int) -> Pair:
        """The `index`-th pod's two addresses; ValueError beyond the last one."""
        block, place = divmod(index, PAIRS_PER_BLOCK)
        if not 0 <= block < BLOCKS:
            raise ValueError(f"slot {self.number} has no pod address number {index}")
        prefix = f"127.{self.number}.{block + 1}"
        return Pair(index, f"{prefix}.{2 * place + 1}", f"{prefix}.{2 * place + 2}")


@dataclass(frozen=True)
class SingleSlot(Slot):
    """The network of a cluster where there is only 127.0.0.1: ports tell everything apart, the API's too."""

    port: int = API_PORT

    @property
    def api_port(self) -> int:
        """A port that was free."""
        return self.port

    @property
    def node(self) -> str:
        """The only address."""
        return "127.0.0.1"

    @property
    def service_range(self) -> str:
        """A range of one address."""
        return "127.0.0.1/32"

    @property
    def pod_range(self) -> str:
        """A range of one address."""
        return "127.0.0.1/32"

    def pair(self, index: int) -> Pair:
        """The same address twice, for any pod."""
        return Pair(index, "127.0.0.1", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A pod's address and the one behind its sidecar, where the app of an injected pod listens."""

    index: int
    pod: str
    inside: str


@dataclass
class PairAllocator:
    """Gives out address pairs round robin, so that a dead pod's address is not reused at once."""

    slot: Slot
    _used: set[int] = field(default_factory=set)
    _next: int = 0

    def take(self) -> Pair:
        """A free pair; RuntimeError when 16,129 pods are running."""
        total = PAIRS_PER_BLOCK * BLOCKS
        for step in range(total):
            index = (self._next + step) % total
            if index not in self._used:
                self._used.add(index)
                self._next = index + 1
                return self.slot.pair(index)
        raise RuntimeError(f"slot {self.slot.number} has no free pod address left")

    def give_back(self, pair: Pair) -> None:
        """Free a pair."""
        self._used.discard(pair.index)


def single_loopback() -> bool:
    """True where only 127.0.0.1 can be bound, or MESH_LAB_SINGLE_LOOPBACK=1 asks to behave so."""
    if os.environ.get("MESH_LAB_SINGLE_LOOPBACK") == "1":
        return True
    if sys.platform.startswith("linux"):
        return False
    with socket.socket() as probe:
        try:
            probe.bind(("127.77.0.1", 0))
        except OSError:
            return True
    return False


def take_slot(start: int = 0) -> tuple[Slot, socket.socket] | None:
    """The first free slot from `start` on, and the socket that holds it: bound to the kubelet's port, never
    listening.

    None when all are taken. Where there is only one address, a free API port is all there is to take.
    """
    if single_loopback():
        lock, api = _bind("127.0.0.1", 0), _bind("127.0.0.1", 0)
        if lock is None or api is None:
            return None
        with api:
            return SingleSlot(0, api.getsockname()[1]), lock
    for step in range(len(SLOTS)):
        slot = Slot(SLOTS[(start + step) % len(SLOTS)])
        lock, api = _bind(slot.node, LOCK_PORT), _bind(slot.node, API_PORT)
        if api is not None:
            api.close()
        if lock is not None and api is not None:
            return slot, lock
        if lock is not None:
            lock.close()
    return None


def _bind(host: str, port: int) -> socket.socket | None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        return None
    return bound
