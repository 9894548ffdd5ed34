"""Which requests are logged and traced: Telemetry objects, from the mesh down to one workload."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.api.log_filter import Code, Header, parse_filter
from mesh.control.compile.telemetry import log_filter
from mesh.control.world import MeshConfig, World
from tests.mesh.control.compile.test_listeners import inbound, manager
from tests.worlds import bookinfo, objects

OTHER = ("logs.default.svc.cluster.local", 1)
SPANS = ("spans.default.svc.cluster.local", 4317)
SETTINGS = MeshConfig(log_providers=(("other", OTHER),), trace_providers=(("spans", SPANS),))


def telemetry(spec: str, namespace: str = "default", name: str = "t") -> Any:
    head = f"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return objects(f"{head}spec: {spec}")[0]


def server(world: World, workload: str = "productpage-v1") -> Any:
    """The connection manager at the inbound side."""
    return manager(inbound(world, workload).filter_chains[0])


def log_cluster(found: Any) -> str:
    from envoy.extensions.access_loggers.grpc.v3 import als_pb2

    config = als_pb2.HttpGrpcAccessLogConfig()
    assert found.access_log[0].typed_config.Unpack(config)
    return str(config.common_config.grpc_service.envoy_grpc.cluster_name)


def test_nothing_said_changes_nothing() -> None:
    assert log_cluster(server(bookinfo())).endswith("mesh-telemetry.mesh-system.svc.cluster.local")
    assert not server(bookinfo()).HasField("tracing")


def test_the_nearest_level_decides() -> None:
    off = telemetry("{accessLogging: [{disabled: true}]}", "mesh-system")
    other = telemetry("{accessLogging: [{providers: [{name: other}]}]}")
    own = telemetry(
        "{selector: {matchLabels: {app: ratings}}, accessLogging: [{disabled: true}]}", name="own"
    )
    assert not server(bookinfo(off, mesh=SETTINGS)).access_log
    both = bookinfo(off, other, own, mesh=SETTINGS)
    assert log_cluster(server(both)) == "outbound|1||logs.default.svc.cluster.local"
    assert not server(both, "ratings-v1").access_log


def test_client_and_server_are_told_apart() -> None:
    world = bookinfo(telemetry("{accessLogging: [{match: {mode: CLIENT}, disabled: true}]}"))
    assert server(world).access_log
    filtered = bookinfo(telemetry('{accessLogging: [{filter: {expression: "response.code >= 500"}}]}'))
    comparison = server(filtered).access_log[0].filter.status_code_filter.comparison
    assert comparison.value.default_value == 500


def test_what_a_level_leaves_unsaid_about_traces_is_taken_from_above() -> None:
    mesh = telemetry("{tracing: [{providers: [{name: spans}], randomSamplingPercentage: 5}]}", "mesh-system")
    own = telemetry("{tracing: [{customTags: {a: {literal: {value: b}}}}]}")
    found = server(bookinfo(mesh, own, mesh=SETTINGS)).tracing
    assert found.random_sampling.value == 5
    assert [tag.tag for tag in found.custom_tags] == ["a"]
    none = telemetry("{tracing: [{disableSpanReporting: true}]}")
    assert not server(bookinfo(mesh, none, mesh=SETTINGS)).HasField("tracing")


def holds(found: Any, code: int, method: str) -> bool:
    """What Envoy's filter says, in a few lines."""
    kind = found.WhichOneof("filter_specifier")
    if kind == "status_code_filter":
        number = found.status_code_filter.comparison.value.default_value
        return [code == number, code >= number, code <= number, code != number][
            found.status_code_filter.comparison.op
        ]
    if kind == "header_filter":
        header = found.header_filter.header
        return bool((header.string_match.exact == method) != header.invert_match)
    parts = getattr(found, kind).filters
    return (all if kind == "and_filter" else any)(holds(part, code, method) for part in parts)


atoms = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", ">=", "<=", ">", "<"]), st.integers(100, 599)).map(
        lambda pair: f"response.code {pair[0]} {pair[1]}"
    ),
    st.tuples(st.sampled_from(["==", "!="]), st.sampled_from(["GET", "PUT"])).map(
        lambda pair: f"request.method {pair[0]} '{pair[1]}'"
    ),
)
expressions = st.recursive(
    atoms,
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda parts: st.sampled_from([f"({' && '.join(parts)})", f"({' || '.join(parts)})"])
    ),
    max_leaves=5,
)


@given(expressions, st.integers(100, 599), st.sampled_from(["GET", "PUT"]))
def test_a_filter_means_what_it_says(expression: str, code: int, method: str) -> None:
    python = expression.replace("&&", " and ").replace("||", " or ")
    python = python.replace("response.code", str(code)).replace("request.method", repr(method))
    assert holds(log_filter(expression), code, method) is bool(eval(python))


def test_and_binds_stronger_than_or() -> None:
    found = parse_filter("response.code == 1 || response.code == 2 && request.headers[\"x\"] != 'a'")
    assert not isinstance(found, Code | Header)
    assert not found.every
    assert found.parts[0] == Code("==", 1)


@pytest.mark.parametrize(
    "text",
    *[["", "response.code", "response.code = 4", "response.size > 3", "(response.code > 3", "1 == 1", "a; b",
       "response.code >= 'x'", "request.method > 'GET'", "response.code > 3 response.code > 4"]],
)  # fmt: skip
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_filter(text)
