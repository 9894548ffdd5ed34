"""The filters of a request, one small class each, called in the order configuration names them.

The contract: a filter has steps. Each is called with the exchange and returns

* `None`: the request goes on,
* a `LocalReply`: it is answered here and goes no further,
* a `Wait`: it goes on, with the next step, after some seconds.

A filter never blocks and keeps nothing of a request in itself; what its configuration says for one route it
finds in `exchange.route.filter_config` under its own name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.proxy.reply import LocalReply

if TYPE_CHECKING:
    from mesh.proxy.exchange import Exchange


class Wait:
    """Go on after `seconds`; `flag` is noted as the response flag that tells why."""

    __slots__ = ("flag", "seconds")

    def __init__(self, seconds: float, flag: str = "") -> None:
        self.seconds = seconds
        self.flag = flag


Verdict = LocalReply | Wait | None
Step = Callable[["Exchange"], Verdict]


class Filter:
    """Base of all HTTP filters. `name` is the name under which routes override its configuration."""

    __slots__ = ("name",)

    before_route = False
    """True for filters that only complete the request's headers: those that stand first run before the route is
    chosen, so that routes see what they found. They let every request pass. (An Envoy that shall route by what its
    own geoip filter found has to be told to choose the route anew after it.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is called for each request, in order."""
        return (self.on_request,)

    def on_request(self, exchange: Exchange) -> Verdict:
        """Decide about one request."""
        return None
