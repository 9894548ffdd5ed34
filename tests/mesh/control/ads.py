"""A small ADS client for tests: it says what it wants and waits for what comes. Also the token of a
workload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"


def node(
    pod: str, namespace: str, account: str, ip: str = "127.0.0.9", kind: str = "sidecar", **labels: str
) -> Node:
    """A node as our sidecar and Istio's agent write it."""
    made = Node(id=f"{kind}~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    made.metadata.update(
        {
            "NAME": pod,
            "NAMESPACE": namespace,
            "SERVICE_ACCOUNT": account,
            "LABELS": labels,
            "APP_ADDRESS": "127.0.0.1",
            "INTERCEPTION_MODE": "NONE",
        }
    )
    return made


class Ads:
    """One stream. `ask` subscribes, `next` waits for a response (or None), `ack` and `nack` answer it."""

    def __init__(self, call: Any, own: Node) -> None:
        self._call, self._node, self.names = call, own, {}  # type: ignore[var-annotated]

    async def ask(self, type_url: str, *names: str) -> None:
        self.names[type_url] = names
        await self._call.write(DiscoveryRequest(node=self._node, type_url=type_url, resource_names=names))

    async def next(self, within: float = 10.0) -> DiscoveryResponse:
        return await asyncio.wait_for(self._call.read(), within)

    async def refused(self, type_url: str) -> tuple[grpc.StatusCode, str]:
        """Ask for something on a stream that the server ends; how it ends it."""
        with suppress(grpc.aio.AioRpcError):  # a write may come before or after the end
            await self.ask(type_url)
            await self.next()
        return await self._call.code(), await self._call.details()

    async def ack(self, response: DiscoveryResponse, *names: str) -> None:
        self.names[response.type_url] = names or self.names[response.type_url]
        await self._call.write(
            DiscoveryRequest(
                type_url=response.type_url,
                version_info=response.version_info,
                response_nonce=response.nonce,
                resource_names=self.names[response.type_url],
            )
        )

    async def nack(self, response: DiscoveryResponse, reason: str) -> None:
        request = DiscoveryRequest(
            type_url=response.type_url,
            response_nonce=response.nonce,
            resource_names=self.names[response.type_url],
        )
        request.error_detail.message = reason
        await self._call.write(request)


@asynccontextmanager
async def ads(target: str, own: Node, root_pem: str = "", token: str = "") -> AsyncIterator[Ads]:
    """An open stream; in plaintext and without a token when no root is given."""
    options = (
        ("grpc.ssl_target_name_override", "mesh-control.mesh-system.svc"),
        ("grpc.enable_http_proxy", 0),
    )
    if root_pem:
        credentials = grpc.ssl_channel_credentials(root_pem.encode())
        channel = grpc.aio.secure_channel(target, credentials, options)
    else:
        channel = grpc.aio.insecure_channel(target, options)
    async with channel:
        method = channel.stream_stream(
            METHOD, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )
        call = method(metadata=(("authorization", f"Bearer {token}"),) if token else ())
        yield Ads(call, own)
        call.cancel()
