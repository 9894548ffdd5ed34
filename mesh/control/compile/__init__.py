"""From the world to Envoy: pure functions that say which xDS resources one proxy gets.

    compile(world, proxy) -> Resources

Nothing here does I/O. The same service gives the same message object to every proxy that may see it
(`World.memo`), also in the next world if nothing it depends on changed; so a publisher can tell by identity
what to send again.
"""

from mesh.control.compile.resources import (
    ALL_TYPES,
    CLUSTER,
    ENDPOINT,
    LISTENER,
    ROUTE,
    Resources,
    compile,
)

__all__ = ["ALL_TYPES", "CLUSTER", "ENDPOINT", "LISTENER", "ROUTE", "Resources", "compile"]
