"""How a cluster spreads requests: its balancer with its settings, slow start, outlier detection, retry budget."""

from __future__ import annotations

from typing import Any as AnyType

from envoy.config.cluster.v3 import cluster_pb2

from mesh.proxy.balancer import POLICIES, LeastRequest
from mesh.proxy.config import ConfigError, values
from mesh.proxy.hashing import Maglev, RingHash
from mesh.proxy.outlier import OutlierSpec
from mesh.proxy.selection import Make, SlowStart

MAX_RING = 8 * 1024 * 1024
"""Places of a ring at most (Envoy's bound of `minimum_ring_size`)."""


def balancer(message: AnyType, kind: str) -> tuple[str, Make]:
    """The policy's name and what makes its balancer. Raises ConfigError."""
    policy = cluster_pb2.Cluster.LbPolicy.Name(message.lb_policy)
    if kind == "ORIGINAL_DST":
        return "ROUND_ROBIN", POLICIES["ROUND_ROBIN"]
    if policy not in POLICIES:
        raise ConfigError(f"lb_policy: {policy} is not supported")
    if policy == "RING_HASH":
        size = message.ring_hash_lb_config.minimum_ring_size.value or 1024
        if size > MAX_RING:
            raise ConfigError(f"ring_hash_lb_config.minimum_ring_size: {size} is more than {MAX_RING}")
        return policy, lambda endpoints: RingHash(endpoints, size)
    if policy == "MAGLEV":
        table = message.maglev_lb_config.table_size.value or 65537
        return policy, lambda endpoints: Maglev(endpoints, table)
    if policy == "LEAST_REQUEST":
        choices = message.least_request_lb_config.choice_count.value or 2
        return policy, lambda endpoints: LeastRequest(endpoints, choices)
    return policy, POLICIES[policy]


def slow_start(message: AnyType) -> SlowStart | None:
    """The slow start of round robin or least request, if one is configured."""
    for config in (message.round_robin_lb_config, message.least_request_lb_config):
        if config.HasField("slow_start_config"):
            found = config.slow_start_config
            aggression = found.aggression.default_value if found.HasField("aggression") else 1.0
            least = found.min_weight_percent.value if found.HasField("min_weight_percent") else 10.0
            return SlowStart(values.seconds(found.slow_start_window), aggression or 1.0, least / 100.0)
    return None


def retry_budget(message: AnyType) -> tuple[float, int] | None:
    """(share of what is under way, number always allowed), if a budget replaces the limit of retries."""
    for thresholds in message.circuit_breakers.thresholds:
        if thresholds.priority == 0 and thresholds.HasField("retry_budget"):
            budget = thresholds.retry_budget
            percent = budget.budget_percent.value if budget.HasField("budget_percent") else 20.0
            least = budget.min_retry_concurrency.value if budget.HasField("min_retry_concurrency") else 3
            return percent / 100.0, least
    return None


def outliers(message: AnyType, http_options: AnyType) -> OutlierSpec | None:
    """Outlier detection, as far as it counts errors in a row."""
    if not message.HasField("outlier_detection"):
        return None
    detection = message.outlier_detection
    gateway = _limit(detection, "consecutive_gateway_failure", 5)
    if not detection.enforcing_consecutive_gateway_failure.value:
        gateway = 0
    errors = _limit(detection, "consecutive_5xx", 5)
    if detection.HasField("enforcing_consecutive_5xx") and not detection.enforcing_consecutive_5xx.value:
        errors = 0
    local = _limit(detection, "consecutive_local_origin_failure", 5)
    if (
        detection.HasField("enforcing_consecutive_local_origin_failure")
        and not detection.enforcing_consecutive_local_origin_failure.value
    ):
        local = 0
    return OutlierSpec(
        errors,
        gateway,
        values.seconds(detection.base_ejection_time) or 30.0,
        _limit(detection, "max_ejection_percent", 10),
        split_local=detection.split_external_local_origin_errors,
        consecutive_local=local,
        error_statuses=_error_statuses(http_options),
    )


def _limit(message: AnyType, field: str, default: int) -> int:
    return int(getattr(message, field).value) if message.HasField(field) else default


def _error_statuses(options: AnyType) -> frozenset[int] | None:
    """Which statuses count as errors (`outlier_detection.error_matcher`): an exact one, or several by `or`."""
    if options is None or not options.HasField("outlier_detection"):
        return None
    where = "outlier_detection.error_matcher"
    matcher = options.outlier_detection.error_matcher
    rules = matcher.or_match.rules if matcher.WhichOneof("rule") == "or_match" else [matcher]
    found = set()
    for rule in rules:
        headers = rule.http_response_headers_match.headers
        if len(headers) != 1 or headers[0].name != ":status" or not headers[0].string_match.exact.isdigit():
            raise ConfigError(f"{where}: only exact values of :status are supported, joined by or_match")
        found.add(int(headers[0].string_match.exact))
    return frozenset(found)
