"""Route choice against a naive reading of Envoy's rules, and weights against chance."""

from __future__ import annotations

import math
import random
import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.proxy.actions import Forward, Share
from mesh.proxy.config import ConfigError
from mesh.proxy.config.routes import route_table
from mesh.proxy.headers import HeaderEdits
from mesh.proxy.routes import Route
from tests.support import xds

NAMES = ["a", "b", "a.b", "b.a", "x.a.b"]
DOMAINS = [*NAMES, "*", "*.b", "*.a.b", "a.*", "a.b:80", "*a"]
PATHS = ["/", "/a", "/a/b", "/ab", "/A", "/b/a"]


def request(host: str, target: str, headers: list[tuple[str, str]], method: str = "GET") -> Any:
    lines = [(name.encode(), value.encode()) for name, value in headers]
    return SimpleNamespace(
        authority=host.encode(),
        target=target.encode(),
        path=target.partition("?")[0].encode(),
        method=method.encode(),
        headers=lines,
        forwarded_proto=b"http",
    )


def naive_host(hosts: list[list[str]], name: str) -> int | None:
    """Exact, then the longest suffix, then the longest prefix, then everything."""
    name = name.lower()
    best: tuple[int, int] | None = None
    found = None
    for number, domains in enumerate(hosts):
        for domain in domains:
            if domain == name:
                rank = (3, 0)
            elif domain == "*":
                rank = (0, 0)
            elif domain.startswith("*") and name.endswith(domain[1:]) and len(name) > len(domain) - 1:
                rank = (2, len(domain))
            elif domain.endswith("*") and name.startswith(domain[:-1]) and len(name) > len(domain) - 1:
                rank = (1, len(domain))
            else:
                continue
            if best is None or rank > best:
                best, found = rank, number
    return found


def naive_path(match: dict[str, Any], path: str) -> bool:
    if match.get("case_sensitive") is False:
        path, match = path.lower(), {key: str(value).lower() for key, value in match.items()}
    if "prefix" in match:
        return path.startswith(match["prefix"])
    if "path" in match:
        return path == match["path"]
    if "path_separated_prefix" in match:
        return path == match["path_separated_prefix"] or path.startswith(match["path_separated_prefix"] + "/")
    return re.fullmatch(match["safe_regex"]["regex"], path) is not None


def naive_header(matcher: dict[str, Any], headers: list[tuple[str, str]]) -> bool:
    values = [value for name, value in headers if name == matcher["name"]]
    invert = matcher.get("invert_match", False)
    if matcher.get("present_match"):
        return bool(values) != invert
    if not values:
        return False
    kind, wanted = next(iter(matcher["string_match"].items()))
    tests = {
        "exact": str.__eq__,
        "prefix": str.startswith,
        "suffix": str.endswith,
        "contains": str.__contains__,
    }
    return any(tests[kind](value, wanted) for value in values) != invert


path_matches = st.one_of(
    st.fixed_dictionaries(
        {"prefix": st.sampled_from(["/", "/a", "/a/", "/A"])}, optional={"case_sensitive": st.booleans()}
    ),
    st.fixed_dictionaries({"path": st.sampled_from(PATHS)}),
    st.fixed_dictionaries({"path_separated_prefix": st.sampled_from(["/a", "/b"])}),
    st.fixed_dictionaries(
        {"safe_regex": st.fixed_dictionaries({"regex": st.sampled_from(["/a.*", "/[ab]", ".*b"])})}
    ),
)
header_matches = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["x", "y"]),
            "string_match": st.sampled_from(
                [{"exact": "1"}, {"prefix": "1"}, {"suffix": "2"}, {"contains": "1"}]
            ),
        },
        optional={"invert_match": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["x", "y"]), "present_match": st.just(True)},
        optional={"invert_match": st.booleans()},
    ),
)
rules = st.lists(st.tuples(path_matches, st.lists(header_matches, max_size=2)), max_size=5)
request_headers = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["1", "12", "2", ""])), max_size=3
)


@settings(max_examples=400, deadline=None)
@given(
    hosts=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=6, unique=True),
    rules=rules,
    host=st.sampled_from([*NAMES, "A.B", "c", "a.b:80", "za"]),
    path=st.sampled_from(PATHS),
    headers=request_headers,
)
def test_the_route_is_the_one_a_naive_reader_finds(
    hosts: list[str], rules: Any, host: str, path: str, headers: list[tuple[str, str]]
) -> None:
    table = route_table(
        xds.routes(
            "table",
            *(
                xds.host(
                    *(
                        xds.rule(f"{number}-{index}", {**match, "headers": wanted})
                        for index, (match, wanted) in enumerate(rules)
                    ),
                    domains=(domain,),
                )
                for number, domain in enumerate(hosts)
            ),
        )
    )
    found = table.find(request(host, f"{path}?q=1", headers))
    number = naive_host([[domain] for domain in hosts], host)
    expected = None
    if number is not None:
        for index, (match, wanted) in enumerate(rules):
            if naive_path(match, path) and all(naive_header(each, headers) for each in wanted):
                expected = f"{number}-{index}"
                break
    assert (found and cluster_of(found)) == expected


def cluster_of(route: Route) -> str:
    action = route.action
    assert isinstance(action, Forward)
    return action.choose(0.0).cluster


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(sum), st.integers(0, 2**32))
def test_weights_are_kept(weights: list[int], seed: int) -> None:
    shares = [Share(str(number), weight, HeaderEdits()) for number, weight in enumerate(weights)]
    action, draws, total = Forward(shares), random.Random(seed), sum(weights)
    count = 4000
    seen = dict.fromkeys((str(number) for number in range(len(weights))), 0)
    for _ in range(count):
        seen[action.choose(draws.random()).cluster] += 1
    chi_square = 0.0
    for number, weight in enumerate(weights):
        expected = count * weight / total
        if weight == 0:
            assert seen[str(number)] == 0
        else:
            chi_square += (seen[str(number)] - expected) ** 2 / expected
    # 4 degrees of freedom at most; beyond 40 chance is one in 20 million.
    assert chi_square < 40 and math.isfinite(chi_square)


def test_every_draw_falls_into_a_share() -> None:
    action = Forward([Share("a", 1, HeaderEdits()), Share("b", 2, HeaderEdits())])
    assert action.choose(0.0).cluster == "a"
    assert action.choose(math.nextafter(1.0, 0.0)).cluster == "b"
    assert action.choose(math.nextafter(1 / 3, 0.0)).cluster == "a"


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        (xds.routes("r", xds.host(xds.rule("c"), domains=("a",)), xds.host(domains=("a",))), "appears twice"),
        (xds.routes("r", xds.host({"match": {"prefix": "/"}})), "one of route, redirect"),
        (
            xds.routes("r", xds.host(xds.rule("c", {"safe_regex": {"regex": "(?=a)"}}))),
            "routes[0].match.safe_regex: regex '(?=a)': RE2 does not know '(?='",
        ),
        (
            xds.routes("r", xds.host(xds.rule(route={"weighted_clusters": {"clusters": [{"name": "a"}]}}))),
            "the weights' sum must be positive",
        ),
        (
            xds.routes("r", xds.host(xds.rule("c", route={"retry_policy": {"retry_on": "sometimes"}}))),
            "retry_on: sometimes is not supported",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(routes: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        route_table(routes)
