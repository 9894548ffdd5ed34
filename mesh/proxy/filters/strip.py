"""Removes headers that nobody on the other side may set (Envoy's `envoy.filters.http.header_mutation`).

The control plane puts it first at the gateway, and first where a sidecar takes plaintext: who cannot prove who they
are cannot claim where they are either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mesh.proxy.filters import Filter, Verdict

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange


class Strip(Filter):
    """`names`: the request headers to remove, whatever their case."""

    __slots__ = ("_names",)
    before_route = True

    def __init__(self, name: str, names: Iterable[str]) -> None:
        super().__init__(name)
        self._names = frozenset(header.lower().encode() for header in names)

    def on_request(self, exchange: Exchange) -> Verdict:
        names = self._names
        for pair in exchange.headers:  # most requests have none of them, and need no new list
            if pair[0] in names:
                exchange.headers = [kept for kept in exchange.headers if kept[0] not in names]
                break
        return None
