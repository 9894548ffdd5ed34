"""What is done with a request: a rule of a VirtualService as Envoy's Route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as route
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as fault_common
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import (
    previous_priorities_config_pb2 as previous_priorities_pb2,
)

from mesh.api.cors import CorsPolicy
from mesh.api.http_route import Headers, HTTPBody, HTTPRedirect, HTTPRoute, HTTPRouteDestination
from mesh.api.load_balancing import ConsistentHash
from mesh.api.matching import HTTPMatchRequest
from mesh.api.routing import GRPC_CODES, Destination, HTTPFaultInjection, HTTPRetry, Percent, is_status_code
from mesh.control.compile import pb
from mesh.control.compile.hashing import hash_policy
from mesh.control.compile.matches import route_match, string_matcher


class Target(NamedTuple):
    """Where a destination leads: the name of its cluster, and what of a request is hashed there, if anything."""

    cluster: str
    hashed: ConsistentHash | None = None


TargetOf = Callable[[Destination], Target]

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"
_DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_REDIRECT_CODES = {
    301: route.RedirectAction.MOVED_PERMANENTLY,
    302: route.RedirectAction.FOUND,
    303: route.RedirectAction.SEE_OTHER,
    307: route.RedirectAction.TEMPORARY_REDIRECT,
    308: route.RedirectAction.PERMANENT_REDIRECT,
}


def build_route(rule: HTTPRoute, match: HTTPMatchRequest | None, port: int, target_of: TargetOf) -> Any:
    """One route: one condition of a rule and all that the rule does."""
    name = f"{rule.name}.{match.name}" if match and match.name else rule.name
    result = route.Route(name=name, match=route_match(match))
    result.stat_prefix = match.stat_prefix if match else ""
    authority = apply_headers(result, rule.headers)
    if rule.redirect:
        result.redirect.CopyFrom(_redirect(rule.redirect, port))
    elif rule.direct_response:
        result.direct_response.status = rule.direct_response.status
        if rule.direct_response.body:
            _body(result.direct_response.body, rule.direct_response.body)
    else:
        _forward(result, rule, authority, target_of)
    if rule.fault:
        result.typed_per_filter_config[FAULT_FILTER].CopyFrom(pb.pack(_fault(rule.fault)))
    if rule.cors_policy:
        result.typed_per_filter_config[CORS_FILTER].CopyFrom(pb.pack(_cors(rule.cors_policy)))
    return result


def _body(target: Any, body: HTTPBody) -> None:
    if body.bytes:
        target.inline_bytes = body.content
    else:
        target.inline_string = body.string


def default_route(cluster: str, hashed: ConsistentHash | None = None) -> Any:
    """Every request to this one cluster, with Istio's default retries and no time limit."""
    result = route.Route(name="default", match=route.RouteMatch(prefix="/"))
    result.route.cluster = cluster
    result.route.timeout.CopyFrom(pb.duration(0))
    result.route.retry_policy.CopyFrom(retry_policy(None, hashed=hashed is not None))
    if hashed:
        result.route.hash_policy.append(hash_policy(hashed))
    return result


def _forward(result: Any, rule: HTTPRoute, authority: str, target_of: TargetOf) -> None:
    action = result.route
    action.timeout.CopyFrom(pb.duration(rule.timeout or 0))
    if rule.rewrite:
        if rule.rewrite.uri_regex_rewrite:
            action.regex_rewrite.pattern.regex = rule.rewrite.uri_regex_rewrite.match
            action.regex_rewrite.substitution = rule.rewrite.uri_regex_rewrite.rewrite
        elif rule.rewrite.uri:
            action.prefix_rewrite = rule.rewrite.uri
        authority = rule.rewrite.authority or authority
    if authority:
        action.host_rewrite_literal = authority
    _mirror(action, rule, target_of)
    if len(rule.route) == 1:
        _only_destination(result, rule.route[0], target_of)
    else:
        _weighted(action, rule, target_of)
    hashed = {target_of(target.destination).hashed: None for target in rule.route}
    action.hash_policy.extend(hash_policy(each) for each in hashed if each)
    policy = retry_policy(rule.retries, hashed=bool(action.hash_policy))
    if policy is not None:
        action.retry_policy.CopyFrom(policy)


def _only_destination(result: Any, target: HTTPRouteDestination, target_of: TargetOf) -> None:
    """The only destination gets everything, whatever weight it states."""
    result.route.cluster = target_of(target.destination).cluster
    authority = apply_headers(result, target.headers)
    if authority and not result.route.host_rewrite_literal:
        result.route.host_rewrite_literal = authority


def _weighted(action: Any, rule: HTTPRoute, target_of: TargetOf) -> None:
    for target in rule.route:
        if not target.weight:
            continue
        share = action.weighted_clusters.clusters.add(
            name=target_of(target.destination).cluster, weight=pb.uint32(target.weight)
        )
        authority = apply_headers(share, target.headers)
        if authority:
            share.host_rewrite_literal = authority


def _mirror(action: Any, rule: HTTPRoute, target_of: TargetOf) -> None:
    wanted: list[tuple[Destination, Percent | None]] = [(m.destination, m.percentage) for m in rule.mirrors]
    if rule.mirror:
        wanted.append((rule.mirror, rule.mirror_percentage))
    for destination, percentage in wanted:
        share = percentage.value if percentage else 100.0
        if share > 0:
            policy = action.request_mirror_policies.add(cluster=target_of(destination).cluster)
            policy.runtime_fraction.default_value.CopyFrom(pb.fraction(share))
            policy.trace_sampled.value = False


def apply_headers(target: Any, headers: Headers | None) -> str:
    """Put header changes on a route or on a weighted cluster; gives the new authority, if one is set."""
    if headers is None:
        return ""
    authority = ""
    if request := headers.request:
        target.request_headers_to_add.extend(_options(request.set, overwrite=True))
        target.request_headers_to_add.extend(_options(request.add, overwrite=False))
        target.request_headers_to_remove.extend(request.remove)
        named = {name.lower(): value for name, value in (request.add | request.set).items()}
        authority = named.get(":authority") or named.get("host") or ""
    if response := headers.response:
        target.response_headers_to_add.extend(_options(response.set, overwrite=True))
        target.response_headers_to_add.extend(_options(response.add, overwrite=False))
        target.response_headers_to_remove.extend(response.remove)
    return authority


def _options(headers: Mapping[str, str], *, overwrite: bool) -> list[Any]:
    kinds = base_pb2.HeaderValueOption
    action = kinds.OVERWRITE_IF_EXISTS_OR_ADD if overwrite else kinds.APPEND_IF_EXISTS_OR_ADD
    return [
        kinds(header=base_pb2.HeaderValue(key=name, value=value), append_action=action)
        for name, value in sorted(headers.items())
        if name.lower() not in ("host", ":authority")
    ]


def retry_policy(retries: HTTPRetry | None, *, hashed: bool = False) -> Any | None:
    """Istio's retries: two by default, on another host, only where the request cannot have been processed.

    Where a request belongs to one endpoint by its hash, a retry goes there again unless the rule says otherwise.
    """
    if retries is not None and retries.attempts == 0:
        return None
    policy = route.RetryPolicy(
        num_retries=pb.uint32(retries.attempts if retries else 2),
        retry_on=_DEFAULT_RETRY_ON,
        host_selection_retry_max_attempts=5,
    )
    ignore = retries.retry_ignore_previous_hosts if retries else None
    if ignore or (ignore is None and not hashed):
        policy.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts",
            typed_config=pb.pack(previous_hosts_pb2.PreviousHostsPredicate()),
        )
    if retries is not None:
        _apply_retry_settings(policy, retries)
    return policy


def _apply_retry_settings(policy: Any, retries: HTTPRetry) -> None:
    if retries.conditions:
        codes = [condition for condition in retries.conditions if is_status_code(condition)]
        words = [condition for condition in retries.conditions if not is_status_code(condition)]
        if codes and "retriable-status-codes" not in words:
            words.append("retriable-status-codes")
        policy.retry_on = ",".join(words)
        policy.retriable_status_codes.extend(int(code) for code in codes)
    if retries.per_try_timeout:
        policy.per_try_timeout.CopyFrom(pb.duration(retries.per_try_timeout))
    if retries.retry_remote_localities:
        config = previous_priorities_pb2.PreviousPrioritiesConfig(update_frequency=2)
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        policy.retry_priority.typed_config.CopyFrom(pb.pack(config))
    if retries.backoff:
        policy.retry_back_off.base_interval.CopyFrom(pb.duration(retries.backoff))


def _redirect(redirect: HTTPRedirect, port: int) -> Any:
    action = route.RedirectAction(
        host_redirect=redirect.authority, response_code=_REDIRECT_CODES[redirect.redirect_code]
    )
    if redirect.prefix_rewrite:
        action.prefix_rewrite = redirect.prefix_rewrite
    else:
        action.path_redirect = redirect.uri
    if redirect.scheme:
        action.scheme_redirect = redirect.scheme
    wanted = redirect.port or (port if redirect.derive_port == "FROM_REQUEST_PORT" else 0)
    # The default port of a scheme is not written into a URL.
    if wanted != (443 if redirect.scheme == "https" else 80):
        action.port_redirect = wanted
    return action


def _cors(policy: CorsPolicy) -> Any:
    result = cors_pb2.CorsPolicy(
        allow_origin_string_match=[string_matcher(origin) for origin in policy.allow_origins],
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age=str(round(policy.max_age.total_seconds())) if policy.max_age else "",
    )
    if policy.allow_credentials is not None:
        result.allow_credentials.value = policy.allow_credentials
    if policy.unmatched_preflights != "UNSPECIFIED":
        result.forward_not_matching_preflights.value = policy.unmatched_preflights == "FORWARD"
    return result


def _fault(fault: HTTPFaultInjection) -> Any:
    """Without a percentage nothing is delayed or aborted (as in Istio)."""
    result = fault_pb2.HTTPFault()
    if fault.delay:
        percent = fault.delay.percentage.value if fault.delay.percentage else 0.0
        result.delay.CopyFrom(
            fault_common.FaultDelay(
                fixed_delay=pb.duration(fault.delay.fixed_delay), percentage=pb.fraction(percent)
            )
        )
    if fault.abort:
        percent = fault.abort.percentage.value if fault.abort.percentage else 0.0
        result.abort.percentage.CopyFrom(pb.fraction(percent))
        if fault.abort.http_status is not None:
            result.abort.http_status = fault.abort.http_status
        elif fault.abort.grpc_status is not None:
            result.abort.grpc_status = GRPC_CODES.index(fault.abort.grpc_status)
    return result
