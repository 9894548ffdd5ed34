"""One finished request as an entry of Envoy's access log service (`HTTPAccessLogEntry`).

Made off the path of the request, by `access_log`. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2

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


def http_entry(exchange: Exchange, headers: Sequence[bytes] = ()) -> accesslog_pb2.HTTPAccessLogEntry:
    """What Envoy would log about a request; `headers` are those to log beyond the usual."""
    found = _Entry(protocol_version=_Entry.HTTP11 if exchange.http11 else _Entry.HTTP10)
    common = found.common_properties
    _common(common, exchange.conn, exchange.began_at, exchange.duration)
    _upstream(common, exchange.cluster, exchange.endpoint)
    _flags(common, exchange.flags)
    if exchange.route is not None:
        common.route_name = exchange.route.name
    _request(found.request, exchange)
    for name in headers:
        value = _logged(exchange, name)
        if value is not None:
            found.request.request_headers[name.decode()] = value.decode("latin-1")
    response = found.response
    response.response_code.value = exchange.code
    response.response_body_bytes = exchange.response_bytes
    response.response_code_details = exchange.details
    return found


def tcp_entry(connection: ClientConnection) -> accesslog_pb2.TCPAccessLogEntry:
    """What Envoy would log about a connection that is not HTTP."""
    found = accesslog_pb2.TCPAccessLogEntry()
    _common(found.common_properties, connection, connection.began_at, connection.duration)
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


def _common(
    common: accesslog_pb2.AccessLogCommon,
    conn: ServerConnection | ClientConnection,
    began_at: float,
    duration: float,
) -> None:
    _address(common.downstream_remote_address, conn.remote)
    _address(common.downstream_direct_remote_address, conn.remote)
    _address(common.downstream_local_address, conn.local)
    common.start_time.seconds = int(began_at)
    common.start_time.nanos = int(began_at % 1.0 * 1e9)
    for field in (common.time_to_last_downstream_tx_byte, common.duration):
        field.seconds = int(duration)
        field.nanos = int(duration % 1.0 * 1e9)
    if conn.tls:
        _tls(common.tls_properties, conn)


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


def _request(request: accesslog_pb2.HTTPRequestProperties, exchange: Exchange) -> None:
    request.request_method = _METHODS.get(exchange.method, 0)
    request.scheme = (exchange.forwarded_proto or b"").decode("latin-1")
    request.authority = exchange.authority.decode("latin-1")
    request.path = (exchange.original_target or exchange.target).decode("latin-1")
    if exchange.request_id is not None:
        request.request_id = exchange.request_id.decode("latin-1")
    agent = exchange.header(b"user-agent")
    if agent is not None:
        request.user_agent = agent.decode("latin-1")
    request.request_body_bytes = exchange.request_bytes


def _address(message: Any, address: tuple[str, int]) -> None:
    message.socket_address.address = address[0]
    message.socket_address.port_value = address[1]
