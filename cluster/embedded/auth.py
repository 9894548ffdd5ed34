"""Who is asking? Bearer tokens (the administrator's, and service accounts' JWTs) and client certificates.

Service-account tokens are JWTs that this server signs (ES256) and checks: signature, times, audience, and
that the service account and the pod they are bound to still exist with the same uid. (Kubernetes docs
"Managing Service Accounts".)
"""

import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from cluster.embedded.status import Object, bad_request, conflict, unauthorized
from cluster.embedded.store import Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
DEFAULT_AUDIENCES = [ISSUER]
SHORTEST, DEFAULT_LIFE, LONGEST = 600, 3600, 86400 * 365
"""Seconds that a requested token may live."""


@dataclass(frozen=True, slots=True)
class User:
    """Who is asking, as webhooks and reviews see it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict)

    def info(self) -> Object:
        """`UserInfo` of authentication.k8s.io."""
        info: Object = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            info["uid"] = self.uid
        return info | ({"extra": dict(self.extra)} if self.extra else {})


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))


def service_account(
    namespace: str, name: str, uid: str = "", extra: Mapping[str, list[str]] | None = None
) -> User:
    """The user that a service account is."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
    return User(f"system:serviceaccount:{namespace}:{name}", groups, uid, extra or {})


def from_certificate(peer: Mapping[str, Any]) -> User | None:
    """The user a client certificate names: its common name, its organizations as groups (`ssl.getpeercert`
    form).
    """
    pairs = [pair for part in peer.get("subject", ()) for pair in part]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return User(name, (*groups, "system:authenticated")) if name else None


def impersonate(name: str, groups: tuple[str, ...]) -> User:
    """The user that somebody acts as; a service account gets its groups unless some are named."""
    parts = name.split(":")
    if not groups and parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        return service_account(parts[2], parts[3])
    known = "system:unauthenticated" if name == ANONYMOUS.name else "system:authenticated"
    return User(name, groups if known in groups else (*groups, known))


class Tokens:
    """Signs and checks bearer tokens."""

    def __init__(self, store: Store, admin_token: str) -> None:
        self._store = store
        self._admin = admin_token.encode()
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)

    def jwks(self) -> Object:
        """The public keys (`/openid/v1/jwks`), so that others can check our tokens without asking us."""
        return {"keys": [dict(self._key.as_dict(private=False))]}

    def issue(self, account: Object, request: Object) -> Object:
        """Answer a `TokenRequest` for a ServiceAccount: the request with its status. Raises BadRequest,
        Conflict.
        """
        spec = request.get("spec") or {}
        life = spec.get("expirationSeconds") or DEFAULT_LIFE
        if not SHORTEST <= life <= LONGEST:
            raise bad_request(
                f"spec.expirationSeconds: {life}: may not be less than 10 minutes or more than a year"
            )
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": list(spec.get("audiences") or DEFAULT_AUDIENCES),
            "sub": service_account(_namespace(account), _name(account)).name,
            "iat": now,
            "nbf": now,
            "exp": now + life,
            "jti": secrets.token_hex(8),
            "kubernetes.io": self._binding(account, spec.get("boundObjectRef")),
        }
        token = jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key)
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + life))
        filled = {"audiences": claims["aud"], "expirationSeconds": life} | spec
        metadata = {"name": _name(account), "namespace": _namespace(account), "creationTimestamp": _now(now)}
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": filled,
            "status": {"token": token, "expirationTimestamp": expires},
        }

    def _binding(self, account: Object, reference: Object | None) -> Object:
        binding: Object = {
            "namespace": _namespace(account),
            "serviceaccount": {"name": _name(account), "uid": account["metadata"]["uid"]},
        }
        if not reference:
            return binding
        kind = reference.get("kind")
        resource = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(str(kind))
        if resource is None:
            raise bad_request(
                f"spec.boundObjectRef: cannot bind token for serviceaccount to object of kind {kind!r}"
            )
        namespace = "" if kind == "Node" else _namespace(account)
        bound = self._store.get(resource, namespace, reference.get("name", "")).object
        uid = bound["metadata"]["uid"]
        if reference.get("uid") not in (None, "", uid):
            why = (
                f"the UID in the bound object reference ({reference['uid']}) is not the one in record ({uid})"
            )
            raise conflict(resource, _name(bound), why)
        return binding | {str(kind).lower(): {"name": _name(bound), "uid": uid}}

    def user(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]]:
        """(user, audiences that the token is good for) of a bearer token. Raises Unauthorized.

        Without `audiences` the token must be meant for the API server.
        """
        if hmac.compare_digest(token.encode(), self._admin):
            return ADMIN, list(audiences or DEFAULT_AUDIENCES)
        claims = self._claims(token)
        wanted = list(audiences or DEFAULT_AUDIENCES)
        good = [audience for audience in claims.get("aud", []) if audience in wanted]
        if not good:
            raise unauthorized()
        return self._bound_user(claims["kubernetes.io"]), good

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._key, algorithms=["ES256"]).claims
        except (JoseError, ValueError) as error:
            raise unauthorized() from error
        now = time.time()
        if claims.get("iss") != ISSUER or not claims.get("nbf", 0) - 1 <= now < claims.get("exp", 0):
            raise unauthorized()
        return claims

    def _bound_user(self, binding: Object) -> User:
        namespace, account = binding["namespace"], binding["serviceaccount"]
        bound = [("serviceaccounts", namespace, account)]
        bound += [("pods", namespace, binding["pod"])] if "pod" in binding else []
        bound += [("secrets", namespace, binding["secret"])] if "secret" in binding else []
        for resource, where, reference in bound:
            entry = self._store.find(resource, where, reference["name"])
            if entry is None or entry.object["metadata"]["uid"] != reference["uid"]:
                raise unauthorized()
        extra = {}
        if "pod" in binding:
            extra = {
                "authentication.kubernetes.io/pod-name": [binding["pod"]["name"]],
                "authentication.kubernetes.io/pod-uid": [binding["pod"]["uid"]],
            }
        return service_account(namespace, account["name"], account["uid"], extra)


def _now(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _name(object: Object) -> str:
    return str(object["metadata"]["name"])


def _namespace(object: Object) -> str:
    return str(object["metadata"]["namespace"])


def bearer(header: str | None) -> str:
    """The token of an Authorization header, or ""."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def openid_configuration(server: str) -> Object:
    """/.well-known/openid-configuration"""
    return {
        "issuer": ISSUER,
        "jwks_uri": f"{server}/openid/v1/jwks",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }
