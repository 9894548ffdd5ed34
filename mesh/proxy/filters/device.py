"""What device the client has, as headers that routes can match. Runs before the route is chosen.

Envoy has no such filter; one that is a gateway gets a few lines of Lua instead. Ours is configured by an
`xds.type.v3.TypedStruct`, Envoy's envelope for extensions without a schema of their own, under a type name of ours and
marked `is_optional`: an Envoy that gets it all the same leaves it out and says so in its log. A filter before this one
(`strip`) removes what the client sent under its names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from mesh.proxy.devices import LONGEST, device
from mesh.proxy.filters import Filter, Verdict

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange

REMEMBERED = 2_048
"""Kinds of request whose device is remembered: some 4 MB at worst, and browsers come in fewer kinds."""

_PLATFORM, _MOBILE, _MODEL = b"sec-ch-ua-platform", b"sec-ch-ua-mobile", b"sec-ch-ua-model"


class DeviceFilter(Filter):
    """`names` are the headers to set, by what they tell: `family`, `system`, `type`."""

    __slots__ = ("_fields", "_names")
    before_route = True

    def __init__(self, name: str, names: Mapping[str, str]) -> None:
        super().__init__(name)
        self._names = tuple((what, header.lower().encode()) for what, header in names.items() if header)
        self._fields = lru_cache(maxsize=REMEMBERED)(self._look_up)
        device("")  # compiles the rules, a tenth of a second: not while the first client waits

    def on_request(self, exchange: Exchange) -> Verdict:
        agent = platform = mobile = model = b""
        for key, value in exchange.headers:
            if key == b"user-agent":
                agent = value
            elif key[:7] == b"sec-ch-":
                if key == _PLATFORM:
                    platform = value
                elif key == _MOBILE:
                    mobile = value
                elif key == _MODEL:
                    model = value
        if agent or platform:
            exchange.headers += self._fields(agent[:LONGEST], platform[:128], mobile[:8], model[:128])
        return None

    def _look_up(self, *said: bytes) -> tuple[tuple[bytes, bytes], ...]:
        found = device(*(value.decode("latin-1") for value in said))
        values = ((header, getattr(found, what).encode()) for what, header in self._names)
        return tuple((header, value) for header, value in values if value)
