"""What has been asked of the control plane, what has come, and what to answer: the xDS state of one stream.

No I/O: `xds` moves the messages. State-of-the-world protocol
(https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol): each answer is accepted as a whole (ACK:
its version) or refused as a whole (NACK: the last good version and the reason), and then the last good
configuration stays in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any as AnyType

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError, Message

from mesh.proxy.config import ConfigError
from mesh.proxy.config.clusters import assignment, cluster
from mesh.proxy.config.fields import check
from mesh.proxy.config.listeners import listener
from mesh.proxy.config.routes import route_table
from mesh.proxy.runtime import Runtime

log = logging.getLogger(__name__)

_PREFIX = "type.googleapis.com/"
CLUSTER = _PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = _PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = _PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = _PREFIX + "envoy.config.route.v3.RouteConfiguration"
ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE)

Send = Callable[[discovery_pb2.DiscoveryRequest], None]


class Kind:
    """One type of resource: how to read it, and what is in force."""

    __slots__ = (
        "applied",
        "apply",
        "asked",
        "message",
        "name_field",
        "nonce",
        "rejected",
        "specs",
        "translate",
        "updated",
        "version",
    )

    def __init__(
        self,
        message: type[Message],
        name_field: str,
        translate: Callable[[AnyType], AnyType],
        apply: Callable[[Mapping[str, AnyType]], None],
    ) -> None:
        self.message = message
        self.name_field = name_field
        self.translate = translate
        self.apply = apply
        self.version = ""
        self.nonce = ""
        self.asked: set[str] | None = None
        self.specs: dict[str, tuple[bytes, AnyType]] = {}
        """By name: the bytes as they came, and what they mean. Equal bytes are not translated again."""
        self.rejected = ""
        self.updated = 0.0


class Subscription:
    """The client's half of the ADS protocol."""

    def __init__(self, runtime: Runtime) -> None:
        secrets = runtime.secrets
        self.runtime = runtime
        self.connected = False
        self.accepted = 0
        self.refused = 0
        self.kinds = {
            CLUSTER: Kind(cluster_pb2.Cluster, "name", lambda m: cluster(m, secrets), runtime.apply_clusters),
            ENDPOINT: Kind(
                endpoint_pb2.ClusterLoadAssignment, "cluster_name", assignment, runtime.apply_assignments
            ),
            LISTENER: Kind(
                listener_pb2.Listener, "name", lambda m: listener(m, secrets), runtime.apply_listeners
            ),
            ROUTE: Kind(route_pb2.RouteConfiguration, "name", route_table, runtime.apply_routes),
        }

    def begin(self) -> list[discovery_pb2.DiscoveryRequest]:
        """The requests that open a stream. After a reconnect they say what is in force already."""
        for kind in self.kinds.values():
            kind.nonce = ""
        requests = [self._request(CLUSTER), self._request(LISTENER)]
        for type_url in (ENDPOINT, ROUTE):
            if names := self._names(type_url):
                self.kinds[type_url].asked = names
                requests.append(self._request(type_url))
            else:
                self.kinds[type_url].asked = None
        return requests

    def answer(self, response: discovery_pb2.DiscoveryResponse) -> list[discovery_pb2.DiscoveryRequest]:
        """Take a response: apply it, and return the ACK or NACK and what else is to be asked now."""
        kind = self.kinds.get(response.type_url)
        if kind is None:
            log.warning("xds: nobody asked for %s", response.type_url)
            return []
        kind.nonce = response.nonce
        try:
            self._apply(kind, response)
        except ConfigError as error:
            self.refused += 1
            kind.rejected = str(error)
            log.error("xds: %s refused: %s", response.type_url.rpartition(".")[2], error)
            return [self._request(response.type_url, reason=str(error))]
        except Exception as error:
            self.refused += 1
            kind.rejected = f"internal error of the proxy: {error!r}"
            log.exception("xds: %s broke the proxy", response.type_url.rpartition(".")[2])
            return [self._request(response.type_url, reason=kind.rejected)]
        self.accepted += 1
        kind.version = response.version_info
        kind.rejected = ""
        return [self._request(response.type_url), *self._newly_needed(response.type_url)]

    def _apply(self, kind: Kind, response: discovery_pb2.DiscoveryResponse) -> None:
        """All or nothing: everything is translated before anything is applied."""
        specs: dict[str, tuple[bytes, AnyType]] = {}
        for resource in response.resources:
            name, value, spec = self._translate(kind, resource)
            if name in specs:
                raise ConfigError(f"{name}: this name appears twice")
            specs[name] = (value, spec)
        kind.apply({name: spec for name, (_, spec) in specs.items()})
        if response.type_url in (CLUSTER, LISTENER):
            kind.specs = specs
        else:
            kind.specs.update(specs)
            wanted = self._names(response.type_url)
            kind.specs = {name: entry for name, entry in kind.specs.items() if name in wanted}

    def _translate(self, kind: Kind, resource: AnyType) -> tuple[str, bytes, AnyType]:
        message: AnyType = kind.message()
        if resource.TypeName() != message.DESCRIPTOR.full_name:
            raise ConfigError(
                f"a resource is of type {resource.type_url}, not {message.DESCRIPTOR.full_name}"
            )
        try:
            message.ParseFromString(resource.value)
        except DecodeError as error:
            raise ConfigError(f"a resource cannot be read: {error}") from error
        name = getattr(message, kind.name_field)
        known = kind.specs.get(name)
        if known is not None and known[0] == resource.value:
            return name, known[0], known[1]
        try:
            check(message)
            return name, resource.value, kind.translate(message)
        except ConfigError as error:
            raise ConfigError(f"{message.DESCRIPTOR.name} {name}: {error}") from error

    def _newly_needed(self, type_url: str) -> list[discovery_pb2.DiscoveryRequest]:
        """Clusters name endpoint sets, listeners name route tables: ask for those that are new."""
        dependent = {CLUSTER: ENDPOINT, LISTENER: ROUTE}.get(type_url)
        if dependent is None:
            return []
        names = self._names(dependent)
        kind = self.kinds[dependent]
        if names == (kind.asked or set()):
            return []
        kind.asked = names
        return [self._request(dependent)]

    def _names(self, type_url: str) -> set[str]:
        if type_url == ENDPOINT:
            return self.runtime.eds_names
        return self.runtime.route_names if type_url == ROUTE else set()

    def _request(self, type_url: str, reason: str = "") -> discovery_pb2.DiscoveryRequest:
        kind = self.kinds[type_url]
        request = discovery_pb2.DiscoveryRequest(
            type_url=type_url,
            version_info=kind.version,
            response_nonce=kind.nonce,
            resource_names=sorted(kind.asked or ()),
        )
        if reason:
            request.error_detail.code = 3  # google.rpc.Code.INVALID_ARGUMENT
            request.error_detail.message = reason
        return request

    @property
    def complete(self) -> bool:
        """Whether clusters and listeners have come at least once."""
        return bool(self.kinds[CLUSTER].version and self.kinds[LISTENER].version)
