"""The last requests one by one, for whoever asks "which request was that, and what became of it?"."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry

from mesh.telemetry.attributes import Labels

KEPT = 500


class Timing(NamedTuple):
    """When a request began (seconds since the epoch) and how long it took (milliseconds)."""

    start: float
    duration_ms: float

    @property
    def end(self) -> float:
        """When it ended, in seconds since the epoch."""
        return self.start + self.duration_ms / 1000


class Request(NamedTuple):
    """What is kept of one request."""

    labels: Labels
    timing: Timing
    method: str
    authority: str
    path: str
    request_id: str
    user_agent: str
    route_name: str
    upstream_cluster: str
    upstream_address: str
    details: str
    request_bytes: int
    response_bytes: int

    def as_json(self) -> dict[str, Any]:
        """As the query API tells it."""
        told = self._asdict()
        del told["labels"], told["timing"]
        return {
            "start": round(self.timing.start, 6),
            "duration_ms": round(self.timing.duration_ms, 3),
            **self.labels._asdict(),
            **told,
        }


def read_timing(entry: HTTPAccessLogEntry) -> Timing:
    """Start and duration; the duration is Envoy's own where it tells one, else the time to the last byte
    sent.
    """
    common = entry.common_properties
    for name in ("duration", "time_to_last_downstream_tx_byte", "time_to_last_upstream_rx_byte"):
        if common.HasField(name):
            took = getattr(common, name)
            duration_ms = took.seconds * 1000 + took.nanos / 1e6
            break
    else:
        duration_ms = 0.0
    return Timing(common.start_time.seconds + common.start_time.nanos / 1e9, duration_ms)


def read_request(entry: HTTPAccessLogEntry, labels: Labels, timing: Timing) -> Request:
    """What is kept of an entry."""
    common, request, response = entry.common_properties, entry.request, entry.response
    upstream = common.upstream_remote_address.socket_address
    return Request(
        labels=labels,
        timing=timing,
        method=RequestMethod.Name(request.request_method),
        authority=request.authority,
        path=request.path,
        request_id=request.request_id,
        user_agent=request.user_agent,
        route_name=common.route_name,
        upstream_cluster=common.upstream_cluster,
        upstream_address=f"{upstream.address}:{upstream.port_value}" if upstream.address else "",
        details=response.response_code_details,
        request_bytes=request.request_headers_bytes + request.request_body_bytes,
        response_bytes=response.response_headers_bytes + response.response_body_bytes,
    )


class Recent:
    """The last 500 requests."""

    def __init__(self, kept: int = KEPT) -> None:
        self._requests: deque[Request] = deque(maxlen=kept)

    def add(self, request: Request) -> None:
        """Keep one more, forget the oldest."""
        self._requests.append(request)

    def last(self, limit: int, where: Mapping[str, Sequence[str]]) -> list[Request]:
        """Up to `limit` requests, newest first, that have for each name in `where` one of its values. Names
        are those of labels, and `request_id`.
        """
        found: list[Request] = []
        for request in reversed(self._requests):
            if len(found) == limit:
                break
            if all(_value(request, name) in values for name, values in where.items()):
                found.append(request)
        return found


def _value(request: Request, name: str) -> str:
    return str(request.request_id if name == "request_id" else getattr(request.labels, name))
