"""One ADS stream as a state machine without I/O: what to send on a request, and when there is a new snapshot.

After `snapshot`, before `server`. It speaks the state-of-the-world variant of the xDS protocol
(https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol) and keeps four rules:

- One at a time. While a response of a type is not answered, no other of that type is sent. So a proxy that does not
  read costs us no memory, and whatever happens meanwhile is merged into what it gets next.
- Only what changed. A type is sent when its subscribed content differs from what the proxy was sent last. CDS and LDS
  are always whole (absence means removal); of EDS and RDS only the changed resources are sent.
- Make before break. Clusters and their endpoints first; listeners and routes when those are acknowledged. A cluster
  that is no longer wanted goes only after the proxy has accepted routes that do without it.
- Last good. A refused (NACKed) response is not sent again until its content changes. While the clusters of a proxy are
  refused, it gets no listeners and routes that may need them; endpoints keep flowing.

Two habits of Envoy's shape this. It acknowledges clusters only when they are warm, that is, after their endpoints have
come; so endpoints never wait for clusters. And it forgets the endpoints of a cluster whose definition changes; so they
are sent again after such a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.any_pb2 import Any

from mesh.control.snapshot import (
    CLUSTER,
    ENDPOINT,
    LISTENER,
    NOTHING,
    ORDER,
    ROUTE,
    ResourceSet,
    Snapshot,
)

WHOLE = frozenset({CLUSTER, LISTENER})
"""Types whose every response carries all resources the proxy has subscribed to."""

BEFORE: Mapping[str, tuple[str, ...]] = {
    CLUSTER: (),
    ENDPOINT: (),
    LISTENER: (CLUSTER, ENDPOINT),
    ROUTE: (CLUSTER, ENDPOINT),
}
"""What must be acknowledged before a type is sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """The part of a DiscoveryRequest that matters here. `error` is "" unless the request is a NACK."""

    type_url: str
    names: tuple[str, ...] = ()
    nonce: str = ""
    version: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse to send."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a proxy said when it refused a response."""

    version: str
    reason: str


@dataclass(slots=True)
class TypeState:
    """Where the proxy stands with one type."""

    wanted: frozenset[str] | None = None
    """Names subscribed to; None: all there are (wildcard)."""
    sent: ResourceSet = field(default_factory=lambda: NOTHING)
    """What the proxy has been sent, refused or not."""
    accepted: ResourceSet = field(default_factory=lambda: NOTHING)
    """What the proxy has accepted."""
    answered_once: bool = False
    """A first request has been answered; even "there is nothing" is an answer a proxy waits for."""
    nonce: str = ""
    sent_version: str = ""
    accepted_version: str = ""
    waiting: bool = False
    """A response is out and neither accepted nor refused."""
    refusal: Refusal | None = None
    _selected: tuple[object, object, ResourceSet] | None = None

    def select(self, resources: ResourceSet) -> ResourceSet:
        """Those of `resources` the proxy has subscribed to; the last answer is remembered."""
        if self.wanted is None:
            return resources
        last = self._selected
        if last is None or last[0] is not self.wanted or last[1] is not resources:
            last = self._selected = (
                self.wanted,
                resources,
                resources.without(resources.keys() - self.wanted),
            )
        return last[2]

    def forget(self, names: Iterable[str]) -> None:
        """The proxy does not hold these any more; it is sent them again if it asks again."""
        self.sent, self.accepted = self.sent.without(names), self.accepted.without(names)


class Stream:
    """The conversation with one proxy. Feed it requests and snapshots; send what it returns, in order."""

    def __init__(self) -> None:
        self.types: dict[str, TypeState] = {}
        self.snapshot: Snapshot | None = None
        self._nonces = 0

    def on_snapshot(self, snapshot: Snapshot) -> list[Response]:
        """A new snapshot for this proxy; replaces whatever was not sent yet."""
        self.snapshot = snapshot
        return self._advance()

    def on_request(self, request: Request) -> list[Response]:
        """A subscription, a change of one, an ACK or a NACK. A request with a stale nonce is ignored, as the
        protocol asks: the proxy's answer to the newer response is on its way and carries its subscription."""
        state = self.types.get(request.type_url)
        if state is None:
            state = self.types[request.type_url] = TypeState()
        elif request.nonce != state.nonce:
            return []
        else:
            _acknowledge(state, request)
        _subscribe(state, request)
        return self._advance()

    def is_current(self, type_url: str) -> bool:
        """True when the proxy has accepted all this snapshot has for it of a type."""
        state = self.types.get(type_url)
        if state is None or self.snapshot is None:
            return True
        return not state.waiting and state.accepted.same(state.select(self.snapshot.resources(type_url)))

    def _advance(self) -> list[Response]:
        """Send the first type, in order, that needs sending and may be sent now."""
        if self.snapshot is None:
            return []
        responses: list[Response] = []
        for type_url in self._sending_order():
            if not self._may_send(type_url):
                continue
            response = self._response(type_url, self.types[type_url])
            if response is not None:
                responses.append(response)
        return responses

    def _sending_order(self) -> Iterable[str]:
        """The subscribed types, first things first; unknown types last, they get an empty answer."""
        yield from (type_url for type_url in ORDER if type_url in self.types)
        yield from (type_url for type_url in self.types if type_url not in BEFORE)

    def _may_send(self, type_url: str) -> bool:
        if self.types[type_url].waiting:
            return False
        earlier = [self.types[url] for url in BEFORE.get(type_url, ()) if url in self.types]
        if any(state.waiting for state in earlier):
            return False
        if type_url not in (LISTENER, ROUTE) or CLUSTER not in self.types:
            return True
        clusters = self.types[CLUSTER]
        return clusters.refusal is None or not clusters.accepted_version

    def _response(self, type_url: str, state: TypeState) -> Response | None:
        """The response this type needs now, or None when the proxy already has everything."""
        target = self._target(type_url, state)
        if state.answered_once and state.sent.same(target):
            return None
        changed = target.changed_since(state.sent)
        if state.answered_once and not changed and type_url not in WHOLE:
            # Only removals, which EDS and RDS cannot express: the proxy drops them by itself.
            state.sent, state.accepted = target, state.accepted.without(state.accepted.keys() - target.keys())
            return None
        if type_url == CLUSTER and ENDPOINT in self.types:
            self.types[ENDPOINT].forget(name for cluster in changed for name in cluster.needs)
        if type_url in WHOLE or not state.answered_once:
            changed = tuple(target.values())
        self._nonces += 1
        state.sent, state.nonce, state.waiting = target, str(self._nonces), True
        state.sent_version, state.answered_once = target.version, True
        return Response(type_url, state.sent_version, state.nonce, tuple(one.packed for one in changed))

    def _target(self, type_url: str, state: TypeState) -> ResourceSet:
        """What the proxy should have of this type now: its snapshot's, and what its present routes still need."""
        assert self.snapshot is not None
        target = state.select(self.snapshot.resources(type_url))
        if type_url not in (CLUSTER, ENDPOINT):
            return target
        has = state.accepted if type_url == CLUSTER else state.sent
        kept = has.keys() - target.keys()
        if not kept or (self.is_current(LISTENER) and self.is_current(ROUTE)):
            return target
        return ResourceSet({**{name: has[name] for name in sorted(kept)}, **target})


def _acknowledge(state: TypeState, request: Request) -> None:
    """Take the request as the answer to the last response. A repeated answer changes nothing."""
    if not state.waiting:
        return
    state.waiting = False
    if request.error:
        state.refusal = Refusal(state.sent_version, request.error)
    else:
        state.refusal = None
        state.accepted, state.accepted_version = state.sent, state.sent_version


def _subscribe(state: TypeState, request: Request) -> None:
    """Take over the subscription. No names in a first request for CDS or LDS mean all there are, and go on
    meaning it; after names have been given, they mean none (xDS protocol, "How the client specifies what
    resources to return").
    """
    wildcard = "*" in request.names or (
        not request.names and (state.wanted is None or not state.answered_once)
    )
    wanted = None if request.type_url in WHOLE and wildcard else frozenset(request.names)
    if wanted != state.wanted:
        state.wanted = wanted
        if wanted is not None:
            state.forget((state.sent.keys() | state.accepted.keys()) - wanted)
