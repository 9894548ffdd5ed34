"""The small types Istio's YAML is made of: durations, ports, percentages, regexes, names and hosts.

Each is a plain Python type with a check at the door, so that the models say what a field means and nothing
later has to parse text again.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

import re2
from pydantic import BeforeValidator, Field, PlainSerializer, Strict, StringConstraints, WithJsonSchema

_UNIT_MS = {"h": 3_600_000.0, "m": 60_000.0, "s": 1_000.0, "ms": 1.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|h|m|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_LONGEST_MS = 290 * 365 * 24 * 3_600_000.0  # Envoy counts nanoseconds in 63 bits


def parse_duration(value: Any) -> timedelta:
    """Read a duration as Istio writes it (`1h30m`, `2.5s`, `100ms`).

    Raises ValueError with a sentence when it is none, shorter than 1ms or finer than a millisecond
    (Istio, `ValidateDuration`).
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(f"must be a duration such as 2s, 100ms or 1h30m, not {value!r}")
    milliseconds = sum(float(number) * _UNIT_MS[unit] for number, unit in _DURATION_PART.findall(value))
    if milliseconds > _LONGEST_MS:
        raise ValueError(f"must be shorter than 290 years, not {value!r}")
    if milliseconds < 1:
        raise ValueError(f"must be at least 1ms, not {value!r}")
    if abs(milliseconds - round(milliseconds)) > 1e-6:
        raise ValueError(f"must be a whole number of milliseconds, not {value!r}")
    return timedelta(milliseconds=round(milliseconds))


def format_duration(value: timedelta) -> str:
    """The shortest exact form: `90s`, `0.5s`."""
    milliseconds = round(value / timedelta(milliseconds=1))
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") + "s" if rest else f"{whole}s"


def check_regex(value: str) -> str:
    """A regular expression in RE2's syntax, the one Envoy matches with. Raises ValueError saying what RE2
    said.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        size = re2.compile(value, options).programsize
    except re2.error as error:
        said = error.args[0] if error.args else "cannot be read"
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise ValueError(f"is not a regular expression in RE2 syntax: {text}") from None
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode text") from None
    if size > REGEX_SIZE_LIMIT:
        raise ValueError(
            f"is a regular expression of {size} instructions, more than the {REGEX_SIZE_LIMIT} allowed"
        )
    return value


#: Instructions of a compiled regex; Istio sets the same limit in Envoy (re2.max_program_size.error_level).
REGEX_SIZE_LIMIT = 32768

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "description": "A duration such as 2s, 100ms or 1h30m, at least 1ms."}),
]


def _duration_or_zero(value: Any) -> timedelta:
    return timedelta(0) if value in ("0s", "0ms", timedelta(0)) else parse_duration(value)


DurationOrZero = Annotated[
    timedelta,
    BeforeValidator(_duration_or_zero),
    PlainSerializer(format_duration),
    WithJsonSchema({"type": "string", "description": "A duration such as 2s, 100ms or 1h30m, or 0s."}),
]
Int = Annotated[int, Strict()]
Natural = Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)]
UInt32 = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]
Bool = Annotated[bool, Strict()]
PortNumber = Annotated[int, Strict(), Field(ge=1, le=65535)]
PercentValue = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
PercentInt = Annotated[int, Strict(), Field(ge=0, le=100)]
HttpStatus = Annotated[int, Strict(), Field(ge=200, le=599)]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Regex = Annotated[str, StringConstraints(min_length=1)]

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL, re.IGNORECASE)
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_LABEL_KEY = re.compile(rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def host_problem(host: str, *, wildcard: bool = True) -> str | None:
    """Why `host` is no DNS name (a leading `*` label allowed if `wildcard`), or None. RFC 1123 section 2.1."""
    if not host:
        return "must not be empty"
    if len(host) > 255:
        return f"must be at most 255 characters, not {len(host)}"
    name = host
    if wildcard and name == "*":
        return None
    if wildcard and name.startswith("*"):
        name = name[1:].lstrip("-").removeprefix(".")
    for label in name.removesuffix(".").split("."):
        if len(label) > 63 or not _DNS_LABEL.fullmatch(label):
            return f"{host!r} is not a host name (the part {label!r} is wrong)"
    return None


def header_problem(name: str) -> str | None:
    """Why `name` cannot be the name of an HTTP header field, or None. RFC 9110 section 5.1."""
    if not name:
        return "has an empty header name"
    if not _HEADER_NAME.fullmatch(name):
        return f"{name!r} is not the name of an HTTP header"
    return None


def header_value_problem(value: str) -> str | None:
    """Why this cannot be the value of a header that the proxy writes, or None.

    In Envoy `%` begins a variable such as %REQ(NAME)%, and %% is a percent sign.
    """
    if "%" in value.replace("%%", ""):
        return "has a % that begins a variable, which is not supported yet; write %% for a percent sign"
    return line_problem(value)


def line_problem(value: str) -> str | None:
    """Why this text cannot stand in the head of an HTTP message, or None. RFC 9110 section 5.5."""
    return "cannot hold a line break" if any(character in value for character in "\r\n\0") else None


def labels_problem(labels: dict[str, str]) -> str | None:
    """Why this cannot be a set of Kubernetes labels, or None."""
    for key, value in labels.items():
        prefix, _, name = key.rpartition("/")
        if len(name) > 63 or len(prefix) > 253 or not _LABEL_KEY.fullmatch(key):
            return f"{key!r} is not a label name"
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            return f"{value!r} is not a label value"
    return None


def is_dns_label(name: str) -> bool:
    """A lower-case RFC 1123 label of at most 63 characters (subset, namespace and port names)."""
    return len(name) <= 63 and re.fullmatch(_LABEL, name) is not None


def is_dns_subdomain(name: str) -> bool:
    """A Kubernetes object name: lower-case labels joined by dots, at most 253 characters."""
    return len(name) <= 253 and _SUBDOMAIN.fullmatch(name) is not None
