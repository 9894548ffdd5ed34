"""AuthorizationPolicy as Envoy RBAC filters, for HTTP requests and for bare TCP connections.

Order as in Istio: CUSTOM asks another service, AUDIT only writes a log, DENY refuses, then ALLOW refuses what no ALLOW
policy fits. Policies of the root namespace hold for every namespace. Policy names are Istio's:
`ns[NS]-policy[NAME]-rule[INDEX]`. A policy annotated `istio.io/dry-run: "true"` is only counted ("shadow rules").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from envoy.config.rbac.v3 import rbac_pb2

from mesh.api.authorization_policy import AuthorizationPolicySpec, Operation, Rule, Source
from mesh.api.objects import ConfigObject
from mesh.control.compile import authz_matchers as match
from mesh.control.compile.authz_matchers import Permission, Principal, Term
from mesh.control.world import ExtAuthz, Labels, MeshConfig, World

Policy = ConfigObject[AuthorizationPolicySpec]

DRY_RUN = "istio.io/dry-run"
#: In the order in which the filters stand, after CUSTOM.
_ACTIONS = (("AUDIT", rbac_pb2.RBAC.LOG), ("DENY", rbac_pb2.RBAC.DENY), ("ALLOW", rbac_pb2.RBAC.ALLOW))
#: Begin the names of policies that ask another service, and of what an RBAC filter notes of its shadow rules.
EXT_AUTHZ = "istio-ext-authz"
EXT_AUTHZ_SHADOW = "istio_ext_authz_"


class Check(NamedTuple):
    """One RBAC filter: rules that decide, rules that only note what they would decide, and who is asked then."""

    rules: Any | None = None
    shadow: Any | None = None
    shadow_prefix: str = ""
    provider: ExtAuthz | None = None


def policies_for(world: World, namespace: str, labels: Labels) -> tuple[Policy, ...]:
    """The policies a workload obeys: of its own namespace and of the root namespace, if they select it."""
    return tuple(
        policy
        for policy in world.authorization_policies
        if policy.namespace in (namespace, world.mesh.root_namespace)
        and (policy.spec.selector is None or policy.spec.selector.selects(labels))
    )


def checks(mesh: MeshConfig, policies: Sequence[Policy], *, http: bool) -> list[Check]:
    """The RBAC filters of these policies, in the order of evaluation.

    On a TCP connection a condition on HTTP cannot hold: an ALLOW rule with one never fits, while a DENY or AUDIT
    rule is read without it, so that it refuses more rather than less (as in Istio).
    """
    found = list(_custom(mesh, [p for p in policies if p.spec.action == "CUSTOM"], http))
    for action, envoy_action in _ACTIONS:
        chosen = [policy for policy in policies if policy.spec.action == action]
        real = [policy for policy in chosen if not _is_dry_run(policy)]
        dry = [policy for policy in chosen if _is_dry_run(policy)]
        if chosen:
            found.append(
                Check(
                    _rule_set(mesh, envoy_action, real, http) if real else None,
                    _rule_set(mesh, envoy_action, dry, http) if dry else None,
                    f"istio_dry_run_{action.lower()}_" if dry else "",
                )
            )
    return found


def _is_dry_run(policy: Policy) -> bool:
    return policy.annotations.get(DRY_RUN, "").lower() == "true"


def _rule_set(mesh: MeshConfig, action: Any, policies: Iterable[Policy], http: bool, prefix: str = "") -> Any:
    rules = rbac_pb2.RBAC(action=action)
    for policy in policies:
        for name, rule in _named_rules(mesh, policy, http=http):
            rules.policies[prefix + name].CopyFrom(rule)
    return rules


def _custom(mesh: MeshConfig, policies: Sequence[Policy], http: bool) -> Iterator[Check]:
    """Shadow rules note which requests a provider is to be asked about. Nobody to ask: those requests are refused."""
    providers = {provider.name: provider for provider in mesh.ext_authz}
    names = dict.fromkeys(p.spec.provider.name for p in policies if p.spec.provider)
    for name in names:
        chosen = [p for p in policies if p.spec.provider and p.spec.provider.name == name]
        provider = providers.get(name)
        if provider is None or (provider.http and not http):
            yield Check(rules=_rule_set(mesh, rbac_pb2.RBAC.DENY, chosen, http))
            continue
        shadow = _rule_set(mesh, rbac_pb2.RBAC.DENY, chosen, http, f"{EXT_AUTHZ}-{name}-")
        yield Check(shadow=shadow, shadow_prefix=EXT_AUTHZ_SHADOW, provider=provider)


def _named_rules(mesh: MeshConfig, policy: Policy, *, http: bool) -> list[tuple[str, Any]]:
    prefix = f"ns[{policy.namespace}]-policy[{policy.name}]-rule"
    if not policy.spec.rules:
        return [(f"{prefix}[0]", _never())]
    allow = policy.spec.action == "ALLOW"
    build = _Builder(mesh, policy.namespace, http, allow)
    built = ((index, build.policy(rule)) for index, rule in enumerate(policy.spec.rules))
    return [(f"{prefix}[{index}]", rule) for index, rule in built if rule is not None]


def _never() -> Any:
    """A policy that nothing fits: what makes an ALLOW without rules refuse everything."""
    return rbac_pb2.Policy(
        permissions=[Permission(not_rule=Permission(any=True))],
        principals=[Principal(not_id=Principal(any=True))],
    )


class _HttpOnly(Exception):
    """An ALLOW rule asks for something of HTTP on a connection that is not HTTP."""


@dataclass(frozen=True, slots=True)
class _Builder:
    """Turns the rules of one policy into Envoy's."""

    mesh: MeshConfig
    namespace: str
    http: bool
    allow: bool

    def policy(self, rule: Rule) -> Any | None:
        """One rule; None when it cannot fit on this kind of connection."""
        when_permissions, when_principals = self._conditions(rule)
        operations = [self._operation(to.operation) for to in rule.to] or [[]]
        sources = [self._source(origin.source) for origin in rule.from_] or [[]]
        try:
            return rbac_pb2.Policy(
                permissions=[self._all(Permission, o + when_permissions) for o in operations],
                principals=[self._all(Principal, s + when_principals) for s in sources],
            )
        except _HttpOnly:
            return None

    def _operation(self, o: Operation) -> list[Term]:
        return [
            Term(
                o.hosts, o.not_hosts, lambda v: Permission(header=match.header(":authority", v, True)), True
            ),
            Term(o.methods, o.not_methods, lambda v: Permission(header=match.header(":method", v)), True),
            Term(o.paths, o.not_paths, match.path, True),
            Term(o.ports, o.not_ports, lambda v: Permission(destination_port=int(v))),
        ]

    def _source(self, s: Source) -> list[Term]:
        accounts = match.service_account(self.namespace)
        return [
            Term(self._aliases(s.principals), self._aliases(s.not_principals), match.principal),
            Term(s.namespaces, s.not_namespaces, match.namespace),
            Term(s.service_accounts, s.not_service_accounts, accounts),
            Term(s.trust_domains, s.not_trust_domains, match.trust_domain),
            Term(s.ip_blocks, s.not_ip_blocks, match.source_ip),
            Term(s.remote_ip_blocks, s.not_remote_ip_blocks, match.remote_ip),
            Term(s.request_principals, s.not_request_principals, match.request_principal, True),
        ]

    def _aliases(self, principals: Sequence[str]) -> Sequence[str]:
        """An identity of our trust domain may come under any of its names."""
        domains = (self.mesh.trust_domain, *self.mesh.trust_domain_aliases)
        if len(domains) == 1:
            return principals
        found: dict[str, None] = {}
        for value in principals:
            domain, slash, rest = value.partition("/")
            own = slash and domain in (*domains, "cluster.local")
            found |= dict.fromkeys(f"{each}/{rest}" for each in domains) if own else {value: None}
        return tuple(found)

    def _conditions(self, rule: Rule) -> tuple[list[Term], list[Term]]:
        """`when`: what Envoy counts as permission (the request) and what as principal (who asks)."""
        permissions: list[Term] = []
        principals: list[Term] = []
        of_request = {
            "destination.port": lambda v: Permission(destination_port=int(v)),
            "destination.ip": lambda v: Permission(destination_ip=match.block(v)),
            "connection.sni": lambda v: Permission(requested_server_name=match.wildcard(v)),
        }
        of_peer = {
            "source.namespace": match.namespace,
            "source.serviceAccount": match.service_account(self.namespace),
            "source.trustDomain": match.trust_domain,
            "source.ip": match.source_ip,
            "remote.ip": match.remote_ip,
        }
        of_token = {
            "request.auth.principal": match.request_principal,
            "request.auth.audiences": match.claim(("aud",)),
            "request.auth.presenter": match.claim(("azp",)),
        }
        for condition in rule.when:
            values, excluded, key = condition.values, condition.not_values, condition.key
            if key in of_request:
                permissions.append(Term(values, excluded, of_request[key]))
            elif key == "source.principal":
                principals.append(Term(self._aliases(values), self._aliases(excluded), match.principal))
            elif key in of_peer:
                principals.append(Term(values, excluded, of_peer[key]))
            elif condition.header is not None:
                principals.append(Term(values, excluded, match.header_principal(condition.header), True))
            else:
                one = of_token.get(key) or match.claim(condition.claim)
                principals.append(Term(values, excluded, one, True))
        return permissions, principals

    def _all(self, kind: Any, terms: list[Term]) -> Any:
        """AND of all terms; one that always holds if there are none."""
        parts: list[Any] = []
        for term in terms:
            if not (term.values or term.excluded):
                continue
            if term.http_only and not self.http:
                if self.allow:
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
