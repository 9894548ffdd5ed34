"""What the API and the compiler can say and our own sidecar cannot do yet. It is refused at apply.

Envoy would do all of it. A sidecar that is told something it does not know refuses the whole type and keeps its last
good configuration, so such a rule would also stop every later one. Each line here goes when the proxy learns its part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.api.authorization_policy import AuthorizationPolicySpec
from mesh.api.destination_rule import DestinationRuleSpec
from mesh.api.objects import ConfigObject
from mesh.api.problems import Problem
from mesh.api.request_authentication import RequestAuthenticationSpec
from mesh.api.telemetry import TelemetrySpec
from mesh.api.virtual_service import VirtualServiceSpec

DRY_RUN = "istio.io/dry-run"
TOKENS = "this version's sidecar does not verify end users' tokens yet"


def beyond_the_sidecar(rule: ConfigObject[Any]) -> list[Problem]:
    """Why a valid rule cannot be honoured; empty for nearly all."""
    spec = rule.spec
    if isinstance(spec, RequestAuthenticationSpec):
        return [Problem("spec.jwtRules", TOKENS)]
    if isinstance(spec, AuthorizationPolicySpec):
        return list(_authorization(rule))
    if isinstance(spec, VirtualServiceSpec):
        return list(_claims(spec))
    if isinstance(spec, DestinationRuleSpec):
        return list(_credentials(spec))
    if isinstance(spec, TelemetrySpec) and spec.tracing:
        return [Problem("spec.tracing", "this version's sidecar sends no traces yet")]
    return []


def _authorization(rule: ConfigObject[AuthorizationPolicySpec]) -> Iterator[Problem]:
    spec = rule.spec
    if rule.annotations.get(DRY_RUN) == "true":
        yield Problem("metadata.annotations", f"{DRY_RUN}: this version's sidecar records no dry runs yet")
    if spec.action == "CUSTOM":
        yield Problem("spec.action", "CUSTOM: this version's sidecar asks no external authorizer yet")
    for index, each in enumerate(spec.rules):
        for number, source in enumerate(each.from_):
            if source.source.request_principals or source.source.not_request_principals:
                path = f"spec.rules[{index}].from[{number}].source.requestPrincipals"
                yield Problem(path, TOKENS)
        for number, condition in enumerate(each.when):
            if condition.key.startswith("request.auth."):
                yield Problem(f"spec.rules[{index}].when[{number}].key", TOKENS)


def _claims(spec: VirtualServiceSpec) -> Iterator[Problem]:
    for index, route in enumerate(spec.http):
        for number, match in enumerate(route.match):
            for field, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                if any(name.startswith("@request.auth.") for name in headers):
                    yield Problem(f"spec.http[{index}].match[{number}].{field}", TOKENS)


def _credentials(spec: DestinationRuleSpec) -> Iterator[Problem]:
    policies = [("trafficPolicy", spec.traffic_policy)]
    policies += [(f"subsets[{i}].trafficPolicy", each.traffic_policy) for i, each in enumerate(spec.subsets)]
    for path, policy in policies:
        if policy is None:
            continue
        settings = [(f"{path}.tls", policy.tls)]
        settings += [
            (f"{path}.portLevelSettings[{i}].tls", each.tls)
            for i, each in enumerate(policy.port_level_settings)
        ]
        for place, tls in settings:
            if tls is not None and tls.credential_name:
                said = "this version's sidecar reads client certificates from files only"
                yield Problem(f"spec.{place}.credentialName", said)
