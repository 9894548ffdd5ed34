"""Takes what proxies report: the server side of Envoy's access log service.

A proxy opens one stream for each of its loggers, says who it is in the first message, and from then on
sends batches of finished requests (every 0.2 s as our control plane configures it). Nothing is answered
before the end.

Source: envoy.service.accesslog.v3.AccessLogService.StreamAccessLogs.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse

from mesh.telemetry.attributes import Reporter, read_reporter

log = logging.getLogger(__name__)

SERVICE = "envoy.service.accesslog.v3.AccessLogService"

Take = Callable[[Reporter, Sequence[HTTPAccessLogEntry]], None]


def handler(take: Take) -> "grpc.GenericRpcHandler[Any, Any]":
    """What to add to a grpc.aio server: calls `take` for each batch of entries."""

    async def stream_access_logs(
        messages: AsyncIterator[StreamAccessLogsMessage], context: Any
    ) -> StreamAccessLogsResponse:
        reporter: Reporter | None = None
        async for message in messages:
            if message.HasField("identifier"):
                reporter = read_reporter(message.identifier.node, message.identifier.log_name)
                log.info("%s reports as %s", message.identifier.node.id, reporter.log_name)
            if reporter is None:
                context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
                context.set_details("the first message of a stream needs an identifier")
                break
            take(reporter, message.http_logs.log_entry)
        return StreamAccessLogsResponse()

    method = grpc.stream_unary_rpc_method_handler(
        stream_access_logs,
        request_deserializer=StreamAccessLogsMessage.FromString,
        response_serializer=StreamAccessLogsResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": method})


async def start_server(take: Take, address: str, port: int) -> tuple[grpc.aio.Server, int]:
    """A server that listens in plaintext, and its port (chosen by the system for port 0).

    Raises OSError when the port is taken.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler(take),))
    try:
        bound = server.add_insecure_port(f"{address}:{port}")
    except RuntimeError as error:
        raise OSError(f"the access log service cannot listen on {address}:{port}: {error}") from error
    await server.start()
    return server, bound
