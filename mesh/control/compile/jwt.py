"""RequestAuthentication as Envoy's jwt_authn filter.

A token that is there must be good; none is allowed. With several issuers any one of them will do. Keys come with the
configuration, the control plane has fetched them. Source: istio.io, RequestAuthentication; Envoy, JWT Authentication.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from hashlib import sha256
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2

from mesh.api.objects import ConfigObject
from mesh.api.request_authentication import JWTRule, RequestAuthenticationSpec
from mesh.control.compile.authz_matchers import JWT_PAYLOAD
from mesh.control.world import Labels, World

Policy = ConfigObject[RequestAuthenticationSpec]
Requirement = config_pb2.JwtRequirement
_NOBODY = b"the control plane could not fetch the keys of this issuer"


def rules_for(world: World, namespace: str, labels: Labels) -> tuple[JWTRule, ...]:
    """The rules for a workload: of policies of its namespace and of the root namespace that select it."""
    return tuple(
        rule
        for policy in world.request_authentications
        if policy.namespace in (namespace, world.mesh.root_namespace)
        and (policy.spec.selector is None or policy.spec.selector.selects(labels))
        for rule in policy.spec.jwt_rules
    )


def filter_for(world: World, namespace: str, labels: Labels, *, at_edge: bool) -> Any | None:
    """The filter's configuration; None when no tokens are asked for. `at_edge`: routes may depend on claims there."""
    rules = rules_for(world, namespace, labels)
    if not rules:
        return None
    config = config_pb2.JwtAuthentication(bypass_cors_preflight=True)
    names = [f"origins-{index}" for index in range(len(rules))]
    for name, rule in zip(names, rules, strict=True):
        config.providers[name].CopyFrom(_provider(world, rule, at_edge))
    everywhere = route_components_pb2.RouteMatch(prefix="/")
    config.rules.add(match=everywhere, requires=_requirement(names))
    return config


def _requirement(names: list[str]) -> Any:
    each = [_any_of([Requirement(provider_name=name), _none_given()]) for name in names]
    if len(each) == 1:
        return each[0]
    every = Requirement(requires_all=config_pb2.JwtRequirementAndList(requirements=each))
    return _any_of([*(Requirement(provider_name=name) for name in names), every])


def _any_of(requirements: list[Any]) -> Any:
    return Requirement(requires_any=config_pb2.JwtRequirementOrList(requirements=requirements))


def _none_given() -> Any:
    found = Requirement()
    found.allow_missing.SetInParent()
    return found


def _provider(world: World, rule: JWTRule, at_edge: bool) -> Any:
    provider = config_pb2.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        forward=rule.forward_original_token,
        forward_payload_header=rule.output_payload_to_header,
        payload_in_metadata=JWT_PAYLOAD,
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        clear_route_cache=at_edge,
    )
    split = ("scope", "permission", *rule.space_delimited_claims)
    provider.normalize_payload_in_metadata.space_delimited_claims.extend(dict.fromkeys(split))
    for header in rule.from_headers:
        provider.from_headers.add(name=header.name, value_prefix=header.prefix)
    for pair in rule.output_claim_to_headers:
        provider.claim_to_headers.add(header_name=pair.header, claim_name=pair.claim)
    keys = rule.jwks or world.jwks.get((rule.jwks_uri, rule.issuer)) or nobodys_keys()
    provider.local_jwks.inline_string = keys
    return provider


@cache
def nobodys_keys() -> str:
    """Stands for keys that could not be fetched, since Envoy wants some: a public key made from a hash, whose private
    key nobody can know. No token fits, so all are refused (as in Istio).
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    x = sha256(_NOBODY).digest()
    numbers = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + x).public_numbers()
    point = {"x": numbers.x.to_bytes(32), "y": numbers.y.to_bytes(32)}
    key = {name: urlsafe_b64encode(value).rstrip(b"=").decode() for name, value in point.items()}
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "nobody", **key}]})
