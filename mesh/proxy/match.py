"""Matchers of strings and headers, compiled from Envoy's `StringMatcher`, `HeaderMatcher` and
`QueryParameterMatcher`.

A matcher is built when configuration comes and only called when a request does. Values are bytes as they
stand on the wire. Used by `routes`, `filters.rbac`, `filters.fault`, `retry`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.wire import Headers

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

StringMatch = Callable[[bytes], bool]
"""Says whether a value matches."""


def exact(wanted: bytes, ignore_case: bool = False) -> StringMatch:
    if ignore_case:
        folded = wanted.lower()
        return lambda value: value.lower() == folded
    return lambda value: value == wanted


def prefix(wanted: bytes, ignore_case: bool = False) -> StringMatch:
    if ignore_case:
        folded = wanted.lower()
        return lambda value: value.lower().startswith(folded)
    return lambda value: value.startswith(wanted)


def suffix(wanted: bytes, ignore_case: bool = False) -> StringMatch:
    if ignore_case:
        folded = wanted.lower()
        return lambda value: value.lower().endswith(folded)
    return lambda value: value.endswith(wanted)


def contains(wanted: bytes, ignore_case: bool = False) -> StringMatch:
    if ignore_case:
        folded = wanted.lower()
        return lambda value: folded in value.lower()
    return lambda value: wanted in value


class RegexError(ValueError):
    """A pattern that RE2, which Envoy uses, would not take either."""


_NOT_RE2 = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|\\[1-9]|[*+?}]\+")
"""What Python's `re` has and RE2 has not: look-around, back-references, possessive quantifiers."""


def regex_pattern(pattern: str) -> re.Pattern[bytes]:
    """Compile a pattern of RE2's syntax (https://github.com/google/re2/wiki/Syntax). Raises RegexError."""
    if found := _NOT_RE2.search(pattern.replace("\\\\", "")):
        raise RegexError(f"regex {pattern!r}: RE2 does not know {found.group()!r}")
    try:
        return re.compile(pattern.encode())
    except re.error as error:
        raise RegexError(f"regex {pattern!r}: {error}") from error


def regex(pattern: str) -> StringMatch:
    """The whole value has to match, as in Envoy's `safe_regex`."""
    full = regex_pattern(pattern).fullmatch
    return lambda value: full(value) is not None


class HeaderMatch:
    """One condition on a request's header, or on one of its pseudo headers (`:method`, ...).

    `test` None asks for presence only. `missing_as_empty` is `treat_missing_header_as_empty`.
    """

    __slots__ = ("_pseudo", "invert", "missing_as_empty", "name", "test")

    def __init__(
        self, name: bytes, test: StringMatch | None, invert: bool = False, missing_as_empty: bool = False
    ) -> None:
        self.name = name.lower()
        self.test = test
        self.invert = invert
        self.missing_as_empty = missing_as_empty
        self._pseudo = _PSEUDO.get(self.name)

    def __call__(self, exchange: Exchange) -> bool:
        pseudo = self._pseudo
        if pseudo is None:
            return self.in_headers(exchange.headers)
        value, test = pseudo(exchange), self.test
        if value is None:
            return self.in_headers([])
        return (test is None or test(value)) != self.invert

    def in_headers(self, headers: Headers) -> bool:
        """Whether one of the header's lines fits, or with `invert` none of several. An absent header matches
        nothing, inverted or not, except a test for presence.
        """
        name, test = self.name, self.test
        present = False
        for key, value in headers:
            if key == name:
                if test is None or test(value):
                    return not self.invert
                present = True
        if present or test is None:
            return self.invert
        return self.missing_as_empty and test(b"") != self.invert


_PSEUDO: dict[bytes, Callable[[Exchange], bytes | None]] = {
    b":method": lambda exchange: exchange.method,
    b":path": lambda exchange: exchange.target,
    b":authority": lambda exchange: exchange.authority,
    b"host": lambda exchange: exchange.authority,
    b":scheme": lambda exchange: exchange.forwarded_proto,
}


class QueryMatch:
    """One condition on a parameter of the query string; `test` None asks for presence only."""

    __slots__ = ("name", "test")

    def __init__(self, name: bytes, test: StringMatch | None) -> None:
        self.name = name
        self.test = test

    def __call__(self, exchange: Exchange) -> bool:
        value = parameter(exchange.target, self.name)
        return value is not None and (self.test is None or self.test(value))


def parameter(target: bytes, name: bytes) -> bytes | None:
    """The first value of a query parameter, as it stands in the target (Envoy does not decode it either)."""
    _, _, query = target.partition(b"?")
    for part in query.partition(b"#")[0].split(b"&"):
        key, _, value = part.partition(b"=")
        if key == name:
            return value
    return None
