"""Before the first request: the cluster's CA, the API server's certificate, and the kubeconfig of its
administrator.

ECDSA P-256 throughout, since key generation must not cost start-up time. Files go to STATE_DIR/pki, readable
by the owner only; the kubeconfig names the CA by path, because clients write inlined certificates to
temporary files and a killed client would leave them behind.
"""

import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=365)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(data)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, common: str, groups: tuple[str, ...] = (), names: tuple[str, ...] = ()
    ) -> tuple[bytes, bytes]:
        """(certificate, key) in PEM: of a server for the DNS names and addresses in `names`, else of a
        client.

        As Kubernetes reads client certificates, `common` is the user and `groups` are its groups
        (organizations).
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_subject(common, groups), self.certificate.subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)


def new_authority(common: str = "kubernetes") -> Authority:
    """A self-signed CA with a new key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(common, ())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    builder = _builder(subject, subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage, True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFE)
    )


def _subject(common: str, groups: tuple[str, ...]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the cluster's credentials lie, and the administrator's token."""

    ca_file: Path
    certificate_file: Path
    key_file: Path
    kubeconfig: Path
    admin_token: str


def prepare(state: Path, address: str, port: int, service_address: str) -> Credentials:
    """Make the cluster's credentials under `state` and write its kubeconfig."""
    authority = new_authority()
    pki = state / "pki"
    service = "kubernetes.default.svc"
    names = (address, service_address, "localhost", "127.0.0.1", "kubernetes", "kubernetes.default", service)
    certificate, key = authority.issue(
        "kube-apiserver", names=(*dict.fromkeys(names), f"{service}.cluster.local")
    )
    write_private(pki / "ca.crt", authority.pem)
    write_private(pki / "apiserver.crt", certificate)
    write_private(pki / "apiserver.key", key)
    certificate, key = authority.issue("kubernetes-admin", ("system:masters",))
    write_private(pki / "admin.crt", certificate)
    write_private(pki / "admin.key", key)
    token = secrets.token_urlsafe(32)
    kubeconfig = state / "kubeconfig"
    write_private(kubeconfig, _kubeconfig(f"https://{address}:{port}", pki / "ca.crt", token).encode())
    return Credentials(pki / "ca.crt", pki / "apiserver.crt", pki / "apiserver.key", kubeconfig, token)


def _kubeconfig(server: str, ca: Path, token: str) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "admin"}}],
        "current-context": "embedded",
    }
    return yaml.safe_dump(config, sort_keys=False)
