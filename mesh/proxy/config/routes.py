"""RDS: a `RouteConfiguration` becomes a `RouteTable`."""

from __future__ import annotations

import re
from typing import Any as AnyType

from envoy.config.route.v3 import route_components_pb2, route_pb2

from mesh.proxy import hashing
from mesh.proxy.actions import Action, Direct, Forward, Mirror, Redirect, Share
from mesh.proxy.config import ConfigError, values
from mesh.proxy.config.filters import route_filter
from mesh.proxy.hashing import HashPolicy
from mesh.proxy.match import RegexError, regex_pattern
from mesh.proxy.retry import CONDITIONS, RetryPolicy
from mesh.proxy.routes import Condition, Path, Route, RouteTable, VirtualHost

Levels = tuple[AnyType, ...]
"""Route, virtual host and table: all may change headers."""

DEFAULT_TIMEOUT = 15.0
"""Seconds for a route that does not say (Envoy's `RouteAction.timeout`)."""

_REDIRECTS = route_components_pb2.RedirectAction.RedirectResponseCode
_REDIRECT_STATUS = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}


def route_table(message: route_pb2.RouteConfiguration) -> RouteTable:
    """Translate a checked RouteConfiguration. Raises ConfigError."""
    hosts = [_virtual_host(host, message) for host in message.virtual_hosts]
    seen: set[bytes] = set()
    for host in hosts:
        for domain in host.domains:
            if domain in seen:
                raise ConfigError(f"virtual_hosts: domain {domain.decode()} appears twice")
            seen.add(domain)
    return RouteTable(message.name, hosts, message.ignore_port_in_host_matching)


def _virtual_host(host: AnyType, table: AnyType) -> VirtualHost:
    where = f"virtual_hosts[{host.name}]"
    if not host.domains:
        raise ConfigError(f"{where}.domains: at least one is needed")
    routes = [_route(route, host, table, f"{where}.routes[{n}]") for n, route in enumerate(host.routes)]
    return VirtualHost(
        host.name, [domain.encode() for domain in host.domains], routes, _require_tls(host, table, where)
    )


def _require_tls(host: AnyType, table: AnyType, where: str) -> Route | None:
    """`require_tls: ALL` is a redirect to https in front of all routes."""
    wanted = route_components_pb2.VirtualHost.TlsRequirementType.Name(host.require_tls)
    if wanted == "NONE":
        return None
    if wanted != "ALL":
        raise ConfigError(f"{where}.require_tls: {wanted} is not supported")
    edits = values.header_edits((host, table), where)
    return Route("require_tls", Path("prefix", b""), (), Redirect(301, scheme=b"https"), edits, {}, host.name)


def _route(route: AnyType, host: AnyType, table: AnyType, where: str) -> Route:
    levels = (route, host, table)
    return Route(
        route.name,
        _path(route.match, f"{where}.match"),
        _conditions(route.match, f"{where}.match"),
        _action(route, levels, where),
        values.header_edits(levels, where),
        _filter_config(host, route, where),
        host.name,
    )


def _filter_config(host: AnyType, route: AnyType, where: str) -> dict[str, object]:
    """What routes say to filters: the route's own word wins over its virtual host's."""
    merged: dict[str, AnyType] = {**host.typed_per_filter_config, **route.typed_per_filter_config}
    return {name: route_filter(any_message, f"{where}.typed_per_filter_config[{name}]")
            for name, any_message in merged.items()}  # fmt: skip


def _path(message: AnyType, where: str) -> Path:
    ignore_case = message.HasField("case_sensitive") and not message.case_sensitive.value
    kind = message.WhichOneof("path_specifier")
    if kind == "prefix":
        return Path("prefix", message.prefix.encode(), ignore_case)
    if kind == "path":
        return Path("exact", message.path.encode(), ignore_case)
    if kind == "path_separated_prefix":
        return Path("segments", message.path_separated_prefix.encode(), ignore_case)
    if kind == "safe_regex":
        try:
            return Path("regex", b"", False, regex_pattern(message.safe_regex.regex))
        except RegexError as error:
            raise ConfigError(f"{where}.safe_regex: {error}") from error
    raise ConfigError(f"{where}: one of prefix, path, safe_regex, path_separated_prefix is needed")


def _conditions(message: AnyType, where: str) -> list[Condition]:
    found: list[Condition] = []
    for number, header in enumerate(message.headers):
        found.append(values.header_match(header, f"{where}.headers[{number}]"))
    for number, parameter in enumerate(message.query_parameters):
        found.append(values.query_match(parameter, f"{where}.query_parameters[{number}]"))
    return found


def _action(route: AnyType, levels: Levels, where: str) -> Action:
    kind = route.WhichOneof("action")
    if kind == "route":
        return _forward(route.route, levels, f"{where}.route")
    if kind == "redirect":
        return _redirect(route.redirect, f"{where}.redirect")
    if kind == "direct_response":
        body = values.data_source(route.direct_response.body)
        return Direct(route.direct_response.status, body)
    raise ConfigError(f"{where}: one of route, redirect, direct_response is needed")


_NOT_FOUND = {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}
_NotFound = route_components_pb2.RouteAction.ClusterNotFoundResponseCode


def _forward(action: AnyType, levels: Levels, where: str) -> Forward:
    host = levels[1]
    policy = action.retry_policy if action.HasField("retry_policy") else None
    if policy is None and host.HasField("retry_policy"):
        policy = host.retry_policy
    return Forward(
        _shares(action, levels, where),
        timeout=values.seconds(action.timeout) if action.HasField("timeout") else DEFAULT_TIMEOUT,
        retry=_retry(policy, f"{where}.retry_policy") if policy is not None else None,
        prefix_rewrite=action.prefix_rewrite.encode() or None,
        regex_rewrite=_regex_rewrite(action, where),
        mirrors=[
            _mirror(mirror, f"{where}.request_mirror_policies") for mirror in action.request_mirror_policies
        ],
        hash_policies=[_hash_policy(policy, f"{where}.hash_policy") for policy in action.hash_policy],
        sticky=action.weighted_clusters.use_hash_policy.value,
        count_attempts=host.include_request_attempt_count,
        cluster_not_found=_NOT_FOUND[_NotFound.Name(action.cluster_not_found_response_code)],
    )


def _hash_policy(policy: AnyType, where: str) -> HashPolicy:
    kind = policy.WhichOneof("policy_specifier")
    if kind == "header":
        found = hashing.of_header(policy.header.header_name.lower().encode())
    elif kind == "cookie":
        ttl = int(values.seconds(policy.cookie.ttl)) if policy.cookie.HasField("ttl") else None
        cookie = policy.cookie
        attributes = [f"{each.name}={each.value}".rstrip("=").encode() for each in cookie.attributes]
        found = hashing.of_cookie(cookie.name.encode(), ttl, cookie.path.encode(), attributes)
    elif kind == "connection_properties" and policy.connection_properties.source_ip:
        found = hashing.of_source()
    elif kind == "query_parameter":
        found = hashing.of_parameter(policy.query_parameter.name.encode())
    else:
        raise ConfigError(f"{where}: {kind or 'an empty policy'} is not supported")
    return HashPolicy(found.value, policy.terminal)


def _shares(action: AnyType, levels: Levels, where: str) -> list[Share]:
    kind = action.WhichOneof("cluster_specifier")
    rewrite = action.host_rewrite_literal.encode() or None
    if kind == "cluster":
        return [Share(action.cluster, 1, values.header_edits(levels, where), rewrite)]
    if kind != "weighted_clusters":
        raise ConfigError(f"{where}: one of cluster, weighted_clusters is needed")
    shares = [
        Share(
            cluster.name,
            cluster.weight.value,
            values.header_edits((cluster, *levels), f"{where}.weighted_clusters[{cluster.name}]"),
            cluster.host_rewrite_literal.encode() or rewrite,
        )
        for cluster in action.weighted_clusters.clusters
    ]
    if sum(share.weight for share in shares) <= 0:
        raise ConfigError(f"{where}.weighted_clusters: the weights' sum must be positive")
    return shares


def _mirror(policy: AnyType, where: str) -> Mirror:
    if not policy.cluster:
        raise ConfigError(f"{where}: cluster is needed")
    everything = not policy.HasField("runtime_fraction")
    return Mirror(policy.cluster, 1.0 if everything else values.share(policy.runtime_fraction.default_value))


def _regex_rewrite(action: AnyType, where: str) -> AnyType:
    if not action.HasField("regex_rewrite"):
        return None
    try:
        pattern = regex_pattern(action.regex_rewrite.pattern.regex)
    except RegexError as error:
        raise ConfigError(f"{where}.regex_rewrite: {error}") from error
    by = action.regex_rewrite.substitution.encode()
    try:
        pattern.sub(by, b"")
    except (re.error, IndexError) as error:
        raise ConfigError(f"{where}.regex_rewrite.substitution: {error}") from error
    return (pattern, by)


_OTHER_PRIORITY = "envoy.retry_priorities.previous_priorities"


def _retry(policy: AnyType, where: str) -> RetryPolicy | None:
    conditions = frozenset(word.strip() for word in policy.retry_on.split(",") if word.strip())
    if unknown := conditions - CONDITIONS:
        raise ConfigError(f"{where}.retry_on: {', '.join(sorted(unknown))} is not supported")
    if not conditions:
        return None
    predicates = {predicate.name for predicate in policy.retry_host_predicate}
    if predicates - {"envoy.retry_host_predicates.previous_hosts"}:
        raise ConfigError(f"{where}.retry_host_predicate: only previous_hosts is supported")
    if policy.HasField("retry_priority") and policy.retry_priority.name != _OTHER_PRIORITY:
        raise ConfigError(f"{where}.retry_priority: only previous_priorities is supported")
    back_off = policy.retry_back_off
    base = values.seconds(back_off.base_interval) or 0.025
    return RetryPolicy(
        conditions,
        policy.num_retries.value if policy.HasField("num_retries") else 1,
        statuses=frozenset(policy.retriable_status_codes),
        retriable_headers=tuple(
            values.header_match(header, f"{where}.retriable_headers") for header in policy.retriable_headers
        ),
        per_try_timeout=values.seconds(policy.per_try_timeout),
        base_delay=base,
        max_delay=values.seconds(back_off.max_interval) or base * 10,
        other_host=bool(predicates),
        other_priority=policy.HasField("retry_priority"),
    )


def _redirect(message: AnyType, where: str) -> Redirect:
    if message.WhichOneof("path_rewrite_specifier") == "regex_rewrite":
        raise ConfigError(f"{where}.regex_rewrite is not supported")
    prefix = message.WhichOneof("path_rewrite_specifier") == "prefix_rewrite"
    return Redirect(
        _REDIRECT_STATUS[_REDIRECTS.Name(message.response_code)],
        scheme=b"https" if message.https_redirect else message.scheme_redirect.encode(),
        host=message.host_redirect.encode(),
        port=message.port_redirect,
        path=message.path_redirect.encode(),
        prefix_rewrite=message.prefix_rewrite.encode() if prefix else None,
        strip_query=message.strip_query,
    )
