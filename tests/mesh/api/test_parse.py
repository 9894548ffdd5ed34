"""Objects are parsed into typed specs, or refused with the path of the field and one sentence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mesh.api import Invalid, parse, validate, why_unsupported
from mesh.api.kinds import KINDS

REVIEWS: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "reviews", "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z"},
    "spec": {
        "hosts": ["reviews"],
        "http": [
            {
                "match": [{"headers": {"end-user": {"exact": "jason"}}}],
                "route": [
                    {"destination": {"host": "reviews", "subset": "v1"}, "weight": 50},
                    {"destination": {"host": "reviews", "subset": "v2"}, "weight": 50},
                ],
                "timeout": "1.5s",
                "fault": {"delay": {"fixedDelay": "2s", "percentage": {"value": 10}}},
            },
            {"route": [{"destination": {"host": "reviews"}}]},
        ],
    },
}
RULE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1beta1",
    "kind": "DestinationRule",
    "metadata": {"name": "reviews"},
    "spec": {"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]},
}
PEERS: dict[str, Any] = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
ACCESS: dict[str, Any] = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": "viewer"},
    "spec": {
        "action": "ALLOW",
        "rules": [
            {
                "from": [
                    {"source": {"principals": ["cluster.local/ns/default/sa/a"], "ipBlocks": ["10.0.0.0/8"]}}
                ],
                "to": [{"operation": {"methods": ["GET"], "paths": ["/a*"], "ports": ["80"]}}],
                "when": [{"key": "request.headers[x]", "values": ["y"]}],
            }
        ],
    },
}
GATEWAY: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "Gateway",
    "metadata": {"name": "edge"},
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    },
}


def put(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of an object with `value` at a path such as `spec.http.0.timeout`."""
    changed = copy.deepcopy(obj)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = changed
    for step in parents:
        place = place[step]
    place[last] = value
    return changed


@pytest.mark.parametrize("obj", [REVIEWS, RULE, PEERS, ACCESS, GATEWAY], ids=lambda o: str(o["kind"]))
def test_a_valid_object_is_what_it_says_and_goes_back_to_the_same_yaml(obj: dict[str, Any]) -> None:
    parsed = parse(obj)
    assert (parsed.kind, parsed.name) == (obj["kind"], obj["metadata"]["name"])
    again = parse({**obj, "spec": parsed.spec.to_yaml()})
    assert again.spec == parsed.spec


def test_values_have_types() -> None:
    parsed = parse(REVIEWS)
    rule = parsed.spec.http[0]
    assert rule.timeout == timedelta(seconds=1.5)
    assert rule.match[0].headers["end-user"].exact == "jason"
    assert [target.weight for target in rule.route] == [50, 50]
    assert (parsed.namespace, parsed.created) == ("shop", 1767323045.0)


WEIGHT = "spec/http/0/route/1/weight"
FIRST = "spec/http/0"
POLICY = "spec/trafficPolicy"
USER, SAID = f"{FIRST}/match/0/headers/end-user", "spec.http[0].match[0].headers[end-user]"
SOURCE, SAID_SOURCE = "spec/rules/0/from/0/source", "spec.rules[0].from[0].source"
TOKENS: dict[str, Any] = {
    "apiVersion": "security.istio.io/v1",
    "kind": "RequestAuthentication",
    "metadata": {"name": "tokens"},
    "spec": {"jwtRules": [{"issuer": "https://a.example"}]},
}
HTTPS: dict[str, Any] = {
    **GATEWAY,
    "spec": {
        "servers": [
            {
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "hosts": ["a.example"],
                "tls": {"mode": "SIMPLE", "credentialName": "a"},
            }
        ]
    },
}
TLS_ROUTE = {"match": [{"sniHosts": ["x.example"]}], "route": [{"destination": {"host": "x"}}]}
#: (object, where, value, path in the answer, part of the sentence)
REFUSED: list[tuple[dict[str, Any], str, Any, str, str]] = [
    (REVIEWS, WEIGHT, "many", "spec.http[0].route[1].weight", "must be a whole number, not 'many'"),
    (REVIEWS, WEIGHT, "50", "spec.http[0].route[1].weight", "must be a whole number, not '50'"),
    (REVIEWS, WEIGHT, -1, "spec.http[0].route[1].weight", "must be at least 0, not -1"),
    (REVIEWS, WEIGHT, True, "spec.http[0].route[1].weight", "must be a whole number, not true"),
    (REVIEWS, WEIGHT, 1.5, "spec.http[0].route[1].weight", "must be a whole number"),
    (REVIEWS, "spec/hosts", "reviews", "spec.hosts", "must be a list"),
    (REVIEWS, "spec/hosts", ["*"], "spec.hosts[0]", "mesh gateway"),
    (REVIEWS, "spec/hosts", ["a b"], "spec.hosts[0]", "not a host name"),
    (REVIEWS, "spec/hosts", ["a", "a"], "spec.hosts", "twice"),
    (REVIEWS, "spec/http", [], "spec", "at least one rule"),
    (REVIEWS, "spec/http", None, "spec.http", "must be a list, not nothing"),
    (REVIEWS, "spec/tcp", [{}], "spec.tcp[0].route", "at least one"),
    (REVIEWS, "spec/tcp", [{"match": [{"sourceSubnet": "x"}]}], "spec.tcp[0].match[0].sourceSubnet", "not supported"),
    (REVIEWS, "spec/tls", [TLS_ROUTE], "spec.tls[0].match[0].sniHosts[0]", "covered by none"),
    (REVIEWS, "spec/htpp", [], "spec.htpp", "did you mean http?"),
    (REVIEWS, "spec/gateways", ["a/b/c"], "spec.gateways[0]", "NAMESPACE/NAME"),
    (REVIEWS, "spec/exportTo", ["*", "a"], "spec.exportTo", "nothing can stand beside"),
    (REVIEWS, f"{FIRST}/route", [], "spec.http[0]", "needs a route, a redirect or a directResponse"),
    (REVIEWS, "spec/http/1/redirect", {"uri": "/"}, "spec.http[1].route", "cannot stand beside redirect"),
    (REVIEWS, f"{FIRST}/timeout", "5", "spec.http[0].timeout", "must be a duration such as 2s"),
    (REVIEWS, f"{FIRST}/timeout", 5, "spec.http[0].timeout", "must be a duration such as 2s"),
    (REVIEWS, f"{FIRST}/timeout", "0s", "spec.http[0].timeout", "at least 1ms"),
    (REVIEWS, f"{FIRST}/timeout", "1.00001s", "spec.http[0].timeout", "whole number of milliseconds"),
    (REVIEWS, f"{FIRST}/delegate", {"name": "x"}, "spec.http[0].delegate", "cannot stand beside route"),
    (REVIEWS, f"{FIRST}/delegate", {}, "spec.http[0].delegate.name", "is required"),
    (REVIEWS, f"{FIRST}/corsPolicy", {"allowMethods": ["get"]}, "spec.http[0].corsPolicy.allowMethods[0]", "'get'"),
    (REVIEWS, f"{FIRST}/corsPolicy", {"maxAge": "1.5s"}, "spec.http[0].corsPolicy.maxAge", "whole seconds"),
    (REVIEWS, f"{FIRST}/time_out", "1s", "spec.http[0].time_out", "did you mean timeout?"),
    (REVIEWS, f"{FIRST}/rewrite", {}, "spec.http[0].rewrite", "needs a uri"),
    (REVIEWS, f"{FIRST}/retries", {"attempts": 1, "retryOn": "bad"}, "spec.http[0].retries.retryOn", "'bad'"),
    (REVIEWS, f"{FIRST}/retries", {"attempts": 0, "retryOn": "5xx"}, "spec.http[0].retries.attempts", "turns"),
    (REVIEWS, f"{FIRST}/fault", {}, "spec.http[0].fault", "needs a delay or an abort"),
    (REVIEWS, f"{FIRST}/fault/delay/percentage/value", 101, "spec.http[0].fault.delay.percentage.value", "100"),
    (REVIEWS, f"{FIRST}/fault/delay/fixedDelay", "1", "spec.http[0].fault.delay.fixedDelay", "duration"),
    (REVIEWS, f"{FIRST}/fault/abort", {"httpStatus": 99}, "spec.http[0].fault.abort.httpStatus", "at least 200"),
    (REVIEWS, USER, {"regex": "(?=x)"}, f"{SAID}.regex", "RE2"),
    (REVIEWS, USER, {"exact": "a", "prefix": "b"}, SAID, "one of"),
    (REVIEWS, USER, {"exactt": "a"}, f"{SAID}.exactt", "exact?"),
    (REVIEWS, f"{FIRST}/match/0/headers/bad name", {"exact": "a"}, "spec.http[0].match[0].headers", "HTTP header"),
    (REVIEWS, f"{FIRST}/match/0/uri", {"regex": "["}, "spec.http[0].match[0].uri.regex", "RE2"),
    (REVIEWS, f"{FIRST}/match/0/uri", {}, "spec.http[0].match[0].uri", "needs one of"),
    (REVIEWS, f"{FIRST}/route/0/destination", {}, "spec.http[0].route[0].destination.host", "is required"),
    (REVIEWS, f"{FIRST}/route/0/destination/host", "*", "spec.http[0].route[0].destination.host", "one service"),
    (REVIEWS, f"{FIRST}/headers", {"request": {"set": {"a": "50%"}}}, "spec.http[0].headers.request.set[a]", "%%"),
    (REVIEWS, "spec", [], "spec", "must be a mapping, not a list"),
    (REVIEWS, "metadata/name", "", "metadata.name", "is required"),
    (REVIEWS, "metadata/name", "Upper", "metadata.name", "lower-case"),
    (REVIEWS, "apiVersion", "v1", "apiVersion", "must be one of networking.istio.io/v1"),
    (REVIEWS, "kind", "VirtualServce", "kind", "did you mean VirtualService?"),
    (REVIEWS, "kind", "EnvoyFilter", "kind", "EnvoyFilter is not supported"),
    (REVIEWS, "sepc", {}, "sepc", "did you mean spec?"),
    (RULE, "spec/subsets/0/name", "V 1", "spec.subsets[0].name", "not a name"),
    (RULE, "spec/subsets", [{"name": "a"}, {"name": "a"}], "spec.subsets[1].name", "defined twice"),
    (RULE, POLICY, {"tls": {"mode": "MUTUAL", "privateKey": "k"}},
     "spec.trafficPolicy.tls.clientCertificate", "MUTUAL"),
    (RULE, POLICY, {"tls": {"caCertificates": "c"}}, "spec.trafficPolicy.tls.caCertificates", "mode DISABLE"),
    (RULE, POLICY, {"loadBalancer": {"consistentHash": {}}},
     "spec.trafficPolicy.loadBalancer.consistentHash", "one of"),
    (RULE, POLICY, {"loadBalancer": {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 8}}}},
     "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize", "prime"),
    (RULE, POLICY, {"loadBalancer": {"consistentHash": {"useSourceIp": True}, "warmup": {"duration": "1s"}}},
     "spec.trafficPolicy.loadBalancer.warmup", "ROUND_ROBIN only"),
    (RULE, POLICY, {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": "a/b", "to": {"a": 50}}]}}},
     "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to", "not to 100"),
    (RULE, POLICY, {"loadBalancer": {"localityLbSetting": {"failover": [{"from": "a", "to": "a"}]}}},
     "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0].to", "another region"),
    (RULE, POLICY, {"outlierDetection": {"consecutiveLocalOriginFailures": 3}},
     "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures", "splitExternal"),
    (RULE, POLICY, {"connectionPool": {}}, "spec.trafficPolicy.connectionPool", "needs tcp or http"),
    (RULE, POLICY, {"tunnel": {}}, "spec.trafficPolicy.tunnel", "not supported yet"),
    (RULE, "spec/trafficPolicy", {"tls": {"mode": "X"}}, "spec.trafficPolicy.tls.mode", "'ISTIO_MUTUAL'"),
    (RULE, POLICY, {"loadBalancer": {"warmup": {}}}, "spec.trafficPolicy.loadBalancer.warmup.duration", "required"),
    (PEERS, "spec/mtls/mode", "strict", "spec.mtls.mode", "'STRICT'"),
    (PEERS, "spec/portLevelMtls", {"80": {"mode": "STRICT"}}, "spec.portLevelMtls", "needs a selector"),
    (PEERS, "spec/portLevelMtls", {"x": {"mode": "STRICT"}}, "spec.portLevelMtls[x]", "must be a port"),
    (ACCESS, "spec/provider", {"name": "x"}, "spec.provider", "action CUSTOM"),
    (ACCESS, f"{SOURCE}/serviceAccounts", ["a"], f"{SAID_SOURCE}.serviceAccounts", "beside principals"),
    (ACCESS, "spec/rules/0/to/0/operation/paths", ["/a{*}"], "spec.rules[0].to[0].operation.paths[0]", "segments"),
    (ACCESS, SOURCE, {}, "spec.rules[0].from[0].source", "must not be empty"),
    (ACCESS, f"{SOURCE}/ipBlocks", ["x"], "spec.rules[0].from[0].source.ipBlocks[0]", "IP address"),
    (ACCESS, "spec/rules/0/to/0/operation/ports", ["x"], "spec.rules[0].to[0].operation.ports[0]", "port number"),
    (ACCESS, "spec/rules/0/to/0/operation/methods", [""], "spec.rules[0].to[0].operation.methods[0]", "empty"),
    (ACCESS, "spec/rules/0/when/0/key", "request.auth.claims", "spec.rules[0].when[0].key", "claims[NAME]"),
    (TOKENS, "spec/jwtRules/0/issuer", "", "spec.jwtRules[0].issuer", "is required"),
    (TOKENS, "spec/jwtRules/0/jwks", "{}", "spec.jwtRules[0].jwks", "Key Set"),
    (TOKENS, "spec/jwtRules/0/jwks", '{"keys": [{"kty": "oct"}]}', "spec.jwtRules[0].jwks", "private key"),
    (TOKENS, "spec/jwtRules/0/jwksUri", "ftp://x", "spec.jwtRules[0].jwksUri", "URL"),
    (ACCESS, "spec/rules/0/when/0/key", "nonsense", "spec.rules[0].when[0].key", "is no attribute"),
    (ACCESS, "spec/rules/0/from", [], "spec.rules[0].from", "must not be an empty list"),
    (GATEWAY, "spec/servers/0/tls", {"credentialName": "c", "mode": "SIMPLE"}, "spec.servers[0].tls", "protocol HTTPS"),
    (GATEWAY, "spec/servers/0/port/protocol", "HTTPS", "spec.servers[0].tls", "is required"),
    (GATEWAY, "spec/servers/0/port/protocol", "X", "spec.servers[0].port.protocol", "must be one of"),
    (HTTPS, "spec/servers/0/tls", {"mode": "SIMPLE"}, "spec.servers[0].tls", "needs a credentialName"),
    (HTTPS, "spec/servers/0/tls", {"mode": "AUTO_PASSTHROUGH"}, "spec.servers[0].tls.mode", "not supported"),
    (HTTPS, "spec/servers/0/tls", {"mode": "ISTIO_MUTUAL", "credentialName": "x"},
     "spec.servers[0].tls.credentialName", "no effect"),
    (HTTPS, "spec/servers/0/tls/cipherSuites", ["X"], "spec.servers[0].tls.cipherSuites[0]", "cipher suite"),
    (HTTPS, "spec/servers/0/hosts", ["*x.example"], "spec.servers[0].hosts[0]", "server name"),
    (GATEWAY, "spec/servers/0/port/number", 0, "spec.servers[0].port.number", "at least 1"),
    (GATEWAY, "spec/servers/0/hosts", [], "spec.servers[0].hosts", "at least one"),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "where", "value", "path", "sentence"), REFUSED)
def test_what_is_wrong_is_said_with_its_path(
    obj: dict[str, Any], where: str, value: Any, path: str, sentence: str
) -> None:
    (problem, *others) = validate(put(obj, where, value))
    assert problem.path == path
    assert sentence in problem.sentence
    assert not others


def test_all_weights_zero_is_refused() -> None:
    nobody = put(put(REVIEWS, WEIGHT, 0), "spec/http/0/route/0/weight", 0)
    assert [str(problem) for problem in validate(nobody)] == [
        "spec.http[0].route: all weights are 0, so no destination would get a request"
    ]


def test_a_virtual_service_without_hosts_is_a_delegate() -> None:
    delegate = put(REVIEWS, "spec/hosts", [])
    assert not validate(delegate)
    assert validate(put(delegate, "spec/gateways", ["mesh"]))[0].path == "spec.gateways"


def test_deny_without_rules_is_refused_but_allow_without_rules_is_a_rule() -> None:
    nothing = {**ACCESS, "spec": {"action": "DENY"}}
    assert validate(nothing)[0].path == "spec.rules"
    assert not validate({**ACCESS, "spec": {}})


@pytest.mark.parametrize("obj", [None, 5, "text", [], [{}]])
def test_what_is_no_mapping_is_refused(obj: Any) -> None:
    (problem,) = validate(obj)
    assert "must be a mapping" in problem.sentence


def test_several_problems_are_all_said_in_one_error() -> None:
    wrong = put(put(REVIEWS, WEIGHT, "x"), "spec/http/0/timeout", "x")
    with pytest.raises(Invalid) as refused:
        parse(wrong)
    assert len(refused.value.problems) == 2
    assert str(refused.value).startswith("VirtualService shop/reviews: spec.http[0].")


def test_every_version_istio_serves_is_known() -> None:
    versions = {kind.name: kind.versions for kind in KINDS}
    assert versions["VirtualService"] == ("v1", "v1beta1", "v1alpha3")
    assert versions["AuthorizationPolicy"] == ("v1", "v1beta1")


def test_other_kinds_of_istio_are_refused_with_a_reason() -> None:
    said: Callable[[str], str | None] = why_unsupported
    assert "Envoy" in (said("EnvoyFilter") or "")
    assert said("VirtualService") is None
    assert said("Deployment") is None
