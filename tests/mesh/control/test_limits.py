"""What our sidecar has yet to learn is refused at apply, with the field's path."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mesh.api import parse
from mesh.control.limits import beyond_the_sidecar

META = "metadata: {name: x, namespace: default}"


def rule(api: str, kind: str, spec: str, meta: str = META) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(f"apiVersion: {api}\nkind: {kind}\n{meta}\nspec: {spec}\n")
    return found


SECURITY, NETWORK = "security.istio.io/v1", "networking.istio.io/v1"
DRY = "metadata: {name: x, namespace: default, annotations: {istio.io/dry-run: 'true'}}"
SOURCE = "{rules: [{from: [{source: {SOURCE}}]}]}"


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (
            rule(
                SECURITY,
                "RequestAuthentication",
                "{jwtRules: [{issuer: a, jwksUri: 'https://a.example/keys'}]}",
            ),
            "spec.jwtRules",
        ),
        (
            rule(SECURITY, "AuthorizationPolicy", SOURCE.replace("{SOURCE}", "{requestPrincipals: ['*']}")),
            "spec.rules[0].from[0].source.requestPrincipals",
        ),
        (
            rule(
                SECURITY,
                "AuthorizationPolicy",
                "{rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
            ),
            "spec.rules[0].when[0].key",
        ),
        (rule(SECURITY, "AuthorizationPolicy", "{}", DRY), "metadata.annotations"),
        (
            rule("telemetry.istio.io/v1", "Telemetry", "{tracing: [{randomSamplingPercentage: 10}]}"),
            "spec.tracing",
        ),
        (
            rule(
                NETWORK,
                "DestinationRule",
                "{host: a.example, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}}",
            ),
            "spec.trafficPolicy.tls.credentialName",
        ),
    ],
)
def test_it_is_refused_with_its_path(obj: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in beyond_the_sidecar(parse(obj))] == [path]


def test_the_rest_is_not() -> None:
    fine = rule(SECURITY, "AuthorizationPolicy", SOURCE.replace("{SOURCE}", "{principals: ['*']}"))
    assert beyond_the_sidecar(parse(fine)) == []
