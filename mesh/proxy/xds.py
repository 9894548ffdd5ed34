"""The stream to the control plane: one ADS call over gRPC, opened again whenever it breaks.

First of all steps: without it there is no listener. `subscription` decides what to say; here it is said. While
the control plane is away the last good configuration goes on working.

grpc.aio rather than a blocking stub in a thread: measured in a forked process, it takes 1 MB less.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from random import random
from typing import Any

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc

from mesh.ca.protocol import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from mesh.proxy.identity import CaError
from mesh.proxy.resolve import addresses
from mesh.proxy.subscription import Subscription

log = logging.getLogger(__name__)

FIRST_RETRY = 0.1
LONGEST_RETRY = 10.0
"""Seconds between attempts to reach the control plane; doubled each time, with jitter."""
CONNECT_SECONDS = 10.0

_OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
]


class Upstream:
    """How to reach a gRPC service of the mesh: `host:port`, its certificate's name, our token.

    Without a root certificate (`root` None) the connection is in plain text: for tests and debugging.
    """

    def __init__(self, address: str, name: str, root: Path | None, token: Path | None) -> None:
        self.address = address
        self.name = name
        self.root = root
        self.token = token

    async def channel(self) -> grpc.aio.Channel:
        """A new channel. The name is resolved here, not in gRPC, which has a resolver of its own.

        Raises OSError if the name or the root certificate is not there (yet).
        """
        host, _, port = self.address.rpartition(":")
        found = await addresses(host, int(port))
        ip, number = found[0]
        target = f"ipv6:[{ip}]:{number}" if ":" in ip else f"ipv4:{ip}:{number}"
        if self.root is None:
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.root.read_bytes())
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", self.name)]
        return grpc.aio.secure_channel(target, credentials, options=options)

    def metadata(self) -> list[tuple[str, str]]:
        """The token, read anew each time: the kubelet replaces it before it runs out."""
        if self.token is None:
            return []
        return [("authorization", f"Bearer {self.token.read_text().strip()}")]


async def keep_subscribed(upstream: Upstream, node: base_pb2.Node, subscription: Subscription) -> None:
    """Hold the ADS stream open for ever."""
    failures = 0
    while True:
        accepted = subscription.accepted
        try:
            await _stream(upstream, node, subscription)
            reason = "the control plane ended the stream"
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
        except OSError as error:
            reason = str(error)
        failures = 0 if subscription.accepted > accepted else failures + 1
        wait = min(FIRST_RETRY * 2.0**failures, LONGEST_RETRY) * (0.5 + random() / 2)
        log.warning("xds: %s: %s; again in %.1f s", upstream.address, reason, wait)
        await asyncio.sleep(wait)


async def _stream(upstream: Upstream, node: base_pb2.Node, subscription: Subscription) -> None:
    """One stream, until it ends. Raises AioRpcError, OSError."""
    channel = await upstream.channel()
    async with channel:
        stub: Any = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        call = stub.StreamAggregatedResources(metadata=upstream.metadata(), wait_for_ready=False)
        requests = subscription.begin()
        requests[0].node.CopyFrom(node)
        for request in requests:
            await call.write(request)
        log.info("xds: connected to %s", upstream.address)
        subscription.connected = True
        try:
            async for response in call:
                for request in subscription.answer(response):
                    await call.write(request)
        finally:
            subscription.connected = False


class CaClient:
    """Asks the CA to sign (`istio.v1.auth.IstioCertificateService`)."""

    def __init__(self, upstream: Upstream, life_seconds: float = 0.0) -> None:
        self._upstream = upstream
        self._life = int(life_seconds)

    async def __call__(self, csr: str) -> list[str]:
        """The signed chain, root last. Raises CaError, OSError."""
        channel = await self._upstream.channel()
        async with channel:
            call: Any = channel.unary_unary(
                CREATE_CERTIFICATE,
                request_serializer=CertificateRequest.SerializeToString,
                response_deserializer=CertificateResponse.FromString,
            )
            request = CertificateRequest(csr=csr, validity_duration=self._life)
            try:
                response = await call(request, metadata=self._upstream.metadata(), timeout=CONNECT_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise CaError(f"{error.code().name}: {error.details()}") from error
        chain = list(response.cert_chain)
        if len(chain) < 2:
            raise CaError("the CA's answer has no chain")
        return chain
