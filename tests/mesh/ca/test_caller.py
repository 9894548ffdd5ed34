"""From a bearer token to an identity."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.ca.caller import AUDIENCE, UnauthenticatedError, bearer_token, from_review

USER = {
    "username": "system:serviceaccount:default:bookinfo-reviews",
    "extra": {"authentication.kubernetes.io/pod-name": ["reviews-v1-x"]},
}
GOOD: dict[str, Any] = {"authenticated": True, "audiences": [AUDIENCE], "user": USER}


def test_bearer_token() -> None:
    assert bearer_token([("x", "y"), ("Authorization", "bearer abc ")]) == "abc"
    for metadata in (
        [],
        [("authorization", "Basic abc")],
        [("authorization", "Bearer ")],
        [("x", "Bearer a")],
    ):
        with pytest.raises(UnauthenticatedError, match="no bearer token"):
            bearer_token(metadata)


def test_the_caller_is_who_kubernetes_says() -> None:
    caller = from_review(GOOD, "cluster.local")
    assert caller.identity.uri == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    assert caller.pod == "reviews-v1-x"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"authenticated": False, "error": "expired"}, "expired"),
        ({"audiences": ["https://kubernetes.default.svc"]}, "not meant for the audience istio-ca"),
        ({"audiences": None}, "not meant for the audience istio-ca"),
        ({"user": {"username": "kubernetes-admin"}}, "is not a service account"),
        ({"user": None}, "is not a service account"),
    ],
)
def test_any_other_token_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UnauthenticatedError, match=said):
        from_review({**GOOD, **change}, "cluster.local")
