"""Gives every connected proxy its share of each new world, and knows who has what.

After `debounce`: for each connection, `compile`, `snapshot`, `stream`. A proxy whose configuration cannot
be made keeps the last good one, and so does nobody else suffer from it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.control.compile import compile
from mesh.control.snapshot import ORDER, SHORT, Packer, Snapshot, build
from mesh.control.stream import Refusal, Request, Response, Stream
from mesh.control.world import Proxy, World

log = logging.getLogger(__name__)

BREATH = 0.005
"""Seconds of compiling after which other work of the event loop gets its turn."""


@dataclass(eq=False)
class Connection:
    """One proxy's stream, and what we know of it."""

    proxy: Proxy
    send: Callable[[Response], None]
    stream: Stream = field(default_factory=Stream)
    connected: float = field(default_factory=time.time)
    world: World | None = None
    """The world of the snapshot the proxy is being given."""
    accepted: World | None = None
    """The newest world of which the proxy has accepted everything."""
    problem: str = ""
    """Why no configuration could be made for it; "" when one could."""

    @property
    def name(self) -> str:
        """POD.NAMESPACE, as `mesh proxy-status` shows it."""
        return f"{self.proxy.pod_name}.{self.proxy.namespace}"

    @property
    def refusals(self) -> dict[str, Refusal]:
        """What the proxy refuses at the moment, by type (CDS, EDS, ...)."""
        found = ((SHORT.get(url, url), state.refusal) for url, state in self.stream.types.items())
        return {name: refusal for name, refusal in found if refusal is not None}

    @property
    def is_current(self) -> bool:
        """True when it has asked for something and has accepted everything of its snapshot."""
        types = self.stream.types
        return bool(types) and not self.problem and all(self.stream.is_current(url) for url in ORDER)

    def offer(self, snapshot: Snapshot, world: World) -> int:
        """A new snapshot; the number of responses that go out at once."""
        self.world = world
        return self._deliver(self.stream.on_snapshot(snapshot))

    def hear(self, request: Request) -> int:
        """A request of the proxy; the number of responses that go out at once."""
        return self._deliver(self.stream.on_request(request))

    def _deliver(self, responses: list[Response]) -> int:
        for response in responses:
            self.send(response)
        if self.is_current:
            self.accepted = self.world
        return len(responses)


class Publisher:
    """All connections and the world they are to have."""

    def __init__(self, on_progress: Callable[[], None] = lambda: None) -> None:
        self.connections: list[Connection] = []
        self.world: World | None = None
        self.pushes = 0
        self._packer = Packer()
        self._on_progress = on_progress
        self._news = asyncio.Event()

    def update(self, world: World) -> None:
        """Publish this world; one that is not yet given to everybody is passed over."""
        self.world = world
        self._news.set()

    def connect(self, proxy: Proxy, send: Callable[[Response], None]) -> Connection:
        """A proxy has come; it is given the present world at once."""
        connection = Connection(proxy, send)
        self.connections.append(connection)
        if self.world is not None:
            self._offer(connection, self.world)
        return connection

    def disconnect(self, connection: Connection) -> None:
        """A proxy has gone."""
        self.connections.remove(connection)
        self._on_progress()

    def hear(self, connection: Connection, request: Request) -> None:
        """A request of a proxy. A refusal is logged with what the proxy says."""
        if request.error:
            log.warning("%s refused %s: %s", connection.name, SHORT.get(request.type_url), request.error)
        self.pushes += connection.hear(request)
        self._on_progress()

    async def run(self) -> None:
        """Publish each world to every connection, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._publish()
            self._on_progress()

    async def _publish(self) -> None:
        """One round; a newer world that comes meanwhile takes over for the connections still to do."""
        self._packer.next_generation()
        breath = time.monotonic() + BREATH
        for connection in list(self.connections):
            if self.world is None or connection not in self.connections:
                continue
            if connection.world is not self.world:
                self._offer(connection, self.world)
            if time.monotonic() > breath:
                await asyncio.sleep(0)
                breath = time.monotonic() + BREATH

    def _offer(self, connection: Connection, world: World) -> None:
        try:
            snapshot = build(compile(world, connection.proxy).by_type, self._packer)
        except Exception as error:
            connection.problem = str(error) or repr(error)
            log.exception("no configuration for %s; it keeps the last good one", connection.name)
            return
        connection.problem = ""
        self.pushes += connection.offer(snapshot, world)
