"""Telemetry objects, resolved for one workload: which requests are logged where, and what share is traced.

The level nearest to the workload decides: objects that select it, then its namespace's, then the mesh's (in the root
namespace); each level for itself about logs and about traces. On one level the oldest object decides.
Source: istio.io, Reference, Telemetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2

from mesh.api.log_filter import Code, Expression, Header, parse_filter
from mesh.api.objects import ConfigObject
from mesh.api.telemetry import AccessLogging, TelemetrySpec, Tracing
from mesh.control.compile import pb
from mesh.control.world import Labels, MeshConfig, World

Telemetry = ConfigObject[TelemetrySpec]
Mode = Literal["CLIENT", "SERVER"]


def observed(world: World, namespace: str, labels: Labels, mode: Mode) -> World:
    """The same world with the mesh's settings for logs and traces as they are for this workload; mostly unchanged."""
    levels = list(_levels(world, namespace, labels))
    if not levels:
        return world
    key = ("observed", mode, *((each.namespace, each.name) for each in levels))
    inputs = (world.mesh, *levels)
    return replace(world, mesh=world.memo.get(key, inputs, lambda: _settings(world.mesh, levels, mode)))


def _levels(world: World, namespace: str, labels: Labels) -> Iterator[Telemetry]:
    """The object of each level, the mesh's first."""
    listed, seen = world.telemetries, list[Telemetry]()
    for where, selecting in ((world.mesh.root_namespace, False), (namespace, False), (namespace, True)):
        found = (
            each
            for each in listed
            if each.namespace == where
            and bool(each.spec.selector and each.spec.selector.match_labels) == selecting
            and (not selecting or (each.spec.selector and each.spec.selector.selects(labels)))
        )
        one = next(found, None)
        if one is not None and one not in seen:
            seen.append(one)
            yield one


def _settings(mesh: MeshConfig, levels: list[Telemetry], mode: Mode) -> MeshConfig:
    for level in levels:
        entries = [each for each in level.spec.access_logging if _fits(each, mode)]
        if entries:
            mesh = _logging(mesh, entries[-1])
        for tracing in (each for each in level.spec.tracing if _fits(each, mode)):
            mesh = _tracing(mesh, tracing)
    return mesh


def _fits(entry: AccessLogging | Tracing, mode: Mode) -> bool:
    return entry.match is None or entry.match.mode in ("CLIENT_AND_SERVER", mode)


def _logging(mesh: MeshConfig, entry: AccessLogging) -> MeshConfig:
    """A provider that the mesh config does not have gets nothing."""
    service = mesh.access_log_service
    for provider in entry.providers:
        service = dict(mesh.log_providers).get(provider.name)
    expression = entry.filter.expression if entry.filter else ""
    return replace(mesh, access_log_service=None if entry.disabled else service, access_log_filter=expression)


def _tracing(mesh: MeshConfig, entry: Tracing) -> MeshConfig:
    """What an entry leaves unsaid stays as on the level above."""
    service = mesh.trace_service
    for provider in entry.providers:
        service = dict(mesh.trace_providers).get(provider.name)
    if entry.disable_span_reporting:
        service = None
    share = entry.random_sampling_percentage
    return replace(
        mesh,
        trace_service=service,
        trace_sampling=mesh.trace_sampling if share is None else share,
        trace_tags=(*mesh.trace_tags, *((name, tag) for name, tag in entry.custom_tags.items())),
    )


def log_filter(text: str) -> Any:
    """A log filter's expression as Envoy's AccessLogFilter."""
    return _filter(parse_filter(text))


def _filter(expression: Expression) -> Any:
    result = accesslog_pb2.AccessLogFilter()
    if isinstance(expression, Code):
        result.status_code_filter.comparison.CopyFrom(_compared(expression))
    elif isinstance(expression, Header):
        matcher = route_components_pb2.HeaderMatcher(
            name=expression.name, string_match=pb.exact(expression.text), invert_match=not expression.equal
        )
        result.header_filter.header.CopyFrom(matcher)
    else:
        target = result.and_filter if expression.every else result.or_filter
        target.filters.extend(_filter(part) for part in expression.parts)
    return result


def _compared(expression: Code) -> Any:
    """Envoy knows ==, !=, >= and <=."""
    kinds = accesslog_pb2.ComparisonFilter
    number = expression.number + {">": 1, "<": -1}.get(expression.operator, 0)
    operators = {"==": kinds.EQ, "!=": kinds.NE, ">=": kinds.GE, ">": kinds.GE, "<=": kinds.LE, "<": kinds.LE}
    value = base_pb2.RuntimeUInt32(default_value=max(number, 0), runtime_key="mesh.access_log.status")
    return kinds(op=operators[expression.operator], value=value)
