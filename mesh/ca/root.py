"""The mesh's root of trust: one self-signed certificate and its key, kept in the Secret `istio-ca-secret`.

Whoever reads this Secret can be anybody in the mesh; only the control plane's service account may. The
Secret is the single source: every replica of the control plane tries to create it, the API server lets one
win, all read the winner's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECRET_NAME = "istio-ca-secret"
SECRET_TYPE = "istio.io/ca-root"
ROOT_LIFE = timedelta(days=3650)
"""Ten years, as Istio's self-signed root: whoever wants another policy brings a root of his own in the same
Secret.
"""

CERTIFICATE_KEY = "ca-cert.pem"
PRIVATE_KEY_KEY = "ca-key.pem"


class RootError(ValueError):
    """The stored root cannot be used; the message names the Secret's key and the fix."""


@dataclass(frozen=True)
class Root:
    """The signing key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def certificate_pem(self) -> str:
        """What the whole mesh trusts; public."""
        return pem(self.certificate)


def pem(certificate: x509.Certificate) -> str:
    """A certificate in PEM (RFC 7468)."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key in PEM (PKCS #8), unencrypted: for the Secret and for servers that take files."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def new_root(trust_domain: str, now: datetime) -> Root:
    """A fresh self-signed root, ECDSA P-256, for this trust domain."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    start = now.astimezone(UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(minutes=2))
        .not_valid_after(start + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Root(key, certificate)


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


def to_secret(root: Root, namespace: str) -> dict[str, Any]:
    """The Secret that keeps this root; the keys are those of Istio's self-signed CA."""
    data = {CERTIFICATE_KEY: root.certificate_pem, PRIVATE_KEY_KEY: key_pem(root.key)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET_NAME, "namespace": namespace},
        "type": SECRET_TYPE,
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
    }


def from_secret(data: Mapping[str, str] | None) -> Root:
    """The root in a Secret's `data` (base64 values). Raises RootError if it is damaged."""
    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode((data or {})[CERTIFICATE_KEY]))
        key = serialization.load_pem_private_key(
            base64.b64decode((data or {})[PRIVATE_KEY_KEY]), password=None
        )
    except (KeyError, ValueError, TypeError) as error:
        raise RootError(
            f"Secret {SECRET_NAME}: no usable {CERTIFICATE_KEY} and {PRIVATE_KEY_KEY} ({error}); "
            "delete the Secret to have a new root made"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise RootError(
            f"Secret {SECRET_NAME}: {PRIVATE_KEY_KEY} is not the ECDSA key of {CERTIFICATE_KEY}; "
            "delete the Secret to have a new root made"
        )
    return Root(key, certificate)


class Secrets(Protocol):
    """The two calls on Secrets that keeping a root needs."""

    async def create_secret(self, secret: dict[str, Any]) -> bool:
        """Create it; False if one of that name is there already."""

    async def read_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read it; None if there is none."""


async def load_or_create(secrets: Secrets, namespace: str, trust_domain: str) -> Root:
    """The mesh's root: the one in the Secret, or a new one put there.

    Two replicas starting at once agree: `create` is the only write, so the API server decides, and the
    loser reads.
    """
    while True:
        stored = await secrets.read_secret(namespace, SECRET_NAME)
        if stored is not None:
            return from_secret(stored.get("data"))
        root = new_root(trust_domain, datetime.now(UTC))
        if await secrets.create_secret(to_secret(root, namespace)):
            return root
