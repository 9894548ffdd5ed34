"""One finished request as an entry of Envoy's access log service (`HTTPAccessLogEntry`).

Made off the path of the request, by `access_log`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2

from mesh.proxy.reply import Flag

if TYPE_CHECKING:
    from mesh.proxy.cluster import Cluster, Endpoint
    from mesh.proxy.codec import ServerConnection
    from mesh.proxy.exchange import Exchange
    from mesh.proxy.tcp import ClientConnection

_FLAGS = {
    Flag.NO_ROUTE: "no_route_found",
    Flag.NO_CLUSTER: "no_cluster_found",
    Flag.NO_HEALTHY_UPSTREAM: "no_healthy_upstream",
    Flag.CONNECT_FAILURE: "upstream_connection_failure",
    Flag.OVERFLOW: "upstream_overflow",
    Flag.UPSTREAM_TIMEOUT: "upstream_request_timeout",
    Flag.UPSTREAM_RESET: "upstream_remote_reset",
    Flag.UPSTREAM_CLOSED: "upstream_connection_termination",
    Flag.UPSTREAM_PROTOCOL_ERROR: "upstream_protocol_error",
    Flag.RETRIES_EXHAUSTED: "upstream_retry_limit_exceeded",
    Flag.DELAY_INJECTED: "delay_injected",
    Flag.FAULT_INJECTED: "fault_injected",
    Flag.RATE_LIMITED: "rate_limited",
    Flag.DOWNSTREAM_GONE: "downstream_connection_termination",
    Flag.DOWNSTREAM_PROTOCOL_ERROR: "downstream_protocol_error",
    Flag.STREAM_IDLE_TIMEOUT: "stream_idle_timeout",
}
_METHODS = {name.encode(): number for name, number in base_pb2.RequestMethod.items()}
_Entry = accesslog_pb2.HTTPAccessLogEntry


def add_http_entries(
    message: als_pb2.StreamAccessLogsMessage, batch: Sequence[Exchange], headers: Sequence[bytes] = ()
) -> None:
    """Put into `message` what Envoy would log about these requests; `headers` are those to log beyond the usual.

    Requests of a batch that went the same way differ in little: that way is written once and copied, which
    halves the cost of an entry.
    """
    alike: dict[tuple[object, ...], accesslog_pb2.HTTPAccessLogEntry] = {}
    for exchange in batch:
        agent = exchange.header(b"user-agent")
        key = (
            exchange.conn,
            exchange.route,
            exchange.endpoint,
            exchange.cluster,
            exchange.code,
            exchange.flags,
            exchange.details,
            exchange.method,
            exchange.authority,
            exchange.http11,
            agent,
        )
        common_part = alike.get(key)
        if common_part is None:
            common_part = alike[key] = _way(exchange, agent)
        entry = message.http_logs.log_entry.add()
        entry.CopyFrom(common_part)
        _differences(entry, exchange, headers)


def _way(exchange: Exchange, agent: bytes | None) -> accesslog_pb2.HTTPAccessLogEntry:
    """What requests that went the same way have in common."""
    found = _Entry(protocol_version=_Entry.HTTP11 if exchange.http11 else _Entry.HTTP10)
    common, request = found.common_properties, found.request
    _connection(common, exchange.conn)
    _upstream(common, exchange.cluster, exchange.endpoint)
    _flags(common, exchange.flags)
    if exchange.route is not None:
        common.route_name = exchange.route.name
    request.request_method = _METHODS.get(exchange.method, 0)
    request.scheme = (exchange.forwarded_proto or b"").decode("latin-1")
    request.authority = exchange.authority.decode("latin-1")
    if agent is not None:
        request.user_agent = agent.decode("latin-1")
    found.response.response_code.value = exchange.code
    found.response.response_code_details = exchange.details
    return found


def _differences(
    entry: accesslog_pb2.HTTPAccessLogEntry, exchange: Exchange, headers: Sequence[bytes]
) -> None:
    """What is each request's own: times, path, sizes, id, headers."""
    _times(entry.common_properties, exchange.began_at, exchange.duration)
    request = entry.request
    request.path = exchange.target.decode("latin-1")
    original = exchange.header(b"x-envoy-original-path")
    if original is not None:
        request.original_path = original.decode("latin-1")
    if exchange.request_id is not None:
        request.request_id = exchange.request_id.decode("latin-1")
    if exchange.request_bytes:
        request.request_body_bytes = exchange.request_bytes
    for name in headers:
        value = _logged(exchange, name)
        if value is not None:
            request.request_headers[name.decode()] = value.decode("latin-1")
    entry.response.response_body_bytes = exchange.response_bytes


def tcp_entry(connection: ClientConnection) -> accesslog_pb2.TCPAccessLogEntry:
    """What Envoy would log about a connection that is not HTTP."""
    found = accesslog_pb2.TCPAccessLogEntry()
    _connection(found.common_properties, connection)
    _times(found.common_properties, connection.began_at, connection.duration)
    _upstream(found.common_properties, connection.cluster, connection.endpoint)
    _flags(found.common_properties, connection.flags)
    found.connection_properties.received_bytes = connection.bytes_received
    found.connection_properties.sent_bytes = connection.bytes_sent
    return found


def _logged(exchange: Exchange, name: bytes) -> bytes | None:
    """A request header as it came; what a peer says of itself is kept apart."""
    if name == b"x-envoy-peer-metadata":
        return exchange.peer_claim
    if name == b"x-envoy-peer-metadata-id":
        return exchange.peer_id
    return exchange.header(name)


def _connection(common: accesslog_pb2.AccessLogCommon, conn: ServerConnection | ClientConnection) -> None:
    _address(common.downstream_remote_address, conn.remote)
    _address(common.downstream_direct_remote_address, conn.remote)
    _address(common.downstream_local_address, conn.local)
    if conn.tls:
        _tls(common.tls_properties, conn)


def _times(common: accesslog_pb2.AccessLogCommon, began_at: float, duration: float) -> None:
    """Seconds since the epoch, and seconds."""
    common.start_time.seconds = int(began_at)
    common.start_time.nanos = int(began_at % 1.0 * 1e9)
    seconds, nanos = int(duration), int(duration % 1.0 * 1e9)
    for field in (common.time_to_last_downstream_tx_byte, common.duration):
        field.seconds = seconds
        field.nanos = nanos


def _upstream(
    common: accesslog_pb2.AccessLogCommon, cluster: Cluster | None, endpoint: Endpoint | None
) -> None:
    if cluster is not None:
        common.upstream_cluster = cluster.name
    if endpoint is not None:
        _address(common.upstream_remote_address, endpoint.address)


def _flags(common: accesslog_pb2.AccessLogCommon, flags: str) -> None:
    for flag in flags.split(",") if flags else ():
        setattr(common.response_flags, _FLAGS[flag], True)


def _tls(properties: accesslog_pb2.TLSProperties, conn: ServerConnection | ClientConnection) -> None:
    properties.tls_sni_hostname = conn.server_name.decode("latin-1")
    peer = conn.peer
    if peer is not None:
        for uri in peer.uris:
            properties.peer_certificate_properties.subject_alt_name.add(uri=uri)
        properties.peer_certificate_properties.subject = peer.subject
    if conn.own_uri:
        properties.local_certificate_properties.subject_alt_name.add(uri=conn.own_uri)


def _address(message: Any, address: tuple[str, int]) -> None:
    message.socket_address.address = address[0]
    message.socket_address.port_value = address[1]
