"""VirtualService: what happens to a request for a host. Source: istio.io, Reference, Virtual Service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.cors import CorsPolicy
from mesh.api.matching import HTTPMatchRequest
from mesh.api.model import Model, export_to_problems, not_empty
from mesh.api.problems import Problem
from mesh.api.routing import Destination, HTTPFaultInjection, HTTPRetry, Percent
from mesh.api.scalars import (
    Duration,
    HttpStatus,
    Natural,
    PortNumber,
    check_regex,
    header_problem,
    header_value_problem,
    host_problem,
    is_dns_label,
    line_problem,
)

MESH = "mesh"  # the name that stands for all sidecars in `gateways`


class HeaderOperations(Model):
    """Changes of headers: `set` overwrites, `add` appends, `remove` takes away."""

    set: dict[str, str] = Field(default_factory=dict)
    add: dict[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()

    def check(self) -> Iterator[Problem]:
        for field, names in (("set", self.set), ("add", self.add), ("remove", self.remove)):
            for name in names:
                bare = name.removeprefix(":") if name == ":authority" and field != "remove" else name
                if wrong := header_problem(bare):
                    yield Problem(field, wrong)
                elif field == "remove" and name.lower() == "host":
                    yield Problem(field, "the host header cannot be removed")
        for field, values in (("set", self.set), ("add", self.add)):
            for name, value in values.items():
                if wrong := header_value_problem(value):
                    yield Problem(f"{field}[{name}]", wrong)


class Headers(Model):
    request: HeaderOperations | None = None
    response: HeaderOperations | None = None

    def check(self) -> Iterator[Problem]:
        for field in ("set", "add"):
            for name in getattr(self.response, field, {}):
                if name.lower() in ("host", ":authority"):
                    yield Problem(f"response.{field}[{name}]", "a response has no such header")


class HTTPRouteDestination(Model):
    """One version to send requests to, and its share. Without weights there may only be one."""

    destination: Destination
    weight: Natural | None = None
    headers: Headers | None = None


class RegexRewrite(Model):
    match: str
    rewrite: str

    def check(self) -> Iterator[Problem]:
        try:
            check_regex(self.match)
        except ValueError as error:
            yield Problem("match", str(error))
        if not self.match:
            yield Problem("match", "must not be empty")
        if not self.rewrite:
            yield Problem("rewrite", "must not be empty")


class HTTPRewrite(Model):
    """Change path or authority before the request is sent on. `uri` replaces the matched prefix, or the
    whole path.
    """

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None

    def check(self) -> Iterator[Problem]:
        if self.uri and self.uri_regex_rewrite:
            yield Problem("", "cannot have both uri and uriRegexRewrite")
        for name in ("uri", "authority"):
            if wrong := line_problem(getattr(self, name)):
                yield Problem(name, wrong)
        if not (self.uri or self.authority or self.uri_regex_rewrite):
            yield Problem("", "needs a uri, an authority or a uriRegexRewrite")


class HTTPRedirect(Model):
    uri: str = ""
    authority: str = ""
    scheme: Literal["http", "https", ""] = ""
    port: PortNumber | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    redirect_code: Literal[301, 302, 303, 307, 308] = 301
    prefix_rewrite: str = ""

    def check(self) -> Iterator[Problem]:
        if self.uri and self.prefix_rewrite:
            yield Problem("", "cannot have both uri and prefixRewrite")
        for name, value in (
            ("uri", self.uri),
            ("authority", self.authority),
            ("prefixRewrite", self.prefix_rewrite),
        ):
            if wrong := line_problem(value):
                yield Problem(name, wrong)
        if self.port is not None and self.derive_port is not None:
            yield Problem("", "cannot have both port and derivePort")
        named = (self.uri, self.prefix_rewrite, self.authority, self.scheme, self.port, self.derive_port)
        if not any(named):
            yield Problem("", "needs a uri, an authority, a scheme or a port")


class HTTPBody(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"bytes": "write the body as `string`"}
    string: str = ""


class HTTPDirectResponse(Model):
    status: HttpStatus
    body: HTTPBody | None = None

    def check(self) -> Iterator[Problem]:
        if self.body and len(self.body.string.encode()) > 1024 * 1024:
            yield Problem("body.string", "must be smaller than 1 MB")


class HTTPMirrorPolicy(Model):
    destination: Destination
    percentage: Percent | None = None


class HTTPRoute(Model):
    """One rule: if any of `match` holds (or there is none), do this. The first rule that fits decides."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "delegate": "",
        "mirrorPercent": "Istio deprecates it too: use mirrorPercentage.value",
    }

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirror_percentage: Percent | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None

    def check(self) -> Iterator[Problem]:
        yield from self._exclusive()
        yield from self._weights()
        yield from self._authority_once()
        if self.mirror and self.mirrors:
            yield Problem("", "cannot have both mirror and mirrors")
        if self.mirror_percentage and not self.mirror:
            yield Problem("mirrorPercentage", "says how much to mirror, but there is no mirror")
        other_uri = any(match.uri and match.uri.prefix is None for match in self.match)
        if self.redirect and self.redirect.prefix_rewrite and other_uri:
            yield Problem("redirect.prefixRewrite", "needs every match on uri to be a prefix")

    def _exclusive(self) -> Iterator[Problem]:
        actions = [n for n, v in (("redirect", self.redirect), ("directResponse", self.direct_response)) if v]
        if not actions and not self.route:
            yield Problem("", "needs a route, a redirect or a directResponse")
        if len(actions) == 2:
            yield Problem("", "cannot have both redirect and directResponse")
        for action in actions:
            for other, value in (("route", self.route), ("fault", self.fault), ("rewrite", self.rewrite)):
                if value:
                    yield Problem(other, f"cannot stand beside {action} in the same rule")

    def _weights(self) -> Iterator[Problem]:
        weights = [target.weight or 0 for target in self.route]
        if len(weights) > 1 and sum(weights) == 0:
            yield Problem("route", "all weights are 0, so no destination would get a request")
        if sum(weights) > 2**32 - 1:
            yield Problem("route", "the weights sum up to more than 4294967295")

    def _authority_once(self) -> Iterator[Problem]:
        """The authority may be rewritten in one place only."""
        ways = [self.rewrite.authority] if self.rewrite and self.rewrite.authority else []
        request = self.headers.request if self.headers else None
        for name in [*(request.set if request else {}), *(request.add if request else {})]:
            if name.lower() in ("host", ":authority"):
                ways.append(name)
        if len(ways) > 1:
            yield Problem("headers.request", "the authority is set more than once in this rule")


class VirtualServiceSpec(Model):
    """Routing for `hosts`, in the sidecars (gateway `mesh`, the default) or in the gateways named."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "tls": "only http routes are",
        "tcp": "only http routes are",
    }

    hosts: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...]
    export_to: tuple[str, ...] = ()

    @property
    def gateway_names(self) -> tuple[str, ...]:
        return self.gateways or (MESH,)

    def check(self) -> Iterator[Problem]:
        yield from not_empty(self, "hosts", "http")
        for index, host in enumerate(self.hosts):
            if wrong := host_problem(host):
                yield Problem(f"hosts[{index}]", wrong)
            elif host == "*" and MESH in self.gateway_names:
                yield Problem(
                    f"hosts[{index}]", "* cannot be for the mesh gateway; name the gateways it is for"
                )
        if len(set(self.hosts)) < len(self.hosts):
            yield Problem("hosts", "names a host twice")
        for index, gateway in enumerate(self.gateways):
            if wrong := gateway_name_problem(gateway):
                yield Problem(f"gateways[{index}]", wrong)
        yield from export_to_problems(self.export_to)


def gateway_name_problem(name: str) -> str | None:
    """A gateway is `mesh`, a name, or `namespace/name`."""
    namespace, _, bare = name.rpartition("/")
    if not bare or host_problem(bare, wildcard=False):
        return f"must be mesh, NAME or NAMESPACE/NAME, not {name!r}"
    if "/" in name and namespace != "." and not is_dns_label(namespace):
        return f"must be mesh, NAME or NAMESPACE/NAME, not {name!r}"
    return None


__all__ = [
    "MESH",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HeaderOperations",
    "Headers",
    "VirtualServiceSpec",
]
