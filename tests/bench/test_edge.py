"""What the gateway's knowledge of its clients costs: strip, geography, device and a sticky split, caches warm."""

from __future__ import annotations

import statistics
import time
from types import SimpleNamespace
from typing import Any

from mesh.control.compile.edge import DEVICE, GEOGRAPHY
from mesh.proxy import hashing
from mesh.proxy.actions import Forward, Share
from mesh.proxy.exchange import Exchange
from mesh.proxy.filters.device import DeviceFilter
from mesh.proxy.filters.geo import Geo
from mesh.proxy.filters.strip import Strip
from mesh.proxy.geography import atlas, installed
from mesh.proxy.headers import HeaderEdits
from mesh.shop.population import people

PROMISED_US = 15.0
BROWSER = [
    (b"accept", b"text/html"),
    (b"accept-language", b"es-ES,es;q=0.9"),
    (b"accept-encoding", b"gzip, br"),
    (b"sec-ch-ua-mobile", b"?1"),
    (b"sec-ch-ua-platform", b'"Android"'),
    (b"x-request-id", b"0" * 36),
    (b"x-forwarded-proto", b"http"),
]


def test_geography_device_and_split_cost_little() -> None:
    settings = SimpleNamespace(trusted_hops=1, use_remote_address=True)
    conn: Any = SimpleNamespace(http=SimpleNamespace(settings=settings), remote=("127.0.0.1", 1))
    crowd = people(2000, 1, installed())
    heads = [BROWSER + [(k.encode(), v.encode()) for k, v in person.headers.items()] for person in crowd]
    heads = [[(k, v + b",127.0.0.1" if k == b"x-forwarded-for" else v) for k, v in head] for head in heads]
    strip = Strip("strip", (*GEOGRAPHY, *DEVICE)).on_request
    geo = Geo("geo", atlas(installed()), dict(zip(("country", "region", "city"), GEOGRAPHY, strict=True)))
    device = DeviceFilter("device", dict(zip(("family", "system", "type"), DEVICE, strict=True)))
    shares = [Share("a", 500_000, HeaderEdits()), Share("b", 500_003, HeaderEdits())]
    split = Forward(shares, hash_policies=[hashing.of_cookie(b"user", 3600, b"/")], sticky=True)

    def once() -> float:
        exchanges = [Exchange(conn) for _ in heads]
        for exchange, head in zip(exchanges, heads, strict=True):
            exchange.headers = list(head)
        began = time.process_time()
        for exchange in exchanges:
            strip(exchange)
            geo.on_request(exchange)
            device.on_request(exchange)
            split.choose(split.draw(exchange))
        return (time.process_time() - began) / len(exchanges) * 1e6

    once()
    cost = statistics.median(once() for _ in range(9))
    print(f"{cost:.1f} µs a request")
    assert cost < PROMISED_US
