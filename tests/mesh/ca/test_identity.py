"""SPIFFE names: built from what Kubernetes says, parsed strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.ca.identity import Identity, IdentityError, from_user_name, parse_spiffe


def test_round_trip() -> None:
    identity = parse_spiffe("spiffe://cluster.local/ns/default/sa/bookinfo-reviews")
    assert identity == Identity("cluster.local", "default", "bookinfo-reviews")
    assert identity.uri == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    assert identity.principal == "cluster.local/ns/default/sa/bookinfo-reviews"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "cluster.local/ns/default/sa/x",
        "http://cluster.local/ns/default/sa/x",
        "spiffe://cluster.local/ns/default/sa",
        "spiffe://cluster.local/ns/default/sa/",
        "spiffe://cluster.local/ns//sa/x",
        "spiffe://cluster.local/ns/default/sa/x/y",
        "spiffe://cluster.local/sa/default/ns/x",
        "spiffe://Cluster.Local/ns/default/sa/x",
        "spiffe://cluster.local:80/ns/default/sa/x",
        "spiffe://cluster.local/ns/default/sa/x?y",
        "spiffe://cluster.local/ns/../sa/x",
    ],
)
def test_other_names_are_refused(uri: str) -> None:
    with pytest.raises(IdentityError):
        parse_spiffe(uri)


def test_identity_of_a_token_user() -> None:
    assert from_user_name("system:serviceaccount:shop:cart", "cluster.local").uri == (
        "spiffe://cluster.local/ns/shop/sa/cart"
    )
    for user in (
        "kubernetes-admin",
        "system:node:n1",
        "system:serviceaccount:shop",
        "system:serviceaccount::cart",
    ):
        with pytest.raises(IdentityError):
            from_user_name(user, "cluster.local")


@given(st.text())
def test_parsing_never_accepts_what_it_would_write_differently(text: str) -> None:
    try:
        identity = parse_spiffe(text)
    except IdentityError:
        return
    assert identity.uri == text
