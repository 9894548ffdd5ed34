"""One attribute of an AuthorizationPolicy rule as Envoy's RBAC permission (the request) or principal (who asks).

Source: istio.io, Reference, Authorization Policy and Conditions; Envoy, config.rbac.v3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, value_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from mesh.api.authorization_policy import is_template
from mesh.control.compile import pb

Permission, Principal = rbac_pb2.Permission, rbac_pb2.Principal
#: Where the filter for tokens puts what it has found in one.
JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "payload"


class Term(NamedTuple):
    """One attribute: any of `values` and none of `excluded`, each turned into a matcher by `one`."""

    values: Sequence[str]
    excluded: Sequence[str]
    one: Callable[[str], Any]
    http_only: bool = False


def principal(value: str) -> Any:
    """Principals are written without `spiffe://`; the certificate has it."""
    return Principal(authenticated=Principal.Authenticated(principal_name=wildcard(value, "spiffe://")))


def namespace(value: str) -> Any:
    pattern = ".*".join(re.escape(part) for part in value.split("*"))
    return _identity(f".*/ns/{pattern}/.*")


def service_account(own_namespace: str) -> Callable[[str], Any]:
    """NAME means one of the policy's own namespace."""

    def one(value: str) -> Any:
        where, _, name = value.rpartition("/")
        return _identity(f"spiffe://[^/]+/ns/{re.escape(where or own_namespace)}/sa/{re.escape(name)}")

    return one


def trust_domain(value: str) -> Any:
    pattern = "[^/]*".join(re.escape(part) for part in value.split("*"))
    return _identity(f"spiffe://{pattern}/.*")


def _identity(pattern: str) -> Any:
    return Principal(authenticated=Principal.Authenticated(principal_name=pb.matching(pattern)))


def block(value: str) -> Any:
    """An address or a block as Envoy's CidrRange."""
    address, _, bits = value.partition("/")
    length = int(bits) if bits else (128 if ":" in address else 32)
    return address_pb2.CidrRange(address_prefix=address, prefix_len=UInt32Value(value=length))


def source_ip(value: str) -> Any:
    """The peer of the connection."""
    return Principal(direct_remote_ip=block(value))


def remote_ip(value: str) -> Any:
    """The client as far as it can be trusted to be known: behind proxies by x-forwarded-for or PROXY protocol."""
    return Principal(remote_ip=block(value))


def path(value: str) -> Any:
    if not is_template(value):
        return Permission(url_path=path_pb2.PathMatcher(path=wildcard(value)))
    template = value.replace("{**}", "**").replace("{*}", "*")
    config = uri_template_match_pb2.UriTemplateMatchConfig(path_template=template)
    name = "uri-template"
    return Permission(
        uri_template=extension_pb2.TypedExtensionConfig(name=name, typed_config=pb.pack(config))
    )


def header_principal(name: str) -> Callable[[str], Any]:
    return lambda value: Principal(header=header(name, value))


def header(name: str, value: str, ignore_case: bool = False) -> Any:
    if value == "*":
        return route_components_pb2.HeaderMatcher(name=name, present_match=True)
    return route_components_pb2.HeaderMatcher(name=name, string_match=wildcard(value, "", ignore_case))


# --- what a token says


def request_principal(value: str) -> Any:
    """`issuer/subject` of the token; `*` at either end."""
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        parts = ("*", "*")
    elif slash:
        parts = (issuer, subject)
    else:
        parts = ("*", value) if value.startswith("*") else (value, "*")
    both = [_claim(name, part) for name, part in zip(("iss", "sub"), parts, strict=True)]
    return Principal(and_ids=Principal.Set(ids=both))


def _claim(name: str, value: str) -> Any:
    return Principal(metadata=token_metadata((name,), wildcard(value)))


def claim(names: Sequence[str]) -> Callable[[str], Any]:
    """A claim by its path; where it is a list, one of its entries."""

    def one(value: str) -> Any:
        return Principal(metadata=token_metadata(names, wildcard(value)))

    return one


def token_metadata(names: Sequence[str], text: Any) -> Any:
    """A look into the token's payload: the text itself, or a list with it."""
    plain = value_pb2.ValueMatcher(string_match=text)
    listed = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=plain))
    either = value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=[listed, plain]))
    segments = [metadata_pb2.MetadataMatcher.PathSegment(key=key) for key in (JWT_PAYLOAD, *names)]
    return metadata_pb2.MetadataMatcher(filter=JWT_FILTER, path=segments, value=either)


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
