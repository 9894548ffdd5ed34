"""One rule of a VirtualService for HTTP: conditions, and what is done. Source: istio.io, Reference, Virtual Service,
HTTPRoute.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from mesh.api.cors import CorsPolicy
from mesh.api.matching import HTTPMatchRequest
from mesh.api.model import Model
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
    is_dns_label,
    line_problem,
)


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
    """`bytes` is the body in base64, as JSON carries bytes."""

    string: str = ""
    bytes: str = ""

    def check(self) -> Iterator[Problem]:
        if self.string and self.bytes:
            yield Problem("", "cannot have both string and bytes")
        try:
            base64.b64decode(self.bytes, validate=True)
        except ValueError:
            yield Problem("bytes", "must be base64")

    @property
    def content(self) -> Any:
        """The body itself, as bytes."""
        return base64.b64decode(self.bytes) if self.bytes else self.string.encode()


class HTTPDirectResponse(Model):
    status: HttpStatus
    body: HTTPBody | None = None

    def check(self) -> Iterator[Problem]:
        if self.body and max(len(self.body.string.encode()), len(self.body.bytes) * 3 // 4) > 1024 * 1024:
            yield Problem("body", "must be smaller than 1 MB")


class HTTPMirrorPolicy(Model):
    destination: Destination
    percentage: Percent | None = None


class Delegate(Model):
    """Another VirtualService (one without hosts) that says what happens to what this rule matches."""

    name: str = Field(min_length=1)
    namespace: str = ""

    def check(self) -> Iterator[Problem]:
        if self.namespace and not is_dns_label(self.namespace):
            yield Problem("namespace", f"{self.namespace!r} is not the name of a namespace")


class HTTPRoute(Model):
    """One rule: if any of `match` holds (or there is none), do this. The first rule that fits decides."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "mirrorPercent": "Istio deprecates it too: use mirrorPercentage.value",
    }

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
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
        if self.delegate:
            if actions or self.route:
                yield Problem("delegate", "cannot stand beside route, redirect and directResponse")
        elif not actions and not self.route:
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
