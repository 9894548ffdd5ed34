"""Names of clusters and hosts."""

from __future__ import annotations

import pytest

from mesh.control.compile.naming import host_matches, most_specific, resolve, short_names, sni


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*", "anything", True),
        ("a.b", "a.b", True),
        ("*.b", "a.b", True),
        ("*.b", "b", False),
        ("*.b", ".b", False),
        ("*.b", "*.a.b", True),
        ("*.a.b", "*.b", False),
        ("a.b", "*.b", False),
        ("*", "*.b", True),
    ],
)
def test_host_patterns(pattern: str, host: str, expected: bool) -> None:
    assert host_matches(pattern, host) is expected


def test_the_longest_pattern_is_the_most_specific_and_a_name_beats_all() -> None:
    assert most_specific(["*", "*.c", "*.b.c"], "a.b.c") == "*.b.c"
    assert most_specific(["*.b.c", "a.b.c"], "a.b.c") == "a.b.c"
    assert most_specific(["*.x"], "a.b.c") is None


def test_only_names_without_dots_are_completed() -> None:
    assert resolve("Reviews", "shop", "cluster.local") == "reviews.shop.svc.cluster.local"
    assert resolve("reviews.shop", "x", "cluster.local") == "reviews.shop"
    assert resolve("*", "shop", "cluster.local") == "*"


def test_the_bare_name_is_for_the_own_namespace() -> None:
    name = "reviews.shop.svc.cluster.local"
    assert short_names(name, "shop", "cluster.local") == [name, "reviews.shop.svc", "reviews.shop", "reviews"]
    assert short_names(name, "other", "cluster.local") == [name, "reviews.shop.svc", "reviews.shop"]
    assert short_names("a.example", "shop", "cluster.local") == ["a.example"]


def test_sni_has_no_pipe() -> None:
    assert sni(80, "v1", "a.b") == "outbound_.80_.v1_.a.b"
