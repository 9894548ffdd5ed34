"""Conditions on a request: VirtualService `match` as Envoy's RouteMatch."""

from __future__ import annotations

from typing import Any

from envoy.config.route.v3 import route_components_pb2 as route

from mesh.api.matching import HTTPMatchRequest, StringMatch, claim_path
from mesh.control.compile import pb
from mesh.control.compile.authz_matchers import token_metadata
from mesh.control.world import Labels


def applies(
    match: HTTPMatchRequest, port: int, namespace: str, labels: Labels, gateways: frozenset[str]
) -> bool:
    """The part of a condition the control plane decides itself: port, gateway and source workload."""
    if match.port is not None and match.port != port:
        return False
    if match.gateways:
        return any(gateway in gateways for gateway in match.gateways)
    if any(labels.get(key) != value for key, value in match.source_labels.items()):
        return False
    return match.source_namespace in ("", namespace)


def route_match(match: HTTPMatchRequest | None) -> Any:
    """The part Envoy decides request by request."""
    if match is None:
        return route.RouteMatch(prefix="/")
    result = route.RouteMatch(case_sensitive=pb.boolean(not match.ignore_uri_case), **_path(match.uri))
    headers = [_header(name, value) for name, value in match.headers.items() if not claim_path(name)]
    headers += [_without(n, value) for n, value in match.without_headers.items() if not claim_path(n)]
    headers.sort(key=lambda header: header.name)
    pseudo = ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme))
    headers += [_header(name, value) for name, value in pseudo if value is not None]
    result.headers.extend(headers)
    result.query_parameters.extend(_query(name, value) for name, value in sorted(match.query_params.items()))
    _claims(result, match)
    return result


def _claims(result: Any, match: HTTPMatchRequest) -> None:
    """What the user's token has to say, as the jwt_authn filter before the router has read it."""
    for wanted, invert in ((match.headers, False), (match.without_headers, True)):
        for name, value in wanted.items():
            if names := claim_path(name):
                matcher = token_metadata(names, string_matcher(value))
                matcher.invert = invert
                result.dynamic_metadata.append(matcher)


def is_catch_all(match: HTTPMatchRequest | None) -> bool:
    """Does every request fit, so that later rules are never reached?"""
    if match is None:
        return True
    conditions = (match.headers, match.without_headers, match.query_params, match.method, match.authority)
    if any(conditions) or match.scheme is not None:
        return False
    uri = match.uri
    return uri is None or uri.prefix in ("", "/") or uri.regex in (".*", "/.*")


def string_matcher(match: StringMatch) -> Any:
    if match.exact is not None:
        return pb.exact(match.exact)
    if match.prefix is not None:
        return pb.prefix(match.prefix)
    return pb.matching(match.regex or "")


def _path(uri: StringMatch | None) -> dict[str, Any]:
    if uri is None:
        return {"prefix": "/"}
    if uri.exact is not None:
        return {"path": uri.exact}
    if uri.regex is not None:
        return {"safe_regex": pb.regex(uri.regex)}
    return {"prefix": uri.prefix or ""}


def _header(name: str, match: StringMatch) -> Any:
    if match.is_presence:
        return route.HeaderMatcher(name=name, present_match=True)
    return route.HeaderMatcher(name=name, string_match=string_matcher(match))


def _without(name: str, match: StringMatch) -> Any:
    """Inverted; a header that is not there counts as empty, so a request without it fits."""
    matcher = _header(name, match)
    matcher.invert_match = True
    if not match.is_presence:
        matcher.treat_missing_header_as_empty = True
    return matcher


def _query(name: str, match: StringMatch) -> Any:
    if match.is_presence:
        return route.QueryParameterMatcher(name=name, present_match=True)
    return route.QueryParameterMatcher(name=name, string_match=string_matcher(match))
