"""TLS from a client's proxy towards a service. Source: istio.io, Destination Rule, ClientTLSSettings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, host_problem

_FILES = ("client_certificate", "private_key", "ca_certificates")


class ClientTLSSettings(Model):
    """TLS towards the service. ISTIO_MUTUAL uses the workload's own certificate; MUTUAL one of your own, from files
    in the proxy's pod or (at gateways, and where a workloadSelector says who) from a Secret.
    """

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: Bool | None = None
    ca_crl: str = ""

    def check(self) -> Iterator[Problem]:
        if self.insecure_skip_verify and self.subject_alt_names:
            yield Problem("subjectAltNames", "would not be checked, since insecureSkipVerify is true")
        if self.insecure_skip_verify and self.ca_certificates:
            yield Problem("caCertificates", "would not be used, since insecureSkipVerify is true")
        if self.sni and (wrong := host_problem(self.sni, wildcard=False)):
            yield Problem("sni", wrong)
        yield from self._where_from()

    def _where_from(self) -> Iterator[Problem]:
        aliases = {"client_certificate": "clientCertificate", "private_key": "privateKey"}
        aliases["ca_certificates"] = "caCertificates"
        given = [aliases[name] for name in _FILES if getattr(self, name)]
        if self.credential_name and given:
            yield Problem("credentialName", f"cannot stand beside {' and '.join(given)}")
        if self.mode in ("DISABLE", "ISTIO_MUTUAL"):
            given += ["credentialName"] if self.credential_name else []
            given += ["caCrl"] if self.ca_crl else []
            for name in given:
                yield Problem(name, f"has no effect with mode {self.mode}")
        elif self.mode == "MUTUAL" and not self.credential_name:
            for name in ("client_certificate", "private_key"):
                if not getattr(self, name):
                    yield Problem(aliases[name], "is required for mode MUTUAL (or a credentialName)")
        if self.ca_crl and self.mode in ("SIMPLE", "MUTUAL") and not self.ca_certificates:
            yield Problem("caCrl", "needs caCertificates")
