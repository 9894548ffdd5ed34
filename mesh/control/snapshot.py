"""What one proxy is to have, as one immutable value: every resource with its version, checked to be whole.

After `compile`, before `stream`. A version is a hash of the content, so it says by itself whether something
has changed: a type whose resources are the same bytes has the same version and is not sent again, also not
by another replica of the control plane. A set that points to what it does not contain is refused here, and
the proxy keeps the last good one (as go-control-plane's `Snapshot.Consistent`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

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

SHORT = {CLUSTER: "CDS", ENDPOINT: "EDS", LISTENER: "LDS", ROUTE: "RDS"}
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


class Packer:
    """Packs and hashes each message once, however many proxies share it and however many snapshots keep it.

    `compile` gives equal things the same object, so the object's identity is the key; what two generations
    in a row did not use is forgotten.
    """

    def __init__(self) -> None:
        self._old: dict[int, tuple[Message, Resource]] = {}
        self._new: dict[int, tuple[Message, Resource]] = {}

    def pack(self, name: str, message: Message) -> Resource:
        """The resource for this message, made at most once."""
        key = id(message)
        known = self._new.get(key) or self._old.get(key)
        if known is None or known[0] is not message:
            known = (message, _pack(name, message))
        self._new[key] = known
        return known[1]

    def next_generation(self) -> None:
        """Call when a new world begins."""
        self._old, self._new = self._new, {}


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


Resources = Mapping[str, Resource]
NO_RESOURCES: Resources = MappingProxyType({})


def version_of(resources: Iterable[Resource]) -> str:
    """One version for a set of resources: equal exactly when names and contents are."""
    digest = hashlib.blake2b(digest_size=8)
    for line in sorted(f"{resource.name}\0{resource.version}\0" for resource in resources):
        digest.update(line.encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Snapshot:
    """All resources of one proxy, by type and name. Make it with `build`, which checks it."""

    by_type: Mapping[str, Resources]

    def resources(self, type_url: str) -> Resources:
        """The resources of a type; none for a type this control plane does not serve."""
        return self.by_type.get(type_url, NO_RESOURCES)

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """The version of each type."""
        return {type_url: version_of(found.values()) for type_url, found in self.by_type.items()}


def build(messages: Mapping[str, Mapping[str, Message]], packer: Packer) -> Snapshot:
    """The snapshot of these messages by type and name. Raises InconsistentError when one that is named is missing."""
    by_type = {
        type_url: {name: packer.pack(name, message) for name, message in found.items()}
        for type_url, found in messages.items()
    }
    for type_url, needed_type in _NEEDED_TYPE.items():
        _check(by_type.get(type_url, {}), SHORT[type_url], by_type.get(needed_type, {}), SHORT[needed_type])
    return Snapshot(MappingProxyType({url: MappingProxyType(found) for url, found in by_type.items()}))


def _check(resources: Resources, what: str, needed: Resources, needed_what: str) -> None:
    for resource in resources.values():
        for name in resource.needs:
            if name not in needed:
                raise InconsistentError(
                    f"{what} {resource.name!r} needs {needed_what} {name!r}, which is not there"
                )
