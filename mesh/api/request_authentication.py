"""RequestAuthentication: which end-user tokens (JWT) a workload takes. Source: istio.io, RequestAuthentication.

A request with a bad token is refused; one without a token is let through (an AuthorizationPolicy may ask for one).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from mesh.api.model import Model, WorkloadSelector
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, header_problem


class JWTHeader(Model):
    """A header that may carry the token, behind `prefix` (such as "Bearer ")."""

    name: str = Field(min_length=1)
    prefix: str = ""

    def check(self) -> Iterator[Problem]:
        if self.name and (wrong := header_problem(self.name)):
            yield Problem("name", wrong)


class ClaimToHeader(Model):
    header: str = Field(min_length=1)
    claim: str = Field(min_length=1)

    def check(self) -> Iterator[Problem]:
        if self.header and (wrong := header_problem(self.header)):
            yield Problem("header", wrong)


class JWTRule(Model):
    """Tokens of one issuer: where they are found, with which keys they are checked, what is told to the app."""

    unsupported: ClassVar[Mapping[str, str]] = {"timeout": "the control plane fetches keys, within 5 s"}

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: tuple[JWTHeader, ...] = ()
    output_payload_to_header: str = ""
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    forward_original_token: Bool = False
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    space_delimited_claims: tuple[str, ...] = ()

    def check(self) -> Iterator[Problem]:
        if not self.issuer and not self.jwks_uri:
            yield Problem("issuer", "is required (or a jwksUri)")
        if self.jwks and self.jwks_uri:
            yield Problem("jwks", "cannot stand beside jwksUri")
        if self.jwks_uri and (wrong := uri_problem(self.jwks_uri)):
            yield Problem("jwksUri", wrong)
        if self.jwks and (wrong := jwks_problem(self.jwks)):
            yield Problem("jwks", wrong)
        if self.output_payload_to_header and (wrong := header_problem(self.output_payload_to_header)):
            yield Problem("outputPayloadToHeader", wrong)
        lists = {
            "audiences": self.audiences,
            "fromParams": self.from_params,
            "fromCookies": self.from_cookies,
        }
        lists["spaceDelimitedClaims"] = self.space_delimited_claims
        for name, values in lists.items():
            for index, value in enumerate(values):
                if not value:
                    yield Problem(f"{name}[{index}]", "must not be empty")


def uri_problem(uri: str) -> str | None:
    """Why keys cannot be fetched from here, or None."""
    try:
        parts = urlsplit(uri)
        known = (
            parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        known = False
    return None if known else f"must be a URL such as https://issuer.example/keys, not {uri!r}"


def jwks_problem(text: str) -> str | None:
    """Why this is no set of public keys (RFC 7517 section 5), or None."""
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    try:
        keys = json.loads(text)["keys"]
        if not isinstance(keys, list) or not keys:
            return "has no key in it"
        for key in keys:
            if key.get("kty") == "oct" or "d" in key:
                return "has a private key in it; only public keys belong here"
            import_key(key)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        return (
            'must be a JSON Web Key Set of public keys: {"keys": [{"kty": "RSA", "n": "...", "e": "AQAB"}]}'
        )
    return None


class RequestAuthenticationSpec(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"targetRef": "", "targetRefs": ""}

    selector: WorkloadSelector | None = None
    jwt_rules: tuple[JWTRule, ...] = ()
