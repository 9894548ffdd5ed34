"""The name of a workload: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.

First in the order of things: certificates carry this name, access rules compare it. It is built from what
Kubernetes vouches for (the service account of the pod), never from what the workload says of itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_TRUST_DOMAIN = "cluster.local"

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]{1,253}")
_USER_NAME = "system:serviceaccount:"


class IdentityError(ValueError):
    """A string that is not the name of a workload in this mesh."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A workload's name. The form is Istio's
    (https://istio.io/latest/docs/concepts/security/#istio-identity), inside the SPIFFE ID standard, section
    2.
    """

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise IdentityError(
                f"trust domain {self.trust_domain!r}: lower case letters, digits, dot, dash only"
            )
        for what, value in (("namespace", self.namespace), ("service account", self.service_account)):
            if not _SEGMENT.fullmatch(value) or value in (".", ".."):
                raise IdentityError(f"{what} {value!r} cannot be part of a SPIFFE ID")

    @property
    def uri(self) -> str:
        """The SPIFFE ID, as it stands in the certificate's subject alternative name."""
        return f"spiffe://{self.principal}"

    @property
    def principal(self) -> str:
        """The name as AuthorizationPolicy writes it in `source.principals`: the SPIFFE ID without its
        scheme.
        """
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse_spiffe(uri: str) -> Identity:
    """The identity a SPIFFE ID names. Raises IdentityError if it is none of the form this mesh uses."""
    scheme, slashes, rest = uri.partition("://")
    parts = rest.split("/")
    if scheme != "spiffe" or not slashes or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
        raise IdentityError(
            f"{uri!r} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT"
        )
    return Identity(parts[0], parts[2], parts[4])


def from_user_name(user_name: str, trust_domain: str) -> Identity:
    """The identity behind the user name a TokenReview answers with (`system:serviceaccount:NAMESPACE:NAME`).

    Raises IdentityError for any other user: people and nodes have no workload identity.
    """
    namespace, colon, name = user_name.removeprefix(_USER_NAME).partition(":")
    if not user_name.startswith(_USER_NAME) or not colon:
        raise IdentityError(f"user {user_name!r} is not a service account, so it has no workload identity")
    return Identity(trust_domain, namespace, name)
