"""What a method and a URL ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.embedded.paths import Target, read


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, Target("list", "", version="v1", resource="pods")),
        ("GET", "/api/v1/pods", {"watch": "true"}, Target("watch", "", version="v1", resource="pods")),
        ("GET", "/api/v1/watch/pods", {}, Target("watch", "", version="v1", resource="pods")),
        ("GET", "/api/v1/namespaces", {}, Target("list", "", version="v1", resource="namespaces")),
        (
            "GET",
            "/api/v1/namespaces/a",
            {},
            Target("get", "", version="v1", resource="namespaces", namespace="a", name="a"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            {},
            Target("update", "", "", "v1", "namespaces", "a", "a", "finalize"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/status/",
            {},
            Target("get", "", "", "v1", "namespaces", "a", "a", "status"),
        ),
        ("POST", "/api/v1/namespaces/a/pods", {}, Target("create", "", "", "v1", "pods", "a")),
        ("DELETE", "/api/v1/namespaces/a/pods", {}, Target("deletecollection", "", "", "v1", "pods", "a")),
        ("DELETE", "/api/v1/namespaces/a/pods/p", {}, Target("delete", "", "", "v1", "pods", "a", "p")),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            {},
            Target("patch", "", "apps", "v1", "deployments", "a", "d", "scale"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/services/http:s:80/proxy/x%2Fy/z",
            {"watch": "1"},
            Target("get", "", "", "v1", "services", "a", "http:s:80", "proxy", "x%2Fy/z"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/services/s/proxy/",
            {},
            Target("get", "", "", "v1", "services", "a", "s", "proxy"),
        ),
        ("GET", "/apis/apps/v1", {}, Target("get", "")),
        ("GET", "/healthz", {}, Target("get", "")),
    ],
)
def test_paths(method: str, path: str, query: dict[str, str], expected: Target) -> None:
    found = read(method, path, query)
    assert found == Target(expected.verb, path, *[getattr(expected, f) for f in list(Target.__slots__)[2:]])


@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    st.text("/abipsvn1%.:-", max_size=40),
)
def test_any_path_can_be_read(method: str, path: str) -> None:
    target = read(method, "/" + path, {})
    assert target.verb and bool(target.name or not target.subresource)
