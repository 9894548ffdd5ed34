"""Conditions on a request, as VirtualService writes them."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, PortNumber, check_regex, header_problem, is_dns_label, labels_problem


class StringMatch(Model):
    """exact, prefix or regex (RE2; it must match the whole text)."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.exact is None and self.prefix is None and self.regex is None

    @property
    def is_presence(self) -> bool:
        """An empty match, or the regex `*` as Istio reads it, only asks whether the field is there."""
        return self.is_empty or self.regex == "*"

    def check(self) -> Iterator[Problem]:
        given = [name for name in ("exact", "prefix", "regex") if getattr(self, name) is not None]
        if len(given) > 1:
            yield Problem("", f"can only have one of exact, prefix and regex, not {' and '.join(given)}")
        if self.regex is not None and self.regex != "*":
            if not self.regex:
                yield Problem("regex", "must not be empty")
            try:
                check_regex(self.regex)
            except ValueError as error:
                yield Problem("regex", str(error))


def _needs_value(match: StringMatch | None, path: str, *, empty_prefix: bool = False) -> Iterator[Problem]:
    if match is None:
        return
    if match.is_empty:
        yield Problem(path, "needs one of exact, prefix and regex")
    elif match.exact == "":
        yield Problem(f"{path}.exact", "must not be empty")
    elif match.prefix == "" and not empty_prefix:
        yield Problem(f"{path}.prefix", "must not be empty")
    elif match.regex == "*":
        yield Problem(
            f"{path}.regex",
            "is not a regular expression in RE2 syntax: nothing to repeat",
        )


CLAIMS = "@request.auth.claims"


def claim_path(header: str) -> tuple[str, ...]:
    """The claim a header match means: @request.auth.claims.NAME or @request.auth.claims[NAME][NAME]; () for none."""
    rest = header.removeprefix(CLAIMS)
    if rest == header:
        return ()
    if rest.startswith("."):
        names = tuple(rest[1:].split("."))
        return names if all(names) else ()
    if rest.startswith("[") and rest.endswith("]"):
        names = tuple(rest[1:-1].split("]["))
        return names if all(name and not set(name) & set("[]") for name in names) else ()
    return ()


def _claim_problems(path: str, header: str, match: StringMatch) -> Iterator[Problem]:
    if not claim_path(header):
        yield Problem(path, f"must be {CLAIMS}.NAME or {CLAIMS}[NAME]")
    elif match.is_presence:
        yield Problem(path, "needs one of exact, prefix and regex")
    else:
        yield from _needs_value(match, path)


class HTTPMatchRequest(Model):
    """All conditions given must hold (AND); a rule's list of these is OR."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = Field(default_factory=dict)
    without_headers: dict[str, StringMatch] = Field(default_factory=dict)
    query_params: dict[str, StringMatch] = Field(default_factory=dict)
    port: PortNumber | None = None
    source_labels: dict[str, str] = Field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    ignore_uri_case: Bool = False
    stat_prefix: str = ""

    def check(self) -> Iterator[Problem]:
        # uri allows the empty prefix (it matches everything); the others have no such reading in Envoy.
        yield from _needs_value(self.uri, "uri", empty_prefix=True)
        for name in ("scheme", "method", "authority"):
            yield from _needs_value(getattr(self, name), name)
        for field, headers in (("headers", self.headers), ("withoutHeaders", self.without_headers)):
            for header, match in headers.items():
                if header.startswith("@request.auth."):
                    yield from _claim_problems(f"{field}[{header}]", header, match)
                elif wrong := header_problem(header.removeprefix(":")):
                    yield Problem(field, wrong)
                elif not match.is_presence:
                    yield from _needs_value(match, f"{field}[{header}]")
        for query, match in self.query_params.items():
            if not query:
                yield Problem("queryParams", "has an empty name")
            if not match.is_presence and match.prefix == "":
                yield Problem(f"queryParams[{query}].prefix", "must not be empty")
        if wrong := labels_problem(self.source_labels):
            yield Problem("sourceLabels", wrong)
        if self.source_namespace and not is_dns_label(self.source_namespace):
            yield Problem("sourceNamespace", f"{self.source_namespace!r} is not the name of a namespace")
