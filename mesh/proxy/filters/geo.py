"""Where the client is, as headers that routes can match (Envoy's `envoy.filters.http.geoip`).

Runs before the route is chosen. The client is the trusted client address (`Exchange.client_address`): the connection's,
or with `xff_num_trusted_hops` the one that the outermost proxy we trust wrote into X-Forwarded-For. A filter before
this one (`strip`) removes what the client itself sent under these names, for where nothing is found nothing is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh.proxy.filters import Filter, Verdict
from mesh.proxy.geography import Atlas

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

REMEMBERED = 16_384
"""Addresses whose place is remembered: about 4 MB, however many come."""


class Geo(Filter):
    """`names` are the headers to set, by what they tell: `country`, `region`, `city`."""

    __slots__ = ("_atlas", "_fields", "_names")
    before_route = True

    def __init__(self, name: str, atlas: Atlas, names: Mapping[str, str]) -> None:
        super().__init__(name)
        self._atlas = atlas
        self._names = tuple((what, header.lower().encode()) for what, header in names.items() if header)
        self._fields = lru_cache(maxsize=REMEMBERED)(self._look_up)

    def on_request(self, exchange: Exchange) -> Verdict:
        exchange.headers += self._fields(exchange.client_address)
        return None

    def _look_up(self, address: str) -> tuple[tuple[bytes, bytes], ...]:
        place = self._atlas.place(address)
        if place is None:
            return ()
        found = ((header, getattr(place, what).encode()) for what, header in self._names)
        return tuple((header, value) for header, value in found if value)
