"""What browsers may do with a service from pages of another origin. Source: istio.io, Virtual Service, CorsPolicy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from mesh.api.matching import StringMatch
from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, Duration, header_problem

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})


class CorsPolicy(Model):
    """A preflight of an allowed origin is answered by the proxy itself."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "allowOrigin": "Istio deprecates it too: use allowOrigins",
    }

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: Bool | None = None
    #: What becomes of a preflight of another origin: passed on to the service (as when nothing is said), or answered.
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"

    def check(self) -> Iterator[Problem]:
        for index, origin in enumerate(self.allow_origins):
            if origin.is_empty or "" in (origin.exact, origin.prefix):
                yield Problem(f"allowOrigins[{index}]", "needs one of exact, prefix and regex, not empty")
            elif origin.regex == "*":
                yield Problem(f"allowOrigins[{index}].regex", "is not a regular expression; .* is any origin")
        for index, method in enumerate(self.allow_methods):
            if method not in _METHODS:
                yield Problem(f"allowMethods[{index}]", f"{method!r} is not an HTTP method")
        for name, headers in (("allowHeaders", self.allow_headers), ("exposeHeaders", self.expose_headers)):
            for index, header in enumerate(headers):
                if wrong := header_problem(header):
                    yield Problem(f"{name}[{index}]", wrong)
        if self.max_age is not None and self.max_age.microseconds:
            yield Problem("maxAge", "must be whole seconds")
