"""AuthorizationPolicy as RBAC: which filters, in which order, with which matchers."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.rbac.v3 import rbac_pb2
from google.protobuf.json_format import MessageToDict

from mesh.control.compile.authz import checks, policies_for
from mesh.control.compile.authz_matchers import wildcard
from mesh.control.world import MeshConfig
from tests.mesh.control.compile.test_listeners import inbound, manager
from tests.worlds import bookinfo, objects


def policy(spec: str, namespace: str = "default", name: str = "p") -> Any:
    text = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""
    return objects(text)[0]


def rules(spec: str, *, http: bool = True) -> Any:
    (found,) = checks(MeshConfig(), [policy(spec)], http=http)
    return found.rules


def only(spec: str, *, http: bool = True) -> dict[str, Any]:
    """The only rule as plain data."""
    return MessageToDict(rules(spec, http=http).policies["ns[default]-policy[p]-rule[0]"])


def test_deny_stands_before_allow_and_audit_before_both() -> None:
    found = [
        policy(f"{{action: {action}, rules: [{{}}]}}", name=action.lower())
        for action in ("ALLOW", "DENY", "AUDIT")
    ]
    actions = [each.rules.action for each in checks(MeshConfig(), found, http=True) if each.rules]
    assert actions == [rbac_pb2.RBAC.LOG, rbac_pb2.RBAC.DENY, rbac_pb2.RBAC.ALLOW]
    http = manager(inbound(bookinfo(*found)).filter_chains[0])
    assert [each.name for each in http.http_filters] == [
        *["envoy.filters.http.rbac"] * 3,
        "envoy.filters.http.router",
    ]


def test_allow_without_rules_fits_nothing() -> None:
    assert only("{}") == {
        "permissions": [{"notRule": {"any": True}}],
        "principals": [{"notId": {"any": True}}],
    }


def test_an_empty_rule_fits_everything() -> None:
    assert only("{rules: [{}]}") == {
        "permissions": [{"andRules": {"rules": [{"any": True}]}}],
        "principals": [{"andIds": {"ids": [{"any": True}]}}],
    }


def test_one_rule_is_or_of_sources_and_of_operations_and_and_of_their_fields() -> None:
    found = only("""{rules: [{from: [{source: {principals: [a/b, c], notNamespaces: [d]}}, {source: {ipBlocks:
    [10.0.0.0/8]}}],
                     to: [{operation: {methods: [GET], paths: [/x*], ports: ["80"]}}],
                     when: [{key: "request.headers[x-y]", values: [z]}]}]}""")
    first, second = (each["andIds"]["ids"] for each in found["principals"])
    names = [each["authenticated"]["principalName"]["exact"] for each in first[0]["orIds"]["ids"]]
    assert names == ["spiffe://a/b", "spiffe://c"]
    excluded = first[1]["notId"]["orIds"]["ids"][0]["authenticated"]["principalName"]
    assert excluded["safeRegex"]["regex"] == ".*/ns/d/.*"
    assert first[2] == second[1]
    assert first[2]["orIds"]["ids"][0]["header"] == {"name": "x-y", "stringMatch": {"exact": "z"}}
    assert second[0]["orIds"]["ids"][0]["directRemoteIp"] == {"addressPrefix": "10.0.0.0", "prefixLen": 8}
    (operation,) = (each["andRules"]["rules"] for each in found["permissions"])
    assert operation[0]["orRules"]["rules"][0]["header"] == {
        "name": ":method",
        "stringMatch": {"exact": "GET"},
    }
    assert operation[1]["orRules"]["rules"][0]["urlPath"]["path"] == {"prefix": "/x"}
    assert operation[2]["orRules"]["rules"][0]["destinationPort"] == 80


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", {"exact": "spiffe://a"}),
        ("a*", {"prefix": "spiffe://a"}),
        ("*a.b", {"safeRegex": {"regex": r"spiffe://.*a\.b"}}),
        ("*", {"safeRegex": {"regex": ".+"}}),
    ],
)
def test_wildcards_of_principals(value: str, expected: dict[str, Any]) -> None:
    assert MessageToDict(wildcard(value, "spiffe://")) == expected


def test_suffixes_without_prefix_are_suffix_matches() -> None:
    assert MessageToDict(wildcard("*.local")) == {"suffix": ".local"}


def test_on_tcp_an_allow_rule_about_http_never_fits_and_a_deny_rule_fits_more() -> None:
    spec = "{action: ALLOW, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}"
    assert not rules(spec, http=False).policies
    (permission,) = only(spec.replace("ALLOW", "DENY"), http=False)["permissions"]
    assert permission["andRules"]["rules"] == [{"orRules": {"rules": [{"destinationPort": 80}]}}]


def test_policies_hold_for_their_namespace_the_selected_and_from_the_root_for_all() -> None:
    world = bookinfo(
        policy("{}", name="own"),
        policy("{selector: {matchLabels: {app: ratings}}}", name="ratings"),
        policy("{}", "mesh-system", "everywhere"),
        policy("{selector: {matchLabels: {app: reviews}}}", "mesh-system", "reviews-everywhere"),
        policy("{}", "other", "elsewhere"),
    )
    found = policies_for(world, "default", {"app": "reviews"})
    assert {each.name for each in found} == {"own", "everywhere", "reviews-everywhere"}
