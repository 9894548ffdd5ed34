"""How to choose among the endpoints of a service. Source: istio.io, Destination Rule, LoadBalancerSettings; Envoy,
"Supported load balancers", "Locality weighted load balancing" and "Priority levels".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, Strict

from mesh.api.model import Model
from mesh.api.problems import Problem
from mesh.api.scalars import Bool, Duration, DurationOrZero, UInt32, header_problem

#: Envoy, MaglevLbConfig.table_size and RingHashLbConfig.minimum_ring_size.
LARGEST_TABLE = 5_000_011
LARGEST_RING = 8_388_608
_TOPOLOGY = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)

RingSize = Annotated[int, Strict(), Field(ge=0, le=LARGEST_RING)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class RingHash(Model):
    """A ring of virtual nodes; the larger, the closer the shares are to the endpoints' weights."""

    minimum_ring_size: RingSize = 0


class Maglev(Model):
    """A table of fixed, prime size: cheaper to look up than a ring, and moves more when endpoints change."""

    table_size: Annotated[int, Strict(), Field(ge=0)] = 0

    def check(self) -> Iterator[Problem]:
        if not _is_prime(self.table_size) or self.table_size >= LARGEST_TABLE:
            yield Problem("tableSize", f"must be a prime number below {LARGEST_TABLE}, not {self.table_size}")


def _is_prime(number: int) -> bool:
    if number >= LARGEST_TABLE:
        return False
    return number > 1 and all(number % factor for factor in range(2, math.isqrt(number) + 1))


class CookieAttribute(Model):
    name: str = Field(min_length=1)
    value: str = ""


class HTTPCookie(Model):
    """Hash by a cookie. With `ttl` the proxy gives a client that has none one of its own (0s: for the session)."""

    name: str = Field(min_length=1)
    path: str = ""
    ttl: DurationOrZero | None = None
    attributes: tuple[CookieAttribute, ...] = ()

    def check(self) -> Iterator[Problem]:
        names = [attribute.name for attribute in self.attributes]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(f"attributes[{index}].name", f"the attribute {name!r} is there twice")


class ConsistentHash(Model):
    """The same key goes to the same endpoint, as long as it is there."""

    http_header_name: str = ""
    http_cookie: HTTPCookie | None = None
    use_source_ip: Bool = False
    http_query_parameter_name: str = ""
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: RingSize = 0

    def check(self) -> Iterator[Problem]:
        keys = {
            "httpHeaderName": self.http_header_name,
            "httpCookie": self.http_cookie,
            "useSourceIp": self.use_source_ip,
            "httpQueryParameterName": self.http_query_parameter_name,
        }
        given = [name for name, value in keys.items() if value]
        if len(given) != 1:
            yield Problem("", f"needs exactly one of {', '.join(keys)}, not {' and '.join(given) or 'none'}")
        if self.http_header_name and (wrong := header_problem(self.http_header_name)):
            yield Problem("httpHeaderName", wrong)
        if self.ring_hash and self.maglev:
            yield Problem("", "cannot have both ringHash and maglev")
        if self.minimum_ring_size and (self.ring_hash or self.maglev):
            yield Problem("minimumRingSize", "cannot stand beside ringHash and maglev")


class Distribute(Model):
    """Of the requests of clients in `from` (region/zone/subzone, `*` at the end), these percentages go there."""

    from_: str = Field(default="", alias="from")
    to: dict[str, UInt32] = Field(default_factory=dict)

    def check(self) -> Iterator[Problem]:
        yield from _locality_problems("from", [self.from_])
        yield from _locality_problems("to", list(self.to))
        for place, weight in self.to.items():
            if not 1 <= weight <= 100:
                yield Problem(f"to[{place}]", f"must be from 1 to 100, not {weight}")
        if sum(self.to.values()) != 100:
            yield Problem("to", f"the weights sum up to {sum(self.to.values())}, not to 100")


class Failover(Model):
    """When the region `from` has too few healthy endpoints, `to` comes before all other regions."""

    from_: str = Field(default="", alias="from")
    to: str = ""

    def check(self) -> Iterator[Problem]:
        for name, region in (("from", self.from_), ("to", self.to)):
            if "/" in region or "*" in region:
                yield Problem(name, f"must be a region without zone and wildcard, not {region!r}")
        if self.from_ == self.to:
            yield Problem("to", "must be another region than `from`")


class LocalityLbSetting(Model):
    """Nearby endpoints first. Failover needs outlierDetection, since something has to say what is unhealthy."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: Bool | None = None

    def check(self) -> Iterator[Problem]:
        if self.distribute and self.failover:
            yield Problem("", "cannot have both distribute and failover")
        yield from _locality_problems("distribute", [each.from_ for each in self.distribute])
        for index, label in enumerate(self.failover_priority):
            if self.failover and label in _TOPOLOGY:
                yield Problem(f"failoverPriority[{index}]", f"{label} cannot stand beside failover")
            if not label.partition("=")[0]:
                yield Problem(f"failoverPriority[{index}]", "must be a label name or NAME=VALUE")


def _locality_problems(path: str, places: list[str]) -> Iterator[Problem]:
    """Places are REGION/ZONE/SUBZONE, of which parts at the end may be left out or be `*`; none covers another."""
    prefixes: list[tuple[str, ...]] = []
    for place in places:
        parts = place.split("/")
        if len(parts) > 3 or not all(parts) or "*" in "".join(parts[:-1]) or place.count("*") > 1:
            yield Problem(path, f"{place!r} is not of the form REGION/ZONE/SUBZONE, with * only at the end")
            continue
        prefix = tuple(parts[:-1] if parts[-1] == "*" else parts)
        for other in prefixes:
            shorter = min(len(prefix), len(other))
            if prefix[:shorter] == other[:shorter]:
                yield Problem(path, f"{place!r} and another one cover the same place")
        prefixes.append(prefix)


class Warmup(Model):
    """A new endpoint gets its full share only after `duration`; until then a growing one."""

    duration: Duration
    minimum_percent: Share | None = None
    aggression: Positive | None = None


class LoadBalancerSettings(Model):
    """How to choose among endpoints. LEAST_REQUEST is what Istio does when nothing is said."""

    unsupported: ClassVar[Mapping[str, str]] = {
        "zoneAwareLbSetting": "it needs every sidecar to know its own cluster; use localityLbSetting",
    }
    simple: Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] = (
        "UNSPECIFIED"
    )
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: Warmup | None = None

    def check(self) -> Iterator[Problem]:
        if self.consistent_hash and "simple" in self.model_fields_set:
            yield Problem("", "cannot have both simple and consistentHash")
        warm = [n for n in ("warmup", "warmup_duration_secs") if getattr(self, n) is not None]
        if len(warm) == 2:
            yield Problem("warmupDurationSecs", "cannot stand beside warmup")
        if warm and (self.consistent_hash or self.simple in ("RANDOM", "PASSTHROUGH")):
            alias = {"warmup": "warmup", "warmup_duration_secs": "warmupDurationSecs"}[warm[0]]
            yield Problem(alias, "works with LEAST_REQUEST and ROUND_ROBIN only")
