"""Which requests are logged: the part of CEL (Common Expression Language) that log filters are written in.

Comparisons of `response.code` with a number, of `request.method`, `request.path`, `request.host` and
`request.headers['NAME']` with a text; joined by `&&`, `||`, parentheses. Source: istio.io, Telemetry;
Envoy, "Attributes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operator = Literal["==", "!=", ">=", "<=", ">", "<"]
_TOKEN = re.compile(
    r"\s*(?:(?P<op>&&|\|\||==|!=|>=|<=|>|<|\(|\))|(?P<number>\d+)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<name>[a-z]+(?:\.[a-z]+)*(?:\[(?:'[^']*'|\"[^\"]*\")\])?))"
)
_TEXTS = {"request.method": ":method", "request.path": ":path", "request.host": ":authority"}
_HEADER = re.compile(r"request\.headers\[['\"]([^'\"]+)['\"]\]")


@dataclass(frozen=True, slots=True)
class Code:
    """The response's status compared with a number."""

    operator: Operator
    number: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header of the request (`:method` and the like too) that is, or is not, this text."""

    name: str
    equal: bool
    text: str


@dataclass(frozen=True, slots=True)
class Joined:
    """All (`&&`) or any (`||`) of these."""

    every: bool
    parts: tuple[Expression, ...]


Expression = Code | Header | Joined


def parse_filter(text: str) -> Expression:
    """The expression. Raises ValueError saying what is not understood."""
    tokens = _tokens(text)
    parser = _Parser(tokens)
    found = parser.any_of()
    if parser.rest:
        raise ValueError(
            f"does not go on with {parser.rest[0]!r} (a part of CEL is understood: see the documentation)"
        )
    return found


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise ValueError(f"is not understood at {stripped[position:][:20]!r}")
        tokens.append(match.group().strip())
        position = match.end()
    if not tokens:
        raise ValueError("must not be empty")
    return tokens


class _Parser:
    """Recursive descent: `||` binds weaker than `&&`."""

    def __init__(self, tokens: list[str]) -> None:
        self.rest = tokens

    def any_of(self) -> Expression:
        parts = [self._all_of()]
        while self._takes("||"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Joined(False, tuple(parts))

    def _all_of(self) -> Expression:
        parts = [self._one()]
        while self._takes("&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Joined(True, tuple(parts))

    def _one(self) -> Expression:
        if self._takes("("):
            found = self.any_of()
            if not self._takes(")"):
                raise ValueError("has a ( without )")
            return found
        if len(self.rest) < 3:
            raise ValueError("ends where a comparison such as response.code >= 400 is expected")
        name, operator, value = self.rest[:3]
        self.rest = self.rest[3:]
        return _comparison(name, operator, value)

    def _takes(self, token: str) -> bool:
        if self.rest and self.rest[0] == token:
            self.rest = self.rest[1:]
            return True
        return False


def _comparison(name: str, operator: str, value: str) -> Expression:
    if name == "response.code":
        if operator not in ("==", "!=", ">=", "<=", ">", "<") or not value.isdigit() or int(value) > 999:
            raise ValueError(f"cannot compare response.code as {operator} {value}")
        return Code(operator, int(value))  # type: ignore[arg-type]
    header = _HEADER.fullmatch(name)
    wanted = header.group(1) if header else _TEXTS.get(name)
    if wanted is None:
        raise ValueError(f"{name!r} is not an attribute that is understood, such as response.code")
    if operator not in ("==", "!=") or value[:1] not in "'\"":
        raise ValueError(f"{name} can only be compared by == and != with a text in quotes")
    return Header(wanted, operator == "==", value[1:-1])
