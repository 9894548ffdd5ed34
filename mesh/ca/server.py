"""The CA's gRPC service: authenticate the caller, let `issue` decide, answer.

Runs on the control plane's xDS port (15012), as in istiod. The private key never comes here: the workload
makes it and sends only a signing request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc

from mesh.ca.caller import Authenticate, UnauthenticatedError, bearer_token
from mesh.ca.issue import Lifetimes, RefusedError, issue
from mesh.ca.protocol import SERVICE, CertificateRequest, CertificateResponse
from mesh.ca.root import Root

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class CertificateService:
    """`istio.v1.auth.IstioCertificateService`. Counts what it does in `issued` and `refused`."""

    root: Root
    authenticate: Authenticate
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    now: Callable[[], datetime] = _now
    issued: int = 0
    refused: int = 0

    async def create_certificate(self, request: CertificateRequest, context: Any) -> CertificateResponse:
        """Sign the caller's key for the caller's own identity; the status says whose fault a refusal is."""
        try:
            caller = await self.authenticate(bearer_token(context.invocation_metadata() or ()))
            life = self.lifetimes.grant(request.validity_duration)
            chain = issue(self.root, request.csr, caller.identity, life, self.now())
        except UnauthenticatedError as error:
            self.refused += 1
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except RefusedError as error:
            self.refused += 1
            log.warning("certificate refused: %s", error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self.issued += 1
        log.info("issued a certificate for %s, good for %s", caller.identity.uri, life)
        return CertificateResponse(cert_chain=chain)

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """To be added to a grpc.aio server."""
        method = grpc.unary_unary_rpc_method_handler(
            self.create_certificate,
            request_deserializer=CertificateRequest.FromString,
            response_serializer=CertificateResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"CreateCertificate": method})
