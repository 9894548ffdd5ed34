"""TLS as the mesh uses it: contexts for both sides, and the check of who the other side is.

Identity is the SPIFFE URI in the peer's certificate (SPIFFE X509-SVID, section 2); host names play no part.
The chain is verified by OpenSSL against the mesh's root, the name here. Contexts are made anew when the
workload's certificate changes (`identity`), so each new connection uses the newest and old ones go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mesh.proxy.match import StringMatch

if TYPE_CHECKING:
    from mesh.proxy.identity import Secrets


class Peer:
    """The verified other end of a TLS connection."""

    __slots__ = ("dns_names", "fingerprint", "subject", "uri", "uris")

    uri: str

    def __init__(self, certificate: dict[str, Any], der: bytes) -> None:
        names = certificate.get("subjectAltName", ())
        self.uris: tuple[str, ...] = tuple(value for kind, value in names if kind == "URI")
        self.dns_names: tuple[str, ...] = tuple(value for kind, value in names if kind == "DNS")
        self.uri = self.uris[0] if self.uris else ""
        self.subject = ",".join(
            f"{_SHORT.get(key, key)}={value}"
            for part in certificate.get("subject", ())
            for key, value in part
        )
        self.fingerprint = hashlib.sha256(der).hexdigest()

    @property
    def principal(self) -> str:
        """The identity as Istio writes it in rules and metrics: the URI without `spiffe://`."""
        return self.uri.removeprefix("spiffe://")


_SHORT = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """The peer's certificate after the handshake; None without TLS or without a certificate."""
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return None
    der = connection.getpeercert(binary_form=True)
    return Peer(connection.getpeercert(), der) if der else None


class TlsSpec:
    """What both directions share: names of secrets and the bounds of the protocol. Immutable."""

    __slots__ = ("alpn", "certificate", "ciphers", "maximum", "minimum", "root")

    def __init__(
        self,
        certificate: str = "",
        root: str = "",
        alpn: Sequence[str] = (),
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        ciphers: str = "",
    ) -> None:
        self.certificate = certificate
        self.root = root
        self.alpn = tuple(alpn)
        self.minimum = minimum
        self.maximum = maximum
        self.ciphers = ciphers

    @property
    def key(self) -> tuple[object, ...]:
        return (self.certificate, self.root, self.alpn, self.minimum, self.maximum, self.ciphers)

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the secrets it needs."""
        return frozenset(name for name in (self.certificate, self.root) if name)


class DownstreamTls:
    """How a listener speaks TLS, and whose certificates it takes."""

    __slots__ = ("names", "require_certificate", "secrets", "spec")

    def __init__(
        self, spec: TlsSpec, secrets: Secrets, require_certificate: bool, names: Sequence[StringMatch] = ()
    ) -> None:
        self.spec = spec
        self.secrets = secrets
        self.require_certificate = require_certificate
        self.names = tuple(names)

    def context(self) -> ssl.SSLContext:
        """The context for a new connection, with the newest certificate. Raises SecretMissing."""
        return self.secrets.server_context(self.spec, self.require_certificate)

    def refuse(self, peer: Peer | None) -> str | None:
        """Why this client may not connect, or None."""
        return refuse(self.names, peer, self.require_certificate)


class UpstreamTls:
    """How a cluster speaks TLS to its endpoints, and who they must be."""

    __slots__ = ("names", "secrets", "sni", "spec")

    def __init__(self, spec: TlsSpec, secrets: Secrets, sni: str, names: Sequence[StringMatch] = ()) -> None:
        self.spec = spec
        self.secrets = secrets
        self.sni = sni
        self.names = tuple(names)

    def context(self) -> ssl.SSLContext:
        """The context for a new connection, with the newest certificate. Raises SecretMissing."""
        return self.secrets.client_context(self.spec)

    def refuse(self, peer: Peer | None) -> str | None:
        """Why this endpoint is not the one we want, or None."""
        return refuse(self.names, peer, bool(self.spec.root))


def refuse(names: Sequence[StringMatch], peer: Peer | None, required: bool) -> str | None:
    """Hold a peer's names against those accepted (`match_typed_subject_alt_names`; none given accepts all)."""
    if peer is None:
        return "TLS_error: peer did not return a certificate" if required else None
    if not names:
        return None
    for name in (*peer.uris, *peer.dns_names):
        if any(matches(name.encode()) for matches in names):
            return None
    return "TLS_error: verify SAN list"


def certificate_header(peer: Peer, own: str, details: frozenset[str]) -> bytes:
    """What `x-forwarded-client-cert` says of a connection, in Envoy's form: made once a connection."""
    parts = [f"By={own}"] if own else []
    parts.append(f"Hash={peer.fingerprint}")
    if "subject" in details:
        parts.append(f'Subject="{peer.subject}"')
    if "uri" in details:
        parts += [f"URI={uri}" for uri in peer.uris] or ["URI="]
    if "dns" in details:
        parts += [f"DNS={name}" for name in peer.dns_names]
    return ";".join(parts).encode()


def own_uri(transport: asyncio.BaseTransport) -> str:
    """Our own SPIFFE URI, as the context of this connection carries it."""
    connection = transport.get_extra_info("ssl_object")
    return str(getattr(getattr(connection, "context", None), "spiffe_uri", ""))
