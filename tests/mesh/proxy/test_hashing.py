"""Consistent hashing: even by weight, steady when endpoints come and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mesh.proxy.hashing import Maglev, RingHash, cookie, hash_of, key_of, of_header, of_parameter
from tests.support import xds
from tests.support.proxies import Lab


def endpoints(count: int, weights: tuple[int, ...] = ()) -> list[Any]:
    return [
        SimpleNamespace(address=(f"10.0.0.{n}", 80), weight=weights[n] if weights else 1)
        for n in range(count)
    ]


KEYS = [hash_of(str(number).encode()) for number in range(4000)]
BOTH = [lambda e: RingHash(e, 1024), lambda e: Maglev(e, 2039)]


@pytest.mark.parametrize("make", BOTH)
def test_keys_spread_by_weight(make: Any) -> None:
    places = endpoints(3, (1, 1, 2))
    balancer = make(places)
    seen = [sum(balancer.at(key) is place for key in KEYS) / len(KEYS) for place in places]
    assert seen == pytest.approx([0.25, 0.25, 0.5], abs=0.06)


@pytest.mark.parametrize("make", BOTH)
def test_few_keys_move_when_an_endpoint_goes(make: Any) -> None:
    places = endpoints(10)
    before, after = make(places), make(places[1:])
    stayed = sum(before.at(key) is after.at(key) for key in KEYS if before.at(key) is not places[0])
    left = sum(before.at(key) is not places[0] for key in KEYS)
    assert stayed / left > 0.8


def test_policies_combine_and_a_terminal_one_ends() -> None:
    def request(**headers: str) -> Any:
        return SimpleNamespace(
            header=lambda name: headers.get(name.decode(), "").encode() or None, target=b"/?q=1"
        )

    both = [of_header(b"a"), of_header(b"b")]
    assert key_of(request(a="1", b="2"), both) != key_of(request(a="1", b="3"), both)
    both[0].terminal = True
    assert key_of(request(a="1", b="2"), both) == key_of(request(a="1", b="3"), both)
    assert key_of(request(b="2"), both) == key_of(request(b="2"), [of_header(b"b")])
    assert key_of(request(), both) is None
    assert key_of(request(), [of_parameter(b"q")]) == hash_of(b"1")


def test_cookies_are_found_among_others() -> None:
    request: Any = SimpleNamespace(header=lambda name: b'a=1; session="x y"; b=2')
    assert cookie(request, b"session") == b"x y"
    assert cookie(request, b"none") is None


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
async def test_a_client_with_a_cookie_stays_with_its_endpoint(lab: Lab, policy: str) -> None:
    await lab.push(
        xds.cluster("one", lb_policy=policy), xds.endpoints("one", lab.one.address, lab.two.address)
    )
    await lab.route(
        xds.rule("one", route={"hash_policy": [{"cookie": {"name": "stay", "ttl": "60s", "path": "/"}}]})
    )
    seen = set()
    for _ in range(8):
        client = await lab.connect()
        first = await client.request()
        given = first.header("set-cookie")
        assert given is not None and given.startswith('stay="') and "Max-Age=60; Path=/; HttpOnly" in given
        names = {first.header("x-upstream")}
        for _ in range(4):
            again = await client.request(headers={"cookie": given.partition(";")[0]})
            assert again.header("set-cookie") is None
            names.add(again.header("x-upstream"))
        assert len(names) == 1
        seen |= names
        client.close()
    assert seen == {"one", "two"}
