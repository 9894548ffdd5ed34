"""The gRPC side of xDS: one task a proxy that reads requests, one that writes responses, nothing else.

Last in the order a config change takes. Who may ask for what is decided here: a proxy shows its
service-account token, and the node it claims to be must be the workload the token belongs to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from mesh.ca.caller import Authenticate, Caller, UnauthenticatedError, bearer_token
from mesh.control.publish import Publisher
from mesh.control.stream import Request, Response
from mesh.control.world import Proxy

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
"""A taken port is an error, not shared; a proxy that has vanished is noticed within 40 s."""


class ImpostorError(Exception):
    """A node that claims to be another workload than its token says."""


def check_node(proxy: Proxy, caller: Caller) -> None:
    """Hold what the node says of itself against its token. Raises ImpostorError."""
    claims = (
        ("namespace", proxy.namespace, caller.identity.namespace),
        ("service account", proxy.service_account, caller.identity.service_account),
        ("pod", proxy.pod_name, caller.pod or proxy.pod_name),
    )
    for what, claimed, own in claims:
        if claimed != own:
            raise ImpostorError(f"node {proxy.id!r} claims {what} {claimed!r}, but its token is of {own!r}")


def read(request: DiscoveryRequest) -> Request:
    """The part of a request the state machine needs."""
    error = ""
    if request.HasField("error_detail"):
        error = request.error_detail.message or "refused without a reason"
    return Request(
        request.type_url,
        tuple(request.resource_names),
        request.response_nonce,
        request.version_info,
        error,
    )


class DiscoveryServer:
    """`AggregatedDiscoveryService` (state of the world). Without `authenticate`, everybody is believed:
    only for a plaintext port that nobody else can reach.
    """

    def __init__(self, publisher: Publisher, authenticate: Authenticate | None, identifier: str = "") -> None:
        self._publisher = publisher
        self._authenticate = authenticate
        self._identifier = identifier

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """To be added to a grpc.aio server."""
        method = grpc.stream_stream_rpc_method_handler(
            self.stream,
            request_deserializer=DiscoveryRequest.FromString,
            response_serializer=DiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": method})

    async def stream(self, requests: AsyncIterator[DiscoveryRequest], context: Any) -> None:
        """Serve one proxy until it goes."""
        try:
            caller = await self._caller(context)
            first = await anext(aiter(requests), None)
            if first is None:
                return
            proxy = Proxy.from_node(first.node)
            if caller is not None:
                check_node(proxy, caller)
        except UnauthenticatedError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except ImpostorError as error:
            log.warning("%s", error)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        await self._converse(proxy, first, requests, context)

    async def _caller(self, context: Any) -> Caller | None:
        if self._authenticate is None:
            return None
        return await self._authenticate(bearer_token(context.invocation_metadata() or ()))

    async def _converse(
        self, proxy: Proxy, first: DiscoveryRequest, requests: AsyncIterator[DiscoveryRequest], context: Any
    ) -> None:
        outbox: asyncio.Queue[Response] = asyncio.Queue()  # the state machine keeps it to one response a type
        connection = self._publisher.connect(proxy, outbox.put_nowait)
        log.info("%s has connected", connection.name)
        writer = asyncio.ensure_future(self._write(outbox, context))
        try:
            self._publisher.hear(connection, read(first))
            async for request in requests:
                self._publisher.hear(connection, read(request))
        finally:
            writer.cancel()
            self._publisher.disconnect(connection)
            log.info("%s has gone", connection.name)

    async def _write(self, outbox: asyncio.Queue[Response], context: Any) -> None:
        while True:
            response = await outbox.get()
            message = DiscoveryResponse(
                version_info=response.version,
                resources=response.resources,
                type_url=response.type_url,
                nonce=response.nonce,
            )
            message.control_plane.identifier = self._identifier
            await context.write(message)
