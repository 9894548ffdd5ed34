"""What one proxy is to have, as one immutable value: every resource with its version, checked to be whole.

After `compile`, before `stream`. A version is a hash of the content, so it says by itself whether something
has changed: a type whose resources are the same bytes has the same version and is not sent again, also not
by another replica of the control plane. A set that points to what it does not contain is refused here, and
the proxy keeps the last good one (as go-control-plane's `Snapshot.Consistent`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

_TYPE = "type.googleapis.com/"
CLUSTER = _TYPE + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _TYPE + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _TYPE + "envoy.config.listener.v3.Listener"
ROUTE = _TYPE + "envoy.config.route.v3.RouteConfiguration"
HTTP_CONNECTION_MANAGER = _TYPE + HttpConnectionManager.DESCRIPTOR.full_name

ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
"""The order of publication: what is named comes before what names it (xDS protocol, "Eventual
consistency").
"""

SECRET = _TYPE + "envoy.extensions.transport_sockets.tls.v3.Secret"
SHORT = {CLUSTER: "CDS", ENDPOINT: "EDS", LISTENER: "LDS", ROUTE: "RDS", SECRET: "SDS"}
"""What people call the types."""

_NEEDED_TYPE = {CLUSTER: ENDPOINT, LISTENER: ROUTE}


class InconsistentError(ValueError):
    """A set of resources that cannot be published; the message names the resource and what it lacks."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as it goes on the wire."""

    name: str
    version: str
    packed: Any
    needs: tuple[str, ...] = ()
    """Names of the resources of the next type without which this one does not work (EDS of CDS, RDS of
    LDS).
    """


class ResourceSet(Mapping[str, Resource]):
    """Resources by name, immutable. What is asked of a set again and again is worked out once: sets are shared by all
    proxies that get the same, and compared far more often than made.
    """

    __slots__ = ("_changed", "_items", "_needs", "_version")

    def __init__(self, items: Mapping[str, Resource]) -> None:
        self._items = dict(items)
        self._version = ""
        self._needs: frozenset[str] | None = None
        self._changed: tuple[ResourceSet, tuple[Resource, ...]] | None = None

    def __getitem__(self, name: str) -> Resource:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def keys(self) -> KeysView[str]:
        """The names, as a view that sets can be compared with."""
        return self._items.keys()

    def values(self) -> ValuesView[Resource]:
        """The resources."""
        return self._items.values()

    @property
    def version(self) -> str:
        """One version for the whole set: equal exactly when names and contents are."""
        if not self._version:
            digest = hashlib.blake2b(digest_size=8)
            for line in sorted(f"{one.name}\0{one.version}\0" for one in self._items.values()):
                digest.update(line.encode())
            self._version = digest.hexdigest()
        return self._version

    @property
    def needs(self) -> frozenset[str]:
        """The names of the next type without which something here does not work."""
        if self._needs is None:
            self._needs = frozenset(name for one in self._items.values() for name in one.needs)
        return self._needs

    def changed_since(self, old: ResourceSet) -> tuple[Resource, ...]:
        """What is new or different here; what is gone does not show."""
        if old is self:
            return ()
        if self._changed is None or self._changed[0] is not old:
            had = old._items
            found = (
                one
                for name, one in self._items.items()
                if name not in had or had[name].version != one.version
            )
            self._changed = (old, tuple(found))
        return self._changed[1]

    def without(self, names: Iterable[str]) -> ResourceSet:
        """This set less some names; the same object when none of them is in it."""
        gone = self._items.keys() & set(names)
        return ResourceSet({n: one for n, one in self._items.items() if n not in gone}) if gone else self

    def same(self, other: ResourceSet) -> bool:
        """True when both have the same names with the same contents."""
        return self is other or (len(self) == len(other) and self.version == other.version)


NOTHING = ResourceSet({})

M = TypeVar("M")


class Memory(Generic[M]):
    """What was made of which object, by its identity; forgets what two generations in a row did not ask for."""

    def __init__(self) -> None:
        self._old: dict[int, tuple[object, M]] = {}
        self._new: dict[int, tuple[object, M]] = {}

    def get(self, of: object, make: Callable[[], M]) -> M:
        """The value made of this very object, made now if it is not known."""
        key = id(of)
        known = self._new.get(key) or self._old.get(key) or (of, make())
        self._new[key] = known
        return known[1]

    def next_generation(self) -> None:
        self._old, self._new = self._new, {}


class Packer:
    """Packs and hashes each message once, however many proxies share it and however many snapshots keep it.

    `compile` gives equal things, single messages as well as whole mappings, as the same object.
    """

    def __init__(self) -> None:
        self._messages: Memory[Resource] = Memory()
        self._sets: Memory[ResourceSet] = Memory()

    def pack(self, messages: Mapping[str, Message]) -> ResourceSet:
        """The set of these messages."""
        return self._sets.get(
            messages, lambda: ResourceSet({n: self._one(n, one) for n, one in messages.items()})
        )

    def _one(self, name: str, message: Message) -> Resource:
        return self._messages.get(message, lambda: _pack(name, message))

    def next_generation(self) -> None:
        """Call when a new world begins."""
        self._messages.next_generation()
        self._sets.next_generation()


def _pack(name: str, message: Message) -> Resource:
    type_url = _TYPE + message.DESCRIPTOR.full_name
    value = message.SerializeToString(deterministic=True)
    version = hashlib.blake2b(value, digest_size=8).hexdigest()
    return Resource(name, version, Any(type_url=type_url, value=value), tuple(_needs(message)))


def _needs(message: Message) -> Iterator[str]:
    """The names a resource refers to and cannot do without."""
    if isinstance(message, Cluster):
        if message.type == Cluster.EDS:
            yield message.eds_cluster_config.service_name or message.name
    elif isinstance(message, Listener):
        chains = [*message.filter_chains]
        if message.HasField("default_filter_chain"):
            chains.append(message.default_filter_chain)
        for network_filter in (f for chain in chains for f in chain.filters):
            if network_filter.typed_config.type_url == HTTP_CONNECTION_MANAGER:
                manager = HttpConnectionManager.FromString(network_filter.typed_config.value)
                if manager.HasField("rds"):
                    yield manager.rds.route_config_name


@dataclass(frozen=True)
class Snapshot:
    """All resources of one proxy, by type. Make it with `build`, which checks it."""

    by_type: Mapping[str, ResourceSet]

    def resources(self, type_url: str) -> ResourceSet:
        """The resources of a type; none for a type this control plane does not serve."""
        return self.by_type.get(type_url, NOTHING)


def build(messages: Mapping[str, Mapping[str, Message]], packer: Packer) -> Snapshot:
    """The snapshot of these messages by type and name. Raises InconsistentError when one that is named is missing."""
    by_type = {type_url: packer.pack(found) for type_url, found in messages.items()}
    for type_url, needed_type in _NEEDED_TYPE.items():
        needed = by_type.get(needed_type, NOTHING)
        for name in by_type.get(type_url, NOTHING).needs - needed.keys():
            raise InconsistentError(
                f"{SHORT[type_url]} refers to {SHORT[needed_type]} {name!r}, which is not there; this is a fault of "
                "the mesh, not of a rule"
            )
    return Snapshot(MappingProxyType(by_type))
