"""Asks Kubernetes whose token a caller has shown, and keeps the mesh's root in a Secret: what `mesh.ca`
needs of the API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.ca.caller import Caller, UnauthenticatedError, from_review, review_request
from mesh.control.kube import SECRETS, TOKEN_REVIEWS, Kube, KubeError, Object


@dataclass
class TokenReviews:
    """Call it with a token: the `Authenticate` of the gRPC services."""

    kube: Kube
    trust_domain: Callable[[], str]

    async def __call__(self, token: str) -> Caller:
        try:
            answer = await self.kube.create(TOKEN_REVIEWS, review_request(token))
        except KubeError as error:
            raise UnauthenticatedError(f"the token could not be reviewed: {error}") from error
        return from_review(answer.get("status") or {}, self.trust_domain())


@dataclass
class SecretStore:
    """The two calls of `mesh.ca.root.Secrets`."""

    kube: Kube

    async def create_secret(self, secret: Object) -> bool:
        """Create it; False when one of that name is there."""
        try:
            await self.kube.create(SECRETS, secret, secret["metadata"]["namespace"])
        except KubeError as error:
            if error.status == 409:
                return False
            raise
        return True

    async def read_secret(self, namespace: str, name: str) -> Object | None:
        """Read it; None when there is none."""
        return await self.kube.get(SECRETS, name, namespace)
