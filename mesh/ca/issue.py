"""What is signed, for whom, and for how long: the CA's decisions, without I/O.

The caller has already proved who asks (`server` does, with the service-account token). Here the certificate
signing request (CSR, RFC 2986) is held against that identity: only the public key is taken from it; name,
purposes and life are the CA's word. So a stolen CSR is of no use, and a token only ever gets its own
identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.ca.identity import Identity
from mesh.ca.root import Root, pem

BACKDATE = timedelta(minutes=2)
"""A certificate is valid from this long before its signing, for peers whose clocks run behind (as istiod
does).
"""

WorkloadKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class RefusedError(ValueError):
    """The CA does not sign this; the message says what is wrong with the request, in one sentence."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a workload's certificate lives: what it gets if it does not say, and the most it may ask
    for.
    """

    default: timedelta = timedelta(hours=24)
    longest: timedelta = timedelta(days=90)

    def grant(self, asked_seconds: int) -> timedelta:
        """The life for a request that asks for `asked_seconds` (0: no wish). Raises RefusedError."""
        if asked_seconds < 0:
            raise RefusedError(
                f"validity_duration is {asked_seconds} s; it must be positive, or 0 for the default"
            )
        if asked_seconds > self.longest.total_seconds():
            most = int(self.longest.total_seconds())
            raise RefusedError(f"validity_duration is {asked_seconds} s; this mesh grants at most {most} s")
        return timedelta(seconds=asked_seconds) if asked_seconds else self.default


def issue(root: Root, csr_pem: str | bytes, identity: Identity, life: timedelta, now: datetime) -> list[str]:
    """Sign the CSR's public key for `identity`: the chain in PEM, the workload's certificate first, the
    root last.

    Raises RefusedError if the CSR is no CSR, is not signed by its own key, has a weak key, or claims
    another name.
    """
    csr = _parse(csr_pem)
    key = _check_key(csr)
    _check_names(csr, identity)
    names = [x509.UniformResourceIdentifier(identity.uri)]
    return [pem(_sign(root, key, names, life, now)), root.certificate_pem]


def issue_server(
    root: Root,
    key: ec.EllipticCurvePublicKey,
    dns_names: Sequence[str],
    life: timedelta,
    now: datetime,
    identity: Identity | None = None,
) -> list[str]:
    """A chain for one of the mesh's own servers (xDS, webhooks), which clients know by DNS name."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
    if identity is not None:
        names.append(x509.UniformResourceIdentifier(identity.uri))
    return [pem(_sign(root, key, names, life, now)), root.certificate_pem]


def _parse(csr_pem: str | bytes) -> x509.CertificateSigningRequest:
    data = csr_pem.encode("utf-8", "replace") if isinstance(csr_pem, str) else csr_pem
    try:
        csr = x509.load_pem_x509_csr(data)
        proved = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise RefusedError(f"csr is not a certificate signing request in PEM: {error}") from error
    if not proved:
        raise RefusedError(
            "csr is not signed by the key it carries, so the key is not proved to be the sender's"
        )
    return csr


def _check_key(csr: x509.CertificateSigningRequest) -> WorkloadKey:
    try:
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RefusedError(f"csr has a key that cannot be read: {error}") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 256:
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    raise RefusedError(
        "csr has a key of a kind or size that this CA does not sign: use ECDSA P-256 or RSA 2048"
    )


def _check_names(csr: x509.CertificateSigningRequest, identity: Identity) -> None:
    """The CSR may leave its name out; if it gives one, it must be the asker's own and nothing else."""
    try:
        names = list(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise RefusedError(f"csr has subject alternative names that cannot be read: {error}") from error
    for name in names:
        if not isinstance(name, x509.UniformResourceIdentifier) or name.value != identity.uri:
            raise RefusedError(f"csr claims {name.value!r}, but its sender is {identity.uri}")


def _sign(
    root: Root, key: WorkloadKey, names: Sequence[x509.GeneralName], life: timedelta, now: datetime
) -> x509.Certificate:
    """An end-entity certificate (RFC 5280) good for both sides of a mutual TLS connection.

    The subject stays empty and the alternative name is therefore critical, as SPIFFE X.509-SVID section 2
    asks.
    """
    start = now.astimezone(UTC).replace(microsecond=0)
    end = min(start + life, root.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(start - BACKDATE, root.certificate.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    return builder.sign(root.key, hashes.SHA256())


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
