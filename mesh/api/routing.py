"""Where a request goes and what is done to it on the way: destinations, retries, faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import ClassVar

from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import (
    Bool,
    Duration,
    HttpStatus,
    Natural,
    PercentValue,
    PortNumber,
    host_problem,
    is_dns_label,
)

#: What `retryOn` may list besides status codes (Envoy, x-envoy-retry-on and x-envoy-retry-grpc-on).
RETRY_CONDITIONS = frozenset(
    {
        *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited"),
        *("retriable-4xx", "refused-stream", "retriable-status-codes", "retriable-headers"),
        *("http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal", "resource-exhausted"),
        "unavailable",
    }
)

#: Names of gRPC status codes, in the order of their numbers.
GRPC_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_STATUS_CODES = frozenset(str(int(status)) for status in HTTPStatus)


class PortSelector(Model):
    number: PortNumber


class Destination(Model):
    """A service by host name (short names resolve in the object's own namespace), a subset of it, a port of
    it.
    """

    host: str
    subset: str = ""
    port: PortSelector | None = None

    def check(self) -> Iterator[Problem]:
        if self.host == "*":
            yield Problem("host", "must name one service, not *")
        elif wrong := host_problem(self.host):
            yield Problem("host", wrong)
        if self.subset and not is_dns_label(self.subset):
            yield Problem("subset", f"{self.subset!r} is not the name of a subset")


class Percent(Model):
    """0 to 100; fractions such as 0.1 are exact to 0.0001."""

    value: PercentValue = 0.0


class HTTPRetry(Model):
    """Try again, on another endpoint, what cannot have been processed (or what `retryOn` says)."""

    attempts: Natural = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: Bool | None = None
    retry_ignore_previous_hosts: Bool | None = None
    backoff: Duration | None = None

    def check(self) -> Iterator[Problem]:
        if self.attempts == 0 and (self.per_try_timeout or self.retry_on):
            yield Problem("attempts", "is 0, which turns retries off, so other fields have no effect")
        for condition in self.conditions:
            if not is_status_code(condition) and condition not in RETRY_CONDITIONS:
                yield Problem("retryOn", f"{condition!r} is no status code and no condition of Envoy's")

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.retry_on.split(",")) if self.retry_on else ()


def is_status_code(text: str) -> bool:
    return text in _STATUS_CODES


class Delay(Model):
    unsupported: ClassVar[Mapping[str, str]] = {
        "percent": "Istio deprecates it too: use percentage.value",
        "exponentialDelay": "Istio does not honour it either",
    }
    fixed_delay: Duration
    percentage: Percent | None = None


class Abort(Model):
    unsupported: ClassVar[Mapping[str, str]] = {"http2Error": "Istio does not honour it either"}
    http_status: HttpStatus | None = None
    grpc_status: str | None = None
    percentage: Percent | None = None

    def check(self) -> Iterator[Problem]:
        if (self.http_status is None) == (self.grpc_status is None):
            yield Problem("", "needs either httpStatus or grpcStatus")
        if self.grpc_status is not None and self.grpc_status not in GRPC_CODES:
            yield Problem("grpcStatus", f"{self.grpc_status!r} is not a gRPC status such as UNAVAILABLE")


class HTTPFaultInjection(Model):
    delay: Delay | None = None
    abort: Abort | None = None

    def check(self) -> Iterator[Problem]:
        if self.delay is None and self.abort is None:
            yield Problem("", "needs a delay or an abort")
