"""Translations that several resources share: durations, addresses, string and header matchers, header
changes, TLS contexts.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any as AnyType

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy.type.v3 import percent_pb2

from mesh.proxy import match
from mesh.proxy.config import ConfigError
from mesh.proxy.config.fields import unpack
from mesh.proxy.headers import FormatError, HeaderEdit, HeaderEdits, compile_value
from mesh.proxy.identity import CERTIFICATE, FILES, ROOT, SYSTEM_ROOTS, Secrets
from mesh.proxy.match import HeaderMatch, QueryMatch, StringMatch
from mesh.proxy.tls import DownstreamTls, TlsSpec, UpstreamTls


def seconds(duration: AnyType) -> float:
    """A protobuf Duration in seconds."""
    return float(duration.seconds) + float(duration.nanos) / 1e9


def address(message: AnyType, where: str) -> tuple[str, int]:
    """A socket address. Raises ConfigError for any other kind."""
    kind = message.WhichOneof("address")
    if kind != "socket_address":
        raise ConfigError(f"{where}: only socket_address is supported, not {kind}")
    return (message.socket_address.address, message.socket_address.port_value)


def share(percent: AnyType) -> float:
    """A FractionalPercent as a number in [0, 1]."""
    per = {
        percent_pb2.FractionalPercent.HUNDRED: 100,
        percent_pb2.FractionalPercent.TEN_THOUSAND: 10_000,
        percent_pb2.FractionalPercent.MILLION: 1_000_000,
    }[percent.denominator]
    return min(float(percent.numerator) / per, 1.0)


# -- matchers ---------------------------------------------------------------------------------------------

_STRING_KINDS: dict[str, Callable[[bytes, bool], StringMatch]] = {
    "exact": match.exact,
    "prefix": match.prefix,
    "suffix": match.suffix,
    "contains": match.contains,
}


def string_match(message: AnyType, where: str) -> StringMatch:
    """Envoy's StringMatcher."""
    kind = message.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return regex(message.safe_regex.regex, f"{where}.safe_regex")
    if kind not in _STRING_KINDS:
        raise ConfigError(f"{where}: one of {', '.join(_STRING_KINDS)}, safe_regex is needed")
    return _STRING_KINDS[kind](getattr(message, kind).encode(), message.ignore_case)


def regex(pattern: str, where: str) -> StringMatch:
    """A pattern in RE2's syntax that has to match the whole value."""
    try:
        return match.regex(pattern)
    except match.RegexError as error:
        raise ConfigError(f"{where}: {error}") from error


def header_match(message: AnyType, where: str) -> HeaderMatch:
    """Envoy's HeaderMatcher."""
    kind = message.WhichOneof("header_match_specifier")
    test: StringMatch | None
    invert = message.invert_match
    if kind == "string_match":
        test = string_match(message.string_match, f"{where}.string_match")
    elif kind == "safe_regex_match":
        test = regex(message.safe_regex_match.regex, f"{where}.safe_regex_match")
    elif kind == "range_match":
        test = _number_range(message.range_match.start, message.range_match.end)
    elif kind in ("exact_match", "prefix_match", "suffix_match", "contains_match"):
        test = _STRING_KINDS[kind.removesuffix("_match")](getattr(message, kind).encode(), False)
    else:  # nothing, or present_match
        test = None
        if kind == "present_match" and not message.present_match:
            invert = not invert
    return HeaderMatch(message.name.encode(), test, invert, message.treat_missing_header_as_empty)


def _number_range(start: int, end: int) -> StringMatch:
    def test(value: bytes) -> bool:
        try:
            return start <= int(value) < end
        except ValueError:
            return False

    return test


def query_match(message: AnyType, where: str) -> QueryMatch:
    """Envoy's QueryParameterMatcher."""
    kind = message.WhichOneof("query_parameter_match_specifier")
    test = string_match(message.string_match, f"{where}.string_match") if kind == "string_match" else None
    return QueryMatch(message.name.encode(), test)


# -- headers ----------------------------------------------------------------------------------------------

_APPEND = base_pb2.HeaderValueOption.HeaderAppendAction


def header_edits(levels: Iterable[AnyType], where: str) -> HeaderEdits:
    """The header changes of a route, its virtual host and its table: most specific first, as Envoy applies
    them.
    """
    add: list[HeaderEdit] = []
    remove: list[bytes] = []
    add_answer: list[HeaderEdit] = []
    remove_answer: list[bytes] = []
    for level in levels:
        add += [_header_edit(option, where) for option in level.request_headers_to_add]
        remove += [name.encode() for name in level.request_headers_to_remove]
        add_answer += [_header_edit(option, where) for option in level.response_headers_to_add]
        remove_answer += [name.encode() for name in level.response_headers_to_remove]
    return HeaderEdits(add, remove, add_answer, remove_answer)


def _header_edit(option: AnyType, where: str) -> HeaderEdit:
    try:
        value = compile_value(option.header.value)
    except FormatError as error:
        raise ConfigError(f"{where}: header {option.header.key}: {error}") from error
    return HeaderEdit(option.header.key.encode(), value, _APPEND.Name(option.append_action).lower())


def data_source(message: route_components_pb2.core_dot_v3_dot_base__pb2.DataSource) -> bytes:
    """The bytes of an inline DataSource."""
    kind = message.WhichOneof("specifier")
    return bytes(message.inline_bytes) if kind == "inline_bytes" else str(message.inline_string).encode()


# -- TLS --------------------------------------------------------------------------------------------------

_VERSIONS = {
    common_pb2.TlsParameters.TLS_AUTO: None,
    common_pb2.TlsParameters.TLSv1_0: ssl.TLSVersion.TLSv1_2,
    common_pb2.TlsParameters.TLSv1_1: ssl.TLSVersion.TLSv1_2,
    common_pb2.TlsParameters.TLSv1_2: ssl.TLSVersion.TLSv1_2,
    common_pb2.TlsParameters.TLSv1_3: ssl.TLSVersion.TLSv1_3,
}


def downstream_tls(socket: AnyType, secrets: Secrets, where: str) -> DownstreamTls | None:
    """The TLS of a listener's transport socket; None for a raw one."""
    context = unpack(socket.typed_config, where)
    if isinstance(context, raw_buffer_pb2.RawBuffer):
        return None
    if not isinstance(context, tls_pb2.DownstreamTlsContext):
        raise ConfigError(f"{where}: {socket.name} is not supported")
    spec, names = _common(context.common_tls_context, f"{where}.common_tls_context")
    return DownstreamTls(spec, secrets, context.require_client_certificate.value, names)


def upstream_tls(socket: AnyType, secrets: Secrets, where: str) -> UpstreamTls | None:
    """The TLS of a cluster's transport socket; None for a raw one."""
    if not socket.HasField("typed_config"):
        return None
    context = unpack(socket.typed_config, where)
    if isinstance(context, raw_buffer_pb2.RawBuffer):
        return None
    if not isinstance(context, tls_pb2.UpstreamTlsContext):
        raise ConfigError(f"{where}: {socket.name} is not supported")
    spec, names = _common(context.common_tls_context, f"{where}.common_tls_context")
    return UpstreamTls(spec, secrets, context.sni, names)


def _common(context: AnyType, where: str) -> tuple[TlsSpec, list[StringMatch]]:
    names: list[StringMatch] = []
    root = ""
    kind = context.WhichOneof("validation_context_type")
    if kind == "combined_validation_context":
        combined = context.combined_validation_context
        root = combined.validation_context_sds_secret_config.name
        names = _names(combined.default_validation_context, where)
    elif kind == "validation_context_sds_secret_config":
        root = context.validation_context_sds_secret_config.name
    elif kind == "validation_context":
        names = _names(context.validation_context, where)
    certificates = [secret.name for secret in context.tls_certificate_sds_secret_configs]
    known = {CERTIFICATE, ROOT, SYSTEM_ROOTS, ""}
    if unknown := {n for n in (*certificates, root) if n not in known and not n.startswith(FILES)}:
        names_known = f"{CERTIFICATE}, {ROOT} and {SYSTEM_ROOTS}"
        raise ConfigError(f"{where}: secret {min(unknown)!r} is not supported, only {names_known}")
    params = context.tls_params
    return (
        TlsSpec(
            certificates[0] if certificates else "",
            root,
            [name for name in context.alpn_protocols if name != "h2" and not name.endswith("h2")],
            _VERSIONS[params.tls_minimum_protocol_version] or ssl.TLSVersion.TLSv1_2,
            _VERSIONS[params.tls_maximum_protocol_version] or ssl.TLSVersion.TLSv1_3,
            ":".join(params.cipher_suites),
        ),
        names,
    )


def _names(context: AnyType, where: str) -> list[StringMatch]:
    typed = [san.matcher for san in context.match_typed_subject_alt_names]
    return [string_match(name, f"{where}.names") for name in [*typed, *context.match_subject_alt_names]]
