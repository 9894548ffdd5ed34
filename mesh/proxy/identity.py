"""This workload's own certificate: the key is made here and never leaves, the CA signs, half-way through its
life the next one is fetched.

First half of mutual TLS (`tls` is the second). A TLS context is made once for each certificate and each way
of using it; when the certificate changes, new connections get new contexts and those that are open go on, so
a rotation fails no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import random
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.ca.rotate import renew_at, retry_after
from mesh.proxy.tls import TlsSpec

log = logging.getLogger(__name__)

CERTIFICATE = "default"
ROOT = "ROOTCA"
"""Names of the two secrets, as Istio's TLS contexts ask for them by SDS."""
SYSTEM_ROOTS = "file-root:system"
"""Istio's name for the authorities that the operating system trusts."""
FILES = ("file-cert:", "file-root:")
"""How Istio names secrets that are files of the pod: `file-cert:CERTIFICATE~KEY`, `file-root:ROOTS`."""


class SecretMissing(Exception):
    """A TLS context needs a secret that has not come yet."""


class Context(ssl.SSLContext):
    """A TLS context that knows whose it is."""

    spiffe_uri = ""


class Certificate:
    """A certificate with its key. Immutable."""

    __slots__ = ("chain", "key", "not_after", "not_before", "root", "serial", "uri")

    def __init__(self, chain_pem: list[str], key_pem: bytes) -> None:
        """`chain_pem`: own certificate first, root last."""
        leaf = x509.load_pem_x509_certificate(chain_pem[0].encode())
        self.chain = "".join(chain_pem[:-1]) or chain_pem[0]
        self.root = chain_pem[-1]
        self.key = key_pem
        self.not_before = leaf.not_valid_before_utc
        self.not_after = leaf.not_valid_after_utc
        self.serial = f"{leaf.serial_number:x}"
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        self.uri = uris[0] if uris else ""


class Secrets:
    """The newest certificate and root, and the TLS contexts made from them.

    `changed` callbacks run when a certificate arrives.
    """

    def __init__(self) -> None:
        self.certificate: Certificate | None = None
        self._roots: str | None = None
        self._contexts: dict[tuple[object, ...], Context] = {}
        self.changed: list[Callable[[], None]] = []

    @property
    def uri(self) -> str:
        """Our SPIFFE URI, or "unknown" until there is a certificate."""
        return self.certificate.uri if self.certificate is not None else "unknown"

    def has(self, names: frozenset[str]) -> bool:
        """Whether all of these secrets are here."""
        have = {SYSTEM_ROOTS}
        if self.certificate is not None:
            have.add(CERTIFICATE)
        if self.roots is not None:
            have.add(ROOT)
        return {name for name in names if not name.startswith(FILES)} <= have

    @property
    def roots(self) -> str | None:
        """The roots to trust, in PEM: those mounted, and the one that came with the certificate."""
        if self._roots is not None:
            return self._roots
        return self.certificate.root if self.certificate is not None else None

    def set_certificate(self, certificate: Certificate) -> None:
        """Use this one from the next connection on."""
        self.certificate = certificate
        self._renewed()

    def set_roots(self, pem: str) -> None:
        """Trust these roots from the next connection on."""
        if pem != self._roots:
            self._roots = pem
            self._renewed()

    def _renewed(self) -> None:
        self._contexts.clear()
        for callback in self.changed:
            callback()

    def server_context(self, spec: TlsSpec, require_certificate: bool) -> Context:
        """For a listener. Raises SecretMissing."""
        key = ("server", require_certificate, *spec.key)
        context = self._contexts.get(key)
        if context is None:
            context = self._build(ssl.PROTOCOL_TLS_SERVER, spec)
            if require_certificate:
                context.verify_mode = ssl.CERT_REQUIRED
            self._contexts[key] = context
        return context

    def client_context(self, spec: TlsSpec) -> Context:
        """For a cluster. Raises SecretMissing."""
        key = ("client", *spec.key)
        context = self._contexts.get(key)
        if context is None:
            context = self._build(ssl.PROTOCOL_TLS_CLIENT, spec)
            self._contexts[key] = context
        return context

    def _build(self, side: int, spec: TlsSpec) -> Context:
        if not self.has(spec.secrets):
            raise SecretMissing(f"TLS needs {', '.join(sorted(spec.secrets))}, and the CA has not signed yet")
        context = Context(side)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = spec.minimum
        context.maximum_version = spec.maximum
        if spec.ciphers:
            context.set_ciphers(spec.ciphers)
        if spec.alpn:
            context.set_alpn_protocols(list(spec.alpn))
        if spec.root:
            if spec.root == SYSTEM_ROOTS:
                context.load_default_certs()
            elif spec.root.startswith(FILES):
                context.load_verify_locations(_file(spec.root.partition(":")[2]))
            elif self.roots is not None:
                context.load_verify_locations(cadata=self.roots)
            if side == ssl.PROTOCOL_TLS_CLIENT:
                context.verify_mode = ssl.CERT_REQUIRED
        if spec.certificate.startswith(FILES):
            certificate, _, key = spec.certificate.partition(":")[2].partition("~")
            context.load_cert_chain(_file(certificate), _file(key))
        elif spec.certificate and self.certificate is not None:
            _load(context, self.certificate)
            context.spiffe_uri = self.certificate.uri
        return context


def _file(path: str) -> Path:
    """A file of the pod's. Raises SecretMissing if it is not there."""
    found = Path(os.environ.get("CONTAINER_SANDBOX_MOUNT_POINT", "") + path)
    if not found.is_file():
        raise SecretMissing(f"TLS needs the file {path}, which is not there")
    return found


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Give OpenSSL the key. It only takes files: one that has no name where the system can do that, else one
    that only we can read and that is gone right after.
    """
    pem = certificate.key + certificate.chain.encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("workload-certificate", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            with contextlib.suppress(FileNotFoundError):
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
                return
    with tempfile.TemporaryDirectory(prefix="mesh-") as directory:
        path = Path(directory) / "certificate.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        context.load_cert_chain(path)


Sign = Callable[[str], Awaitable[list[str]]]
"""Sends a CSR (PEM) to the CA and returns the chain (PEM), root last."""


class CaError(Exception):
    """The CA did not sign; the message says why."""


class Signer(Protocol):
    async def __call__(self, csr: str) -> list[str]: ...


def new_key_and_request() -> tuple[bytes, str]:
    """A fresh key (PEM; ECDSA P-256) and the CSR for it. The CA puts the name in, not we."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mesh")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, csr.public_bytes(serialization.Encoding.PEM).decode()


async def keep_renewed(secrets: Secrets, sign: Signer) -> None:
    """Fetch a certificate, and the next one half-way through its life, for ever."""
    failures = 0
    while True:
        try:
            key, csr = new_key_and_request()
            chain = await sign(csr)
            certificate = Certificate(chain, key)
        except (CaError, OSError, ValueError, x509.ExtensionNotFound) as error:
            failures += 1
            left = _left(secrets)
            wait = retry_after(failures, left)
            log.warning("identity: no certificate from the CA: %s; trying again in %.1f s", error, wait)
            await asyncio.sleep(wait)
            continue
        failures = 0
        secrets.set_certificate(certificate)
        now = datetime.now(UTC)
        due = renew_at(now, certificate.not_after, random())
        log.info("identity: %s until %s", certificate.uri, certificate.not_after.isoformat())
        await asyncio.sleep(max((due - now).total_seconds(), 0.05))


def _left(secrets: Secrets) -> timedelta:
    if secrets.certificate is None:
        return timedelta(minutes=10)
    return max(secrets.certificate.not_after - datetime.now(UTC), timedelta(0))
