"""Small builders of the protobuf values that every resource needs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from envoy.config.core.v3 import address_pb2, config_source_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

V3 = config_source_pb2.ApiVersion.V3


def pack(message: Message) -> AnyMessage:
    """The message inside a google.protobuf.Any, the same bytes every time."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def duration(value: timedelta | float) -> Duration:
    """A protobuf Duration from a timedelta or from seconds."""
    result = Duration()
    result.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return result


def uint32(value: int) -> UInt32Value:
    return UInt32Value(value=value)


def boolean(value: bool) -> BoolValue:
    return BoolValue(value=value)


def address(host: str, port: int) -> Any:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=host, port_value=port))


def ads() -> Any:
    """Fetch over the one aggregated stream, and wait for it without limit (Istio does the same)."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        initial_fetch_timeout=duration(0),
        resource_api_version=V3,
    )


def fraction(percent: float) -> Any:
    """A share of requests, exact to a millionth."""
    return percent_pb2.FractionalPercent(
        numerator=round(percent * 10_000), denominator=percent_pb2.FractionalPercent.MILLION
    )


def regex(pattern: str) -> Any:
    return regex_pb2.RegexMatcher(regex=pattern)


def exact(text: str, ignore_case: bool = False) -> Any:
    return string_pb2.StringMatcher(exact=text, ignore_case=ignore_case)


def prefix(text: str, ignore_case: bool = False) -> Any:
    return string_pb2.StringMatcher(prefix=text, ignore_case=ignore_case)


def suffix(text: str, ignore_case: bool = False) -> Any:
    return string_pb2.StringMatcher(suffix=text, ignore_case=ignore_case)


def matching(pattern: str) -> Any:
    return string_pb2.StringMatcher(safe_regex=regex(pattern))
