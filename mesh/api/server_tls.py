"""TLS that a gateway's server speaks. Source: istio.io, Reference, Gateway, ServerTLSSettings."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import Bool

_CIPHERS = frozenset(
    {
        *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        *("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"),
        *("ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA"),
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"),
    }
)
TLSProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class TLSCertificate(Model):
    """Files of one certificate with its key, in the gateway's pod."""

    unsupported: ClassVar[Mapping[str, str]] = {"caCertificates": "write it once, beside tlsCertificates"}

    server_certificate: str = ""
    private_key: str = ""


class ServerTLSSettings(Model):
    """What the server presents (SIMPLE) and demands (MUTUAL), or that it passes TLS on untouched (PASSTHROUGH).

    Certificates are Secrets of the gateway's namespace (`credentialName`) or files in its pod.
    """

    https_redirect: Bool = False
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSProtocol = "TLS_AUTO"
    max_protocol_version: TLSProtocol = "TLS_AUTO"
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: Bool | None = None

    @property
    def credentials(self) -> tuple[str, ...]:
        """Names of the Secrets with the server's own certificates."""
        return self.credential_names or ((self.credential_name,) if self.credential_name else ())

    @property
    def files(self) -> tuple[TLSCertificate, ...]:
        """The server's own certificates, where they are files."""
        if self.tls_certificates or not self.server_certificate:
            return self.tls_certificates
        return (
            TLSCertificate.model_construct(
                server_certificate=self.server_certificate, private_key=self.private_key
            ),
        )

    @property
    def asks_clients(self) -> bool:
        """Does it want a certificate of the client?"""
        return self.mode in ("MUTUAL", "OPTIONAL_MUTUAL")

    def check(self) -> Iterator[Problem]:
        if self.mode == "AUTO_PASSTHROUGH":
            yield Problem(
                "mode", "AUTO_PASSTHROUGH joins meshes of several clusters, which is not supported yet"
            )
        elif self.mode in ("PASSTHROUGH", "ISTIO_MUTUAL"):
            yield from self._no_certificates()
        else:
            yield from self._certificates()
        yield from self._details()

    def _no_certificates(self) -> Iterator[Problem]:
        given = {
            "serverCertificate": self.server_certificate,
            "privateKey": self.private_key,
            "caCertificates": self.ca_certificates,
            "credentialName": self.credential_name,
            "credentialNames": self.credential_names,
            "tlsCertificates": self.tls_certificates,
            "caCrl": self.ca_crl,
        }
        for name, value in given.items():
            if value:
                yield Problem(name, f"has no effect with mode {self.mode}")

    def _certificates(self) -> Iterator[Problem]:
        ways = {
            "credentialName": bool(self.credential_name),
            "credentialNames": bool(self.credential_names),
            "serverCertificate": bool(self.server_certificate or self.private_key),
            "tlsCertificates": bool(self.tls_certificates),
        }
        given = [name for name, there in ways.items() if there]
        if len(given) > 1:
            yield Problem("", f"can only have one of {' and '.join(given)}")
        if not given:
            yield Problem("", f"mode {self.mode} needs a credentialName, or serverCertificate and privateKey")
        for index, files in enumerate(self.files):
            if not (files.server_certificate and files.private_key):
                place = f"tlsCertificates[{index}]" if self.tls_certificates else "privateKey"
                yield Problem(place, "needs both a certificate and its key")
        if self.asks_clients and not (self.credentials or self.ca_certificates):
            yield Problem("caCertificates", f"is required for mode {self.mode} (or a credentialName)")
        if self.ca_crl and (self.credentials or not self.asks_clients):
            yield Problem("caCrl", "works with caCertificates of mode MUTUAL only; a Secret has it as ca.crl")

    def _details(self) -> Iterator[Problem]:
        for index, suite in enumerate(self.cipher_suites):
            if suite not in _CIPHERS:
                yield Problem(f"cipherSuites[{index}]", f"{suite!r} is not a cipher suite Envoy knows")
        for index, spki in enumerate(self.verify_certificate_spki):
            if not _is_digest(spki):
                yield Problem(f"verifyCertificateSpki[{index}]", "must be a SHA-256 digest in base64")
        for index, digest in enumerate(self.verify_certificate_hash):
            if not re.fullmatch(r"[0-9a-fA-F]{64}|([0-9a-fA-F]{2}:){31}[0-9a-fA-F]{2}", digest):
                yield Problem(f"verifyCertificateHash[{index}]", "must be a SHA-256 digest in hexadecimal")
        versions = ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")
        low, high = self.min_protocol_version, self.max_protocol_version
        if low in versions and high in versions and versions.index(low) > versions.index(high):
            yield Problem("minProtocolVersion", f"{low} is later than the maximum, {high}")
        named = [*self.credentials, *([self.ca_cert_credential_name] if self.ca_cert_credential_name else [])]
        for name in named:
            if "://" in name or not re.fullmatch(r"[a-z0-9]([-a-z0-9./]*[a-z0-9])?", name):
                yield Problem("credentialName", f"{name!r} is not the name of a Secret")


def _is_digest(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False
