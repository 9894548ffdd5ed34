"""The control plane's own certificate for its TLS ports, signed by the mesh CA and renewed at half its life.

Proxies know the control plane by the name in it, the API server checks it with the webhooks' CA bundle.
Renewal changes what the next handshake gets; connections stay.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.ca.issue import issue_server
from mesh.ca.root import Root, key_pem
from mesh.ca.rotate import renew_at

log = logging.getLogger(__name__)


def server_names(namespace: str) -> list[str]:
    """Every DNS name under which a cluster finds the control plane."""
    service = "mesh-control"
    return [
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        f"{service}.{namespace}",
        service,
        "localhost",
    ]


class ServingCertificate:
    """A key and a chain that stay fresh while `run` runs."""

    def __init__(self, root: Root, names: Sequence[str], life: timedelta) -> None:
        self._root, self._names, self._life = root, names, life
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """For HTTPS servers; it is given every new certificate."""
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.renew()

    def renew(self) -> None:
        """Make a new key and have it signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._received = datetime.now(UTC)
        chain = issue_server(self._root, key.public_key(), self._names, self._life, self._received)
        self._key, self._chain = key_pem(key).encode(), "".join(chain).encode()
        _load(self.context, self._key, self._chain)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For gRPC servers; each handshake asks for the certificate anew."""

        def current() -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration([(self._key, self._chain)])

        return grpc.dynamic_ssl_server_credentials(current(), lambda: current())

    async def run(self) -> None:
        """Renew at half life, again and again, until cancelled."""
        while True:
            moment = renew_at(self._received, self._received + self._life, 0.0)
            await asyncio.sleep(max((moment - datetime.now(UTC)).total_seconds(), 0.1))
            self.renew()
            log.info("renewed the certificate of the control plane's own ports")


def _load(context: ssl.SSLContext, key: bytes, chain: bytes) -> None:
    """`ssl` takes files only: one that nobody else may read, gone as soon as it is read."""
    descriptor, name = tempfile.mkstemp(prefix="mesh-control-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + chain)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
