"""The CA over real gRPC: what a workload gets, and what each kind of bad request is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca.caller import Caller, UnauthenticatedError
from mesh.ca.identity import Identity
from mesh.ca.issue import Lifetimes
from mesh.ca.protocol import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from mesh.ca.root import new_root
from mesh.ca.server import CertificateService

REVIEWS = Identity("cluster.local", "default", "bookinfo-reviews")


async def authenticate(token: str) -> Caller:
    if token != "good":
        raise UnauthenticatedError("the token is not accepted: bad signature")
    return Caller(REVIEWS)


@pytest.fixture
async def ca() -> AsyncIterator[tuple[CertificateService, Any]]:
    """A running CA, and the call to it."""
    lifetimes = Lifetimes(timedelta(hours=24), timedelta(hours=48))
    service = CertificateService(new_root("cluster.local", datetime.now(UTC)), authenticate, lifetimes)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", (("grpc.enable_http_proxy", 0),)) as channel:
        yield (
            service,
            channel.unary_unary(
                CREATE_CERTIFICATE, CertificateRequest.SerializeToString, CertificateResponse.FromString
            ),
        )
    await server.stop(None)


def csr(*uris: str) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


GOOD = (("authorization", "Bearer good"),)


async def test_a_workload_gets_its_own_identity_for_the_life_it_asks_for(ca: Any) -> None:
    service, call = ca
    response = await call(CertificateRequest(csr=csr(), validity_duration=5), metadata=GOOD)
    leaf = x509.load_pem_x509_certificate(response.cert_chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [REVIEWS.uri]
    assert timedelta(0) < leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(seconds=5)
    assert response.cert_chain[-1] == service.root.certificate_pem
    assert (service.issued, service.refused) == (1, 0)


@pytest.mark.parametrize(
    ("request_", "metadata", "code", "said"),
    [
        ({"csr": csr()}, (), grpc.StatusCode.UNAUTHENTICATED, "no bearer token"),
        (
            {"csr": csr()},
            (("authorization", "Bearer bad"),),
            grpc.StatusCode.UNAUTHENTICATED,
            "bad signature",
        ),
        ({"csr": "x"}, GOOD, grpc.StatusCode.INVALID_ARGUMENT, "not a certificate signing request"),
        (
            {"csr": csr("spiffe://cluster.local/ns/default/sa/admin")},
            GOOD,
            grpc.StatusCode.INVALID_ARGUMENT,
            "its sender is spiffe://cluster.local/ns/default/sa/bookinfo-reviews",
        ),
        ({"csr": csr(), "validity_duration": -1}, GOOD, grpc.StatusCode.INVALID_ARGUMENT, "must be positive"),
        (
            {"csr": csr(), "validity_duration": 10**9},
            GOOD,
            grpc.StatusCode.INVALID_ARGUMENT,
            "at most 172800 s",
        ),
    ],
)
async def test_a_bad_request_is_told_whose_fault_it_is(
    ca: Any, request_: dict[str, Any], metadata: Any, code: grpc.StatusCode, said: str
) -> None:
    service, call = ca
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(CertificateRequest(**request_), metadata=metadata)
    assert caught.value.code() is code
    assert said in (caught.value.details() or "")
    assert (service.issued, service.refused) == (0, 1)
