"""AuthorizationPolicy as Envoy RBAC filters, for HTTP requests and for bare TCP connections.

Order as in Istio: AUDIT only writes a log, DENY refuses, then ALLOW refuses what no ALLOW policy fits. Policies of the
root namespace hold for every namespace. Policy names are Istio's: `ns[NS]-policy[NAME]-rule[INDEX]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from envoy.config.core.v3 import address_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import path_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.authorization_policy import AuthorizationPolicySpec, Operation, Rule, Source
from mesh.api.objects import ConfigObject
from mesh.control.compile import pb
from mesh.control.world import Labels, World

Policy = ConfigObject[AuthorizationPolicySpec]
Permission, Principal = rbac_pb2.Permission, rbac_pb2.Principal

#: In the order in which the filters stand.
_ACTIONS = (("AUDIT", rbac_pb2.RBAC.LOG), ("DENY", rbac_pb2.RBAC.DENY), ("ALLOW", rbac_pb2.RBAC.ALLOW))


def policies_for(world: World, namespace: str, labels: Labels) -> tuple[Policy, ...]:
    """The policies a workload obeys: of its own namespace and of the root namespace, if they select it."""
    return tuple(
        policy
        for policy in world.authorization_policies
        if policy.namespace in (namespace, world.mesh.root_namespace)
        and (policy.spec.selector is None or policy.spec.selector.selects(labels))
    )


def rules_for(policies: Sequence[Policy], *, http: bool) -> list[Any]:
    """The RBAC rule sets (envoy.config.rbac.v3.RBAC) of these policies, in the order of evaluation.

    On a TCP connection a condition on HTTP cannot hold: an ALLOW rule with one never fits, while a DENY or AUDIT
    rule is read without it, so that it refuses more rather than less (as in Istio).
    """
    sets = []
    for action, envoy_action in _ACTIONS:
        chosen = [policy for policy in policies if policy.spec.action == action]
        if not chosen:
            continue
        rules = rbac_pb2.RBAC(action=envoy_action)
        for policy in chosen:
            for name, rule in _named_rules(policy, http=http):
                rules.policies[name].CopyFrom(rule)
        sets.append(rules)
    return sets


def _named_rules(policy: Policy, *, http: bool) -> list[tuple[str, Any]]:
    prefix = f"ns[{policy.namespace}]-policy[{policy.name}]-rule"
    if not policy.spec.rules:
        return [(f"{prefix}[0]", _never())]
    allow = policy.spec.action == "ALLOW"
    built = ((index, _policy(rule, http, allow)) for index, rule in enumerate(policy.spec.rules))
    return [(f"{prefix}[{index}]", rule) for index, rule in built if rule is not None]


def _never() -> Any:
    """A policy that nothing fits: what makes an ALLOW without rules refuse everything."""
    return rbac_pb2.Policy(
        permissions=[Permission(not_rule=Permission(any=True))],
        principals=[Principal(not_id=Principal(any=True))],
    )


class _HttpOnly(Exception):
    """An ALLOW rule asks for something of HTTP on a connection that is not HTTP."""


class _Term(NamedTuple):
    """One attribute: any of `values` and none of `excluded`, each turned into a matcher by `one`."""

    values: Sequence[str]
    excluded: Sequence[str]
    one: Callable[[str], Any]
    http_only: bool = False


def _policy(rule: Rule, http: bool, allow: bool) -> Any | None:
    when_permissions, when_principals = _conditions(rule)
    operations = [_operation(to.operation) for to in rule.to] or [[]]
    sources = [_source(origin.source) for origin in rule.from_] or [[]]
    try:
        return rbac_pb2.Policy(
            permissions=[_all(Permission, o + when_permissions, http, allow) for o in operations],
            principals=[_all(Principal, s + when_principals, http, allow) for s in sources],
        )
    except _HttpOnly:
        return None


def _operation(operation: Operation) -> list[_Term]:
    o = operation
    return [
        _Term(
            o.hosts, o.not_hosts, lambda v: Permission(header=_header(":authority", v, True)), http_only=True
        ),
        _Term(o.methods, o.not_methods, lambda v: Permission(header=_header(":method", v)), http_only=True),
        _Term(o.paths, o.not_paths, _path, http_only=True),
        _Term(o.ports, o.not_ports, lambda v: Permission(destination_port=int(v))),
    ]


def _source(source: Source) -> list[_Term]:
    return [
        _Term(source.principals, source.not_principals, _principal),
        _Term(source.namespaces, source.not_namespaces, _namespace),
        _Term(source.ip_blocks, source.not_ip_blocks, _source_ip),
    ]


def _conditions(rule: Rule) -> tuple[list[_Term], list[_Term]]:
    """`when`: what Envoy counts as permission (the request) and what as principal (who asks)."""
    permissions: list[_Term] = []
    principals: list[_Term] = []
    simple = {"source.namespace": _namespace, "source.principal": _principal, "source.ip": _source_ip}
    for condition in rule.when:
        values, excluded = condition.values, condition.not_values
        if condition.key == "destination.port":
            permissions.append(_Term(values, excluded, lambda v: Permission(destination_port=int(v))))
        elif condition.header is not None:
            principals.append(_Term(values, excluded, _header_principal(condition.header), http_only=True))
        else:
            principals.append(_Term(values, excluded, simple[condition.key]))
    return permissions, principals


def _all(kind: Any, terms: list[_Term], http: bool, allow: bool) -> Any:
    """AND of all terms; one that always holds if there are none."""
    parts: list[Any] = []
    for term in terms:
        if not (term.values or term.excluded):
            continue
        if term.http_only and not http:
            if allow:
                raise _HttpOnly
            continue
        if term.values:
            parts.append(_any(kind, [term.one(value) for value in term.values]))
        if term.excluded:
            parts.append(_not(kind, _any(kind, [term.one(value) for value in term.excluded])))
    return _and(kind, parts or [kind(any=True)])


def _and(kind: Any, parts: list[Any]) -> Any:
    if kind is Permission:
        return Permission(and_rules=Permission.Set(rules=parts))
    return Principal(and_ids=Principal.Set(ids=parts))


def _any(kind: Any, parts: list[Any]) -> Any:
    if kind is Permission:
        return Permission(or_rules=Permission.Set(rules=parts))
    return Principal(or_ids=Principal.Set(ids=parts))


def _not(kind: Any, part: Any) -> Any:
    return Permission(not_rule=part) if kind is Permission else Principal(not_id=part)


def _principal(value: str) -> Any:
    """Principals are written without `spiffe://`; the certificate has it."""
    return Principal(authenticated=Principal.Authenticated(principal_name=wildcard(value, "spiffe://")))


def _namespace(value: str) -> Any:
    pattern = ".*".join(re.escape(part) for part in value.split("*"))
    matcher = pb.matching(f".*/ns/{pattern}/.*")
    return Principal(authenticated=Principal.Authenticated(principal_name=matcher))


def _source_ip(value: str) -> Any:
    address, _, bits = value.partition("/")
    length = int(bits) if bits else (128 if ":" in address else 32)
    block = address_pb2.CidrRange(address_prefix=address, prefix_len=UInt32Value(value=length))
    return Principal(direct_remote_ip=block)


def _path(value: str) -> Any:
    return Permission(url_path=path_pb2.PathMatcher(path=wildcard(value)))


def _header_principal(name: str) -> Callable[[str], Any]:
    return lambda value: Principal(header=_header(name, value))


def _header(name: str, value: str, ignore_case: bool = False) -> Any:
    if value == "*":
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=wildcard(value, "", ignore_case))


def wildcard(value: str, prefix: str = "", ignore_case: bool = False) -> Any:
    """A value with `*` in front (suffix match), behind (prefix match) or alone (anything but nothing)."""
    if value == "*":
        return pb.matching(".+")
    if value.startswith("*"):
        if prefix:
            return pb.matching(f"{prefix}.*{re.escape(value[1:])}")
        return pb.suffix(value[1:], ignore_case)
    if value.endswith("*"):
        return pb.prefix(prefix + value[:-1], ignore_case)
    return pb.exact(prefix + value, ignore_case)
