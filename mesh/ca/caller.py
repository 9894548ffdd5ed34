"""Who is calling: from the bearer token of a gRPC call to the identity Kubernetes vouches for.

Between `identity` and `server`. The token is a service-account token bound to a pod, with the audience
`istio-ca`, so that a token stolen from elsewhere (one for the API server, say) opens nothing here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.ca.identity import Identity, IdentityError, from_user_name

AUDIENCE = "istio-ca"
"""The audience of the tokens sidecars are given, Istio's."""

_POD_NAME = "authentication.kubernetes.io/pod-name"


class UnauthenticatedError(Exception):
    """No token, or one that Kubernetes does not accept; the message is for the caller."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated workload. `pod` is "" when the token is not bound to a pod."""

    identity: Identity
    pod: str = ""


Authenticate = Callable[[str], Awaitable[Caller]]
"""From a bearer token to its owner. Raises UnauthenticatedError."""


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The token of a call's `authorization: Bearer TOKEN`. Raises UnauthenticatedError when there is none."""
    for name, value in metadata:
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        scheme, _, token = text.partition(" ")
        if name.lower() == "authorization" and scheme.lower() == "bearer" and token.strip():
            return token.strip()
    raise UnauthenticatedError(
        "no bearer token; send `authorization: Bearer TOKEN` with a service-account token"
    )


def review_request(token: str) -> dict[str, Any]:
    """The TokenReview that asks Kubernetes whose token this is."""
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }


def from_review(status: Mapping[str, Any], trust_domain: str) -> Caller:
    """The caller in a TokenReview's status. Raises UnauthenticatedError.

    An API server that does not know audiences leaves `audiences` out; such an answer is not for us
    (Kubernetes API reference, TokenReviewStatus).
    """
    if not status.get("authenticated"):
        raise UnauthenticatedError(f"the token is not accepted: {status.get('error') or 'not authenticated'}")
    if AUDIENCE not in (status.get("audiences") or ()):
        raise UnauthenticatedError(f"the token is not meant for the audience {AUDIENCE}")
    user = status.get("user") or {}
    pods = (user.get("extra") or {}).get(_POD_NAME) or [""]
    try:
        return Caller(from_user_name(str(user.get("username", "")), trust_domain), str(pods[0]))
    except IdentityError as error:
        raise UnauthenticatedError(str(error)) from error
