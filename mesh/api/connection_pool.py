"""Limits of connections towards a service, and when to put a failing endpoint aside. Source: istio.io, Destination
Rule, ConnectionPoolSettings and OutlierDetection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, Duration, DurationOrZero, HttpStatus, Natural, PercentInt, UInt32


class TcpKeepalive(Model):
    """Probes on an idle connection: how many, after which silence, how far apart."""

    probes: UInt32 | None = None
    time: Duration | None = None
    interval: Duration | None = None

    def check(self) -> Iterator[Problem]:
        for name in ("time", "interval"):
            value = getattr(self, name)
            if value is not None and value.total_seconds() < 1:
                yield Problem(name, "must be at least 1s, the shortest that TCP knows")


class TCPSettings(Model):
    max_connections: Natural | None = None
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: DurationOrZero | None = None


class Http2KeepAlive(Model):
    """Pings on HTTP/2 connections: how often, and how long to wait for the answer."""

    interval: Duration
    timeout: Duration


class HTTPSettings(Model):
    http1_max_pending_requests: Natural | None = None
    http2_max_requests: Natural | None = None
    max_requests_per_connection: Natural | None = None
    max_retries: Natural | None = None
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: Bool = False
    max_concurrent_streams: Natural | None = None
    http2_keep_alive: Http2KeepAlive | None = None

    def check(self) -> Iterator[Problem]:
        if self.use_client_protocol and self.h2_upgrade_policy == "UPGRADE":
            yield Problem("useClientProtocol", "cannot be true when h2UpgradePolicy is UPGRADE")


class ConnectionPoolSettings(Model):
    """Limits towards one service, for each client proxy; what is beyond is refused at once with 503 (flag
    UO).
    """

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None

    def check(self) -> Iterator[Problem]:
        if self.tcp is None and self.http is None:
            yield Problem("", "needs tcp or http")


class OutlierDetection(Model):
    """When to put an endpoint aside because it keeps failing, and for how long."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "consecutiveErrors": "Istio deprecates it too: use consecutive5xxErrors",
    }
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = Field(default=None, alias="consecutive5xxErrors")
    split_external_local_origin_errors: Bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: PercentInt | None = None
    min_health_percent: PercentInt | None = None
    outlier_detection_http_error_codes: tuple[HttpStatus, ...] = ()

    def check(self) -> Iterator[Problem]:
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            said = "counts only when splitExternalLocalOriginErrors is true"
            yield Problem("consecutiveLocalOriginFailures", said)


class RetryBudget(Model):
    """How many retries may be under way at once, as a percentage of the requests under way."""

    unsupported: ClassVar[Mapping[str, str]] = {"budgetInterval": "Envoy takes it only since later than ours"}

    percent: float = Field(default=20.0, strict=True, ge=0, le=100, allow_inf_nan=False)
    min_retry_concurrency: UInt32 = 3
