"""The stream to the control plane: one ADS call over gRPC, opened again whenever it breaks.

First of all steps: without it there is no listener. `subscription` decides what to say; here it is said. While
the control plane is away the last good configuration goes on working.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from random import random

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from mesh.ca.protocol import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from mesh.proxy import rpc
from mesh.proxy.identity import CaError
from mesh.proxy.resolve import addresses
from mesh.proxy.rpc import RpcError
from mesh.proxy.subscription import Subscription

log = logging.getLogger(__name__)

FIRST_RETRY = 0.1
LONGEST_RETRY = 10.0
"""Seconds between attempts to reach the control plane; doubled each time, with jitter."""
CONNECT_SECONDS = 10.0

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"


class Upstream:
    """How to reach a gRPC service of the mesh: `host:port`, its certificate's name, our token.

    Without a root certificate (`root` None) the connection is in plain text: for tests and debugging.
    """

    def __init__(self, address: str, name: str, root: Path | None, token: Path | None) -> None:
        self.address = address
        self.name = name
        self.root = root
        self.token = token

    async def channel(self) -> rpc.Channel:
        """A new connection. Raises OSError if the name, the root certificate or the service is not there (yet)."""
        host, _, port = self.address.rpartition(":")
        found = await addresses(host, int(port))
        tls = rpc.client_tls(self.root.read_text()) if self.root is not None else None
        return await rpc.connect(*found[0], tls, self.name, CONNECT_SECONDS)

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
        except (RpcError, OSError) as error:
            reason = str(error) or type(error).__name__
        failures = 0 if subscription.accepted > accepted else failures + 1
        wait = min(FIRST_RETRY * 2.0**failures, LONGEST_RETRY) * (0.5 + random() / 2)
        log.warning("xds: %s: %s; again in %.1f s", upstream.address, reason, wait)
        await asyncio.sleep(wait)


async def _stream(upstream: Upstream, node: base_pb2.Node, subscription: Subscription) -> None:
    """One stream, until it ends. Raises RpcError, OSError."""
    async with await upstream.channel() as channel:
        call = channel.call(ADS, upstream.metadata())
        requests = subscription.begin()
        requests[0].node.CopyFrom(node)
        for request in requests:
            await call.write(request.SerializeToString())
        log.info("xds: connected to %s", upstream.address)
        subscription.connected = True
        try:
            while (message := await call.read()) is not None:
                response = discovery_pb2.DiscoveryResponse.FromString(message)
                for request in subscription.answer(response):
                    await call.write(request.SerializeToString())
        finally:
            subscription.connected = False


class CaClient:
    """Asks the CA to sign (`istio.v1.auth.IstioCertificateService`)."""

    def __init__(self, upstream: Upstream, life_seconds: float = 0.0) -> None:
        self._upstream = upstream
        self._life = int(life_seconds)

    async def __call__(self, csr: str) -> list[str]:
        """The signed chain, root last. Raises CaError, OSError."""
        request = CertificateRequest(csr=csr, validity_duration=self._life)
        try:
            async with asyncio.timeout(CONNECT_SECONDS), await self._upstream.channel() as channel:
                call = channel.call(CREATE_CERTIFICATE, self._upstream.metadata())
                answer = await call.ask(request.SerializeToString())
        except RpcError as error:
            raise CaError(str(error)) from error
        response = CertificateResponse.FromString(answer)
        chain = list(response.cert_chain)
        if len(chain) < 2:
            raise CaError("the CA's answer has no chain")
        return chain
