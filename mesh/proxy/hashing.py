"""The same key to the same endpoint: what of a request is hashed, and the two ways from a hash to an endpoint.

`RingHash` and `Maglev` are Envoy's RING_HASH and MAGLEV: when endpoints come or go, few keys move. The hash of a key
is Envoy's (xxHash64 without seed), so a split by hash sends a user where Envoy would.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil
from random import getrandbits
from typing import TYPE_CHECKING

from xxhash import xxh64_intdigest

from mesh.proxy.match import parameter

if TYPE_CHECKING:
    from mesh.proxy.cluster import Endpoint
    from mesh.proxy.exchange import Exchange

HASH_BITS = 64
_MASK = (1 << HASH_BITS) - 1


def hash_of(data: bytes) -> int:
    """A hash of 64 bits: Envoy's `HashUtil::xxHash64`."""
    return xxh64_intdigest(data)


class HashPolicy:
    """One part of the key (Envoy's `RouteAction.HashPolicy`): gives its bytes, or None if the request has none."""

    __slots__ = ("terminal", "value")

    def __init__(self, value: Callable[[Exchange], bytes | None], terminal: bool = False) -> None:
        self.value = value
        self.terminal = terminal


def key_of(exchange: Exchange, policies: Sequence[HashPolicy]) -> int | None:
    """The hash of a request; None if no policy finds anything. Several are combined in order, as Envoy does."""
    found: int | None = None
    for policy in policies:
        value = policy.value(exchange)
        if value is not None:
            before = 0 if found is None else ((found << 1) | (found >> (HASH_BITS - 1))) & _MASK
            found = before ^ hash_of(value)
        if policy.terminal and found is not None:
            break
    return found


def of_header(name: bytes) -> HashPolicy:
    return HashPolicy(lambda exchange: exchange.header(name))


def of_source() -> HashPolicy:
    return HashPolicy(lambda exchange: exchange.client_address.encode())


def of_parameter(name: bytes) -> HashPolicy:
    return HashPolicy(lambda exchange: parameter(exchange.target, name))


def of_cookie(name: bytes, ttl: int | None, path: bytes, attributes: Sequence[bytes] = ()) -> HashPolicy:
    """A cookie. With a `ttl` (seconds, 0: until the browser closes) a client without it is given one, with
    further `attributes` such as `SameSite=Strict`.
    """

    def value(exchange: Exchange) -> bytes | None:
        found = cookie(exchange, name)
        if found is None and ttl is not None:
            found = secrets.token_hex(8).encode()
            parts = [b'%b="%b"' % (name, found)]
            parts += [b"Max-Age=%d" % ttl] if ttl else []
            parts += [b"Path=" + path] if path else []
            line = (b"set-cookie", b"; ".join([*parts, *attributes, b"HttpOnly"]))
            exchange.on_answer = [*(exchange.on_answer or []), line]
            # Whoever looks next, here or deeper in the mesh, sees the user that the browser will be from now on.
            exchange.headers.append((b"cookie", name + b"=" + found))
        return found

    return HashPolicy(value)


def cookie(exchange: Exchange, name: bytes) -> bytes | None:
    """The value of a cookie (RFC 6265, section 4.2)."""
    for part in (exchange.header(b"cookie") or b"").replace(b",", b";").split(b";"):
        key, equals, value = part.strip().partition(b"=")
        if equals and key == name:
            return value.strip(b'"') or None
    return None


class _Hashed:
    """A balancer that picks by the hash of the request, at random for one without."""

    __slots__ = ()

    def __call__(self, exchange: Exchange | None = None) -> Endpoint:
        key = None
        if exchange is not None and exchange.route is not None:
            key = key_of(exchange, exchange.route.action.hash_policies)
        return self.at(getrandbits(HASH_BITS) if key is None else key)

    def at(self, key: int) -> Endpoint:
        """The endpoint for a hash."""
        raise NotImplementedError


class RingHash(_Hashed):
    """Each endpoint stands at many places of a ring; a key belongs to the next one after it."""

    __slots__ = ("_endpoints", "_places")

    def __init__(self, endpoints: Sequence[Endpoint], minimum: int = 1024) -> None:
        total = sum(endpoint.weight for endpoint in endpoints)
        ring: list[tuple[int, Endpoint]] = []
        for endpoint in endpoints:
            name = "{}:{}".format(*endpoint.address)
            for number in range(max(ceil(minimum * endpoint.weight / total), 1)):
                ring.append((hash_of(f"{name}_{number}".encode()), endpoint))
        ring.sort(key=lambda place: place[0])
        self._places = [place for place, _ in ring]
        self._endpoints = [endpoint for _, endpoint in ring]

    def at(self, key: int) -> Endpoint:
        return self._endpoints[bisect_left(self._places, key) % len(self._endpoints)]


class Maglev(_Hashed):
    """A table in which the endpoints take turns to claim places in an order of their own (Eisenbud and others,
    "Maglev", NSDI 2016, section 3.4).
    """

    __slots__ = ("_table",)

    def __init__(self, endpoints: Sequence[Endpoint], size: int = 65537) -> None:
        heaviest = max(endpoint.weight for endpoint in endpoints)
        names = ["{}:{}".format(*endpoint.address).encode() for endpoint in endpoints]
        at = [hash_of(name) % size for name in names]
        skip = [hash_of(name + b"#") % (size - 1) + 1 for name in names]
        claims = [0.0] * len(endpoints)
        table: list[Endpoint | None] = [None] * size
        left = size
        while left:
            for number, endpoint in enumerate(endpoints):
                claims[number] += endpoint.weight / heaviest
                if claims[number] < 1.0:
                    continue
                claims[number] -= 1.0
                place = at[number]
                while table[place] is not None:
                    place = (place + skip[number]) % size
                table[place] = endpoint
                at[number] = (place + skip[number]) % size
                left -= 1
                if not left:
                    break
        self._table = [endpoint for endpoint in table if endpoint is not None]

    def at(self, key: int) -> Endpoint:
        return self._table[key % len(self._table)]
