"""A VirtualService may leave the decision to another one; together they say what one alone would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.http_route import HTTPRoute
from mesh.api.matching import HTTPMatchRequest
from mesh.control.analyze import analyze
from mesh.control.compile.delegates import conflict, join
from tests.mesh.control.compile.test_routes import routes
from tests.worlds import bookinfo, objects

TEXT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [reviews]
  http:
    - {match: [{uri: {prefix: /a}}], delegate: {name: below, namespace: shop}, timeout: 3s, name: root}
    - {match: [{uri: {prefix: /b}}], delegate: {name: missing}}
    - {route: [{destination: {host: ratings}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: below, namespace: shop}
spec:
  http:
    - {name: one, match: [{uri: {prefix: /a/b}}], route: [{destination: {host: details}}]}
    - {match: [{uri: {prefix: /other}}], route: [{destination: {host: details}}]}
    - {route: [{destination: {host: details.default.svc.cluster.local}}], timeout: 1s}
"""


def test_rules_are_joined_where_both_conditions_can_hold() -> None:
    one, rest, last = routes(bookinfo(*objects(TEXT)))
    assert (one.name, one.match.prefix, one.route.timeout.seconds) == ("root-one", "/a/b", 3)
    assert one.route.cluster == "outbound|9080||details.shop.svc.cluster.local", (
        "the delegate's own namespace"
    )
    assert (rest.match.prefix, rest.route.timeout.seconds) == ("/a", 1)
    assert last.route.cluster.endswith("ratings.default.svc.cluster.local")


def test_what_is_hidden_or_missing_is_passed_over_and_said() -> None:
    hidden = objects(TEXT.replace("spec:\n  http:", 'spec:\n  exportTo: ["."]\n  http:'))
    assert len(routes(bookinfo(*hidden))) == 1
    said = [str(found) for found in analyze(bookinfo(*objects(TEXT)))]
    assert any("spec.http[1].delegate" in each and "default/missing" in each for each in said)
    assert any("IST0130" in each and "shop/below" in each for each in said)


def match(**spec: Any) -> HTTPMatchRequest:
    return HTTPMatchRequest.model_validate(spec)


@pytest.mark.parametrize(
    ("root", "leaf", "expected"),
    [
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}, False),
        ({"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/a"}}, True),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}, False),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/ab"}}, False),
        ({"uri": {"regex": "a"}}, {"uri": {"exact": "a"}}, True),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, True),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"y": {"exact": "2"}}}, False),
        ({"port": 1}, {"port": 2}, True),
        ({"gateways": ["a", "b"]}, {"gateways": ["a"]}, False),
        ({"gateways": ["a"]}, {"gateways": ["a", "b"]}, True),
        ({"sourceNamespace": "a"}, {}, True),
    ],
)
def test_a_delegate_may_only_narrow(root: dict[str, Any], leaf: dict[str, Any], expected: bool) -> None:
    assert conflict(match(**root), match(**leaf)) is expected


prefixes = st.sampled_from(["/", "/a", "/a/b", "/b"]).map(lambda text: {"uri": {"prefix": text}})


@given(st.lists(prefixes, max_size=3), st.lists(prefixes, max_size=3))
def test_what_is_joined_is_within_the_root(roots: list[Any], leaves: list[Any]) -> None:
    joined = join(
        HTTPRoute.model_validate({"match": roots, "delegate": {"name": "x"}}),
        HTTPRoute.model_validate({"match": leaves, "route": []}),
    )
    if joined is not None and roots:
        starts = [each["uri"]["prefix"] for each in roots]
        assert all(any(((m.uri and m.uri.prefix) or "").startswith(s) for s in starts) for m in joined.match)
