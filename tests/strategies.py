"""Hypothesis strategies for valid config objects."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

names = st.sampled_from(["productpage", "details", "reviews", "ratings", "missing"])
versions = st.sampled_from(["v1", "v2", "v3"])
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789/-_.~%+ é", min_size=1, max_size=10)
regexes = st.sampled_from(
    [".*", "/a+", "[0-9]{1,3}", "(?i)abc", r"\d+\.\w*", "a|b", "x?", "[[:alpha:]]+", r"\pL"]
)
header_names = st.sampled_from(["end-user", "x-a", "user-agent", "cookie", "x_b", "Accept"])
durations = st.sampled_from(["1ms", "2.5s", "1h30m", "100ms", "90s"])
percents = st.floats(0, 100, allow_nan=False).map(lambda value: {"value": value})

string_matches = st.one_of(
    words.map(lambda text: {"exact": text}),
    words.map(lambda text: {"prefix": text}),
    regexes.map(lambda text: {"regex": text}),
)
header_matches = st.dictionaries(header_names, string_matches | st.just({}), max_size=2)


def fields(required: dict[str, Any], **optional: Any) -> Any:
    """A mapping with these fields, each optional one there or not."""
    return st.fixed_dictionaries(required, optional=optional)


matches = fields(
    {},
    name=st.sampled_from(["one", "two"]),
    uri=string_matches,
    method=st.sampled_from(["GET", "POST"]).map(lambda text: {"exact": text}),
    authority=string_matches,
    scheme=st.just({"exact": "http"}),
    headers=header_matches,
    withoutHeaders=header_matches,
    queryParams=st.dictionaries(st.sampled_from(["q", "page"]), string_matches | st.just({}), max_size=2),
    ignoreUriCase=st.booleans(),
    sourceLabels=st.sampled_from([{"app": "productpage"}, {"app": "nobody"}]),
    port=st.sampled_from([9080, 80]),
)
destinations = fields({"host": names}, subset=versions, port=st.just({"number": 9080}))
values = st.sampled_from(["a", "50%%", "b c", ""])
operations = fields(
    {},
    set=st.dictionaries(header_names, values, max_size=2),
    add=st.dictionaries(header_names, values, max_size=2),
    remove=st.lists(header_names, max_size=2),
)
headers = fields({}, request=operations, response=operations)


@st.composite
def route_lists(draw: Any) -> list[dict[str, Any]]:
    """One to three destinations, of which one has a weight above zero."""
    routes = draw(st.lists(fields({"destination": destinations}, headers=headers), min_size=1, max_size=3))
    weights = draw(st.lists(st.integers(0, 100), min_size=len(routes), max_size=len(routes)))
    weights[0] = max(1, weights[0])
    return [{**route, "weight": weight} for route, weight in zip(routes, weights, strict=True)]


faults = st.one_of(
    fields({"fixedDelay": durations}, percentage=percents).map(lambda delay: {"delay": delay}),
    fields({"httpStatus": st.integers(200, 599)}, percentage=percents).map(lambda abort: {"abort": abort}),
    fields({"grpcStatus": st.just("NOT_FOUND")}, percentage=percents).map(lambda abort: {"abort": abort}),
)
forwards = fields(
    {"route": route_lists()},
    name=st.sampled_from(["first", "second"]),
    match=st.lists(matches, max_size=3),
    timeout=durations,
    retries=fields(
        {"attempts": st.integers(1, 5)}, perTryTimeout=durations, retryOn=st.just("5xx,503,reset")
    ),
    rewrite=st.sampled_from([{"uri": "/x"}, {"authority": "a.example"}]),
    fault=faults,
    headers=headers,
    mirror=destinations,
)
redirects = fields(
    {"redirect": st.sampled_from([{"uri": "/new"}, {"authority": "b.example", "redirectCode": 302}])},
    match=st.lists(matches, max_size=2),
)
answers = fields({"directResponse": st.builds(lambda code: {"status": code}, st.integers(200, 599))})


@st.composite
def virtual_services(draw: Any) -> dict[str, Any]:
    """A VirtualService of Bookinfo that is valid (its destinations need not exist)."""
    host = draw(names)
    rules = draw(st.lists(st.one_of(forwards, forwards, redirects, answers), min_size=1, max_size=4))
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": host},
        "spec": {"hosts": [host], "http": rules},
    }
